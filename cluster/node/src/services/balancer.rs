//! Services of type LoadBalancer: their ports on 127.0.0.1, or other free ones that are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, ObjectReference, PortStatus, Service};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::plan::{Route, cluster_ip, key, tcp_ports};
use super::proxy::Proxy;
use crate::context::NodeContext;

/// Annotation that lists ports served elsewhere: `8080=43211,…`.
pub(crate) const PORTS_ANNOTATION: &str = "quarterdeck.dev/load-balancer-ports";

/// The load balancers of this node by Service and port.
pub(super) struct Balancers {
    context: Arc<NodeContext>,
    proxies: BTreeMap<(String, u16), Proxy>,
}

impl Balancers {
    pub(super) fn new(context: Arc<NodeContext>) -> Self {
        Self {
            context,
            proxies: BTreeMap::new(),
        }
    }

    pub(super) async fn update(
        &mut self,
        services: &[Arc<Service>],
        routes: &BTreeMap<SocketAddr, Route>,
    ) {
        let mut wanted = BTreeSet::new();
        for service in services.iter().filter(|service| is_balancer(service)) {
            let Some(ip) = cluster_ip(service) else {
                continue;
            };
            for port in tcp_ports(service).filter_map(|port| u16::try_from(port.port).ok()) {
                wanted.insert((key(service), port));
                let backends = routes
                    .get(&SocketAddr::new(ip, port))
                    .map(|route| route.backends.clone());
                self.serve(service, port, backends.unwrap_or_default())
                    .await;
            }
        }
        self.proxies.retain(|place, _| wanted.contains(place));
        for service in services.iter().filter(|service| is_balancer(service)) {
            if let Err(error) = self.tell(service).await {
                tracing::warn!(service = %key(service), %error, "load balancer status not written");
            }
        }
    }

    async fn serve(&mut self, service: &Service, port: u16, backends: Vec<SocketAddr>) {
        let place = (key(service), port);
        if let Some(proxy) = self.proxies.get(&place) {
            proxy.set_backends(backends);
            return;
        }
        let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let before = service
            .annotations()
            .get(PORTS_ANNOTATION)
            .and_then(|text| parse(text).remove(&port));
        let mut last = None;
        for candidate in [Some(port), before, Some(0)].into_iter().flatten() {
            match Proxy::start(&self.context, local(candidate), backends.clone()).await {
                Ok(proxy) => {
                    let served = proxy.address().port();
                    if let Some(error) = last.filter(|_| Some(served) != before) {
                        let message = format!(
                            "127.0.0.1:{port} cannot be used ({error}); served on 127.0.0.1:{served} instead"
                        );
                        self.context
                            .events
                            .warning(reference(service), "PortTaken", message);
                    }
                    self.proxies.insert(place, proxy);
                    return;
                }
                Err(error) => last = Some(error),
            }
        }
    }

    async fn tell(&self, service: &Service) -> Result<(), kube::Error> {
        let name = key(service);
        let served: Vec<(u16, u16)> = self
            .proxies
            .iter()
            .filter(|((owner, _), _)| *owner == name)
            .map(|((_, port), proxy)| (*port, proxy.address().port()))
            .collect();
        let moved: Vec<String> = served
            .iter()
            .filter(|(port, at)| port != at)
            .map(|(port, at)| format!("{port}={at}"))
            .collect();
        let annotation = (!moved.is_empty()).then(|| moved.join(","));
        let services: Api<Service> = Api::namespaced(
            self.context.client.clone(),
            &service.namespace().unwrap_or_default(),
        );
        let parameters = PatchParams::default();
        if service.annotations().get(PORTS_ANNOTATION) != annotation.as_ref() {
            let patch = json!({"metadata": {"annotations": {PORTS_ANNOTATION: annotation}}});
            services
                .patch(&service.name_any(), &parameters, &Patch::Merge(patch))
                .await?;
        }
        let ports = served.iter().map(|(_, at)| PortStatus {
            port: i32::from(*at),
            protocol: "TCP".to_owned(),
            error: None,
        });
        let ingress = vec![LoadBalancerIngress {
            ip: Some(Ipv4Addr::LOCALHOST.to_string()),
            ip_mode: Some("Proxy".to_owned()),
            ports: Some(ports.collect()),
            hostname: None,
        }];
        let status = service
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        if status.and_then(|status| status.ingress.as_ref()) != Some(&ingress) {
            let patch = json!({"status": {"loadBalancer": {"ingress": ingress}}});
            services
                .patch_status(&service.name_any(), &parameters, &Patch::Merge(patch))
                .await?;
        }
        Ok(())
    }
}

fn is_balancer(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    service.metadata.deletion_timestamp.is_none()
        && spec.and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
}

fn parse(annotation: &str) -> BTreeMap<u16, u16> {
    let pairs = annotation
        .split(',')
        .filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(port, at)| Some((port.trim().parse().ok()?, at.trim().parse().ok()?)))
        .collect()
}

fn reference(service: &Service) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        uid: service.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
