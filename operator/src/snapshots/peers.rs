//! The gateway's replicas, as they find each other: its ready Pods, and a token that only they get.

use std::{collections::BTreeMap, time::Duration};

use crds::names::COMPONENT_LABEL;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use protocol::{
    key::hex,
    secret::SecretString,
    snapshot::{OnPartition, Peer, Peers},
};
use tokio_util::sync::CancellationToken;

use crate::{caches::Caches, controller::chain, pods};

/// The field of the Secret.
const FIELD: &str = "token";
/// Random bytes of a token.
const ENTROPY_BYTES: usize = 32;
/// The port of gateways that name none.
const PORT: i32 = 8080;
/// The name of the port.
const PORT_NAME: &str = "http";
/// How long to wait before the token is made again after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Where the token lies.
#[derive(Debug, Clone)]
pub(crate) struct TokenPlace {
    /// The namespace of the gateway.
    pub(crate) namespace: String,
    /// The Secret.
    pub(crate) name: String,
}

impl TokenPlace {
    /// The token, if it is made.
    pub(crate) fn find(&self, caches: &Caches) -> Option<String> {
        let mut data = caches.secret_data(&self.namespace, &self.name)?;
        data.remove(FIELD)
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty())
    }

    /// Makes the token if there is none, until that has worked. Of several replicas one is the first.
    pub(crate) async fn make(self, client: Client, shutdown: CancellationToken) {
        let api: Api<Secret> = Api::namespaced(client, &self.namespace);
        loop {
            let token = hex(&rand::random::<[u8; ENTROPY_BYTES]>());
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                string_data: Some(BTreeMap::from([(FIELD.to_owned(), token)])),
                type_: Some("Opaque".to_owned()),
                ..Secret::default()
            };
            match api.create(&PostParams::default(), &secret).await {
                Ok(_) => return tracing::info!(secret = self.name, "token of the gateway made"),
                Err(kube::Error::Api(status)) if status.code == 409 => return,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the gateway's token could not be made");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

/// The replicas that are ready, by name; without a token they do not know of each other.
pub(crate) fn peers<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    token: Option<String>,
) -> Option<Peers> {
    let mut replicas: Vec<Peer> = pods.filter_map(peer).collect();
    replicas.sort_by(|left, right| left.name.cmp(&right.name));
    let token = token.filter(|_| !replicas.is_empty())?;
    Some(Peers {
        token: SecretString::new(token),
        on_partition: OnPartition::default(),
        replicas,
    })
}

fn peer(pod: &Pod) -> Option<Peer> {
    let is_gateway = pod
        .labels()
        .get(COMPONENT_LABEL)
        .is_some_and(|component| component == "gateway");
    if !is_gateway || !pods::is_ready(pod) {
        return None;
    }
    let address = pods::address(pod)?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(PORT_NAME));
    let port = port.map_or(PORT, |port| port.container_port);
    let url = match address.contains(':') {
        true => format!("http://[{address}]:{port}"),
        false => format!("http://{address}:{port}"),
    };
    Some(Peer {
        name: pod.name_any(),
        url,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::peers;

    fn pod(name: &str, component: &str, ready: &str, address: &Value) -> Pod {
        let port = json!({"name": "http", "containerPort": 9000});
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}},
            "spec": {"containers": [{"name": component, "ports": [port]}]},
            "status": {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn replicas_are_the_ready_pods_of_the_gateway_once_there_is_a_token() {
        let pods = [
            pod("g-2", "gateway", "True", &json!("10.0.0.2")),
            pod("g-1", "gateway", "True", &json!("fd00::1")),
            pod("g-3", "gateway", "False", &json!("10.0.0.3")),
            pod("g-4", "gateway", "True", &Value::Null),
            pod("a-1", "agents", "True", &json!("10.0.0.5")),
        ];
        let found = peers(pods.iter(), Some("t".to_owned())).expect("replicas");
        let found: Vec<_> = found
            .replicas
            .iter()
            .map(|peer| (peer.name.as_str(), peer.url.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("g-1", "http://[fd00::1]:9000"),
                ("g-2", "http://10.0.0.2:9000")
            ]
        );
        assert_eq!(peers(pods.iter(), None), None);
        assert_eq!(peers(pods[2..].iter(), Some("t".to_owned())), None);
    }
}
