//! The cluster as the commands see it: connect, apply, wait, and find the gateway.

use std::path::Path;

use anyhow::{Context, Result};
use kube::{
    Api, Client, Config, ResourceExt,
    config::{KubeConfigOptions, Kubeconfig},
    core::{DynamicObject, GroupVersionKind},
    discovery::{ApiCapabilities, ApiResource, Discovery, Scope},
};

pub(crate) mod apply;
pub(crate) mod key;
pub(crate) mod wait;

/// The namespace of the stack itself.
pub(crate) const SYSTEM_NAMESPACE: &str = "quarterdeck-system";

/// A cluster to talk to.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The Kubernetes client.
    pub(crate) client: Client,
}

impl Cluster {
    /// Connects with a kubeconfig.
    pub(crate) async fn connect(path: &Path) -> Result<Self> {
        let hint = || {
            format!(
                "reading {}\nhint: start the stack with `qd up`, or name a cluster with --kubeconfig",
                path.display()
            )
        };
        let kubeconfig = Kubeconfig::read_from(path).with_context(hint)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("reading the kubeconfig")?;
        Ok(Self {
            client: Client::try_from(config).context("making a client")?,
        })
    }

    /// The API's resources, as they are now.
    pub(crate) async fn discover(&self) -> Result<Discovery> {
        Discovery::new(self.client.clone())
            .run_aggregated()
            .await
            .context("asking the cluster for its resources\nhint: is it running? `qd up` starts the embedded one")
    }

    /// The base URL of a Service of the stack, as seen from this machine.
    pub(crate) async fn service_url(&self, name: &str) -> Result<String> {
        use k8s_openapi::api::core::v1::Service;
        let services: Api<Service> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let service = services
            .get(name)
            .await
            .with_context(|| format!("looking for the Service {name}"))?;
        let balancer = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()?.first());
        let host =
            ingress.and_then(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()));
        let spec = service.spec.as_ref().context("the Service has no spec")?;
        let port = spec
            .ports
            .as_ref()
            .and_then(|ports| ports.first())
            .context("the Service has no port")?
            .port;
        match host {
            Some(host) => Ok(format!("http://{host}:{}", moved_port(&service, port))),
            None => {
                let address = spec
                    .cluster_ip
                    .as_ref()
                    .context("the Service has no address yet")?;
                Ok(format!("http://{address}:{port}"))
            }
        }
    }
}

/// On a Service of the embedded cluster: `PORT=LOCAL,…` for each port that was taken on 127.0.0.1.
const MOVED_PORTS: &str = "quarterdeck.dev/load-balancer-ports";

fn moved_port(service: &impl ResourceExt, port: i32) -> i32 {
    let annotation = service
        .annotations()
        .get(MOVED_PORTS)
        .map_or("", String::as_str);
    let mut pairs = annotation
        .split(',')
        .filter_map(|pair| pair.split_once('='));
    let moved = pairs
        .find(|(from, _)| from.parse() == Ok(port))
        .and_then(|(_, to)| to.parse().ok());
    moved.unwrap_or(port)
}

/// Finds a kind among the API's resources.
pub(crate) fn resolve(
    discovery: &Discovery,
    kind: &GroupVersionKind,
) -> Result<(ApiResource, ApiCapabilities)> {
    discovery.resolve_gvk(kind).with_context(|| {
        format!(
            "the cluster serves no {} of {}/{}",
            kind.kind, kind.group, kind.version
        )
    })
}

/// The API of a kind in a namespace, or of the cluster.
pub(crate) fn dynamic_api(
    client: Client,
    resource: &ApiResource,
    capabilities: &ApiCapabilities,
    namespace: &str,
) -> Api<DynamicObject> {
    match capabilities.scope {
        Scope::Cluster => Api::all_with(client, resource),
        Scope::Namespaced => Api::namespaced_with(client, namespace, resource),
    }
}
