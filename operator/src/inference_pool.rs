//! InferencePools of the Gateway API Inference Extension: what of them is read, and the addresses of their Pods.
//!
//! They are other people's resources and their definition need not be installed, so that nothing here may ask for more
//! than it reads.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::{CustomResource, ResourceExt};
use protocol::address::is_forbidden_host;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pods;

/// Ports of a Pod that are asked; the definition takes as many.
const PORTS_MAX: usize = 8;
/// The protocol of a pool that names none.
const HTTP: &str = "http";

/// Which Pods belong to the pool, and where they answer.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "inference.networking.k8s.io",
    version = "v1",
    kind = "InferencePool",
    plural = "inferencepools",
    namespaced,
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct InferencePoolSpec {
    selector: Selector,
    target_ports: Vec<TargetPort>,
    app_protocol: Option<String>,
}

/// The labels of the pool's Pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

/// A port at which each of the Pods answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct TargetPort {
    number: i64,
}

/// Why a pool cannot be a backend.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidPool {
    #[error("its spec.selector.matchLabels is empty and selects no Pods")]
    NoSelector,
    #[error("its spec.targetPorts holds no port from 1 to 65535")]
    NoPorts,
    #[error("its spec.appProtocol is `{0}`; the gateway speaks http to Pods")]
    Protocol(String),
}

impl InferencePoolSpec {
    /// Checks that its Pods can be asked.
    ///
    /// # Errors
    /// [`InvalidPool`].
    pub(crate) fn check(&self) -> Result<(), InvalidPool> {
        if self.selector.match_labels.is_empty() {
            return Err(InvalidPool::NoSelector);
        }
        if self.ports().next().is_none() {
            return Err(InvalidPool::NoPorts);
        }
        match self.app_protocol.as_deref() {
            None | Some(HTTP) => Ok(()),
            Some(other) => Err(InvalidPool::Protocol(other.to_owned())),
        }
    }

    /// Base URLs with `/v1`, one for each port of each ready Pod of these, in their order.
    pub(crate) fn endpoints<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) -> Vec<String> {
        let ready = pods.into_iter().filter(|pod| self.selects(pod));
        let ready = ready.filter(|pod| pods::is_ready(pod));
        let addresses = ready.filter_map(|pod| pods::address(pod));
        // One such address would make gateways refuse the whole snapshot.
        let addresses = addresses.filter(|address| !is_forbidden_host(address));
        let urls: BTreeSet<String> = addresses
            .flat_map(|address| self.ports().map(move |port| url(address, port)))
            .collect();
        urls.into_iter().collect()
    }

    fn selects(&self, pod: &Pod) -> bool {
        let wanted = &self.selector.match_labels;
        let labels = pod.labels();
        !wanted.is_empty()
            && wanted
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        let numbers = self.target_ports.iter().take(PORTS_MAX);
        let ports = numbers.filter_map(|port| u16::try_from(port.number).ok());
        ports.filter(|port| *port != 0)
    }
}

fn url(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("http://[{address}]:{port}/v1")
    } else {
        format!("http://{address}:{port}/v1")
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{InferencePool, InvalidPool};

    fn pool(spec: &Value) -> InferencePool {
        serde_json::from_value(json!({
            "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
            "metadata": {"name": "p", "namespace": "n"}, "spec": spec, "status": {"parents": []},
        }))
        .expect("a pool")
    }

    fn pod(app: &str, address: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": address, "namespace": "n", "labels": {"app": app, "more": "x"}},
            "status": {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .expect("a pod")
    }

    #[track_caller]
    fn check(spec: &Value, pods: &[Pod], expected: &[&str]) {
        assert_eq!(pool(spec).spec.endpoints(pods), expected, "{spec}");
    }

    #[test]
    fn each_port_of_each_ready_pod_that_is_selected_is_an_endpoint() {
        let spec = |ports: &[i64]| {
            let ports: Vec<Value> = ports.iter().map(|port| json!({"number": port})).collect();
            json!({"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": ports, "endpointPickerRef": {"name": "epp"}})
        };
        let pods = [
            pod("vllm", "10.0.0.2", "True"),
            pod("vllm", "10.0.0.1", "True"),
            pod("vllm", "10.0.0.3", "False"),
            pod("other", "10.0.0.4", "True"),
            pod("vllm", "169.254.169.254", "True"),
            pod("vllm", "", "True"),
        ];
        let one = ["http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"];
        check(&spec(&[8000]), &pods, &one);
        let two = [
            "http://10.0.0.1:8000/v1",
            "http://10.0.0.1:8001/v1",
            "http://10.0.0.2:8000/v1",
            "http://10.0.0.2:8001/v1",
        ];
        check(&spec(&[8000, 8001]), &pods, &two);
        check(&spec(&[0, -1, 65_536]), &pods, &[]);
        let six = pod("vllm", "fd00::1", "True");
        check(&spec(&[1]), &[six], &["http://[fd00::1]:1/v1"]);
        let many: Vec<i64> = (1..=9).collect();
        let found = pool(&spec(&many)).spec.endpoints(&pods[..1]);
        assert_eq!(found.len(), 8);
        // Nothing selects nothing, not everything.
        check(&json!({"targetPorts": [{"number": 1}]}), &pods, &[]);
    }

    #[test]
    fn a_pool_that_cannot_be_asked_says_why() {
        let check = |extra: Value, expected: Result<(), InvalidPool>| {
            let mut spec = json!({"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": [{"number": 8000}]});
            for (key, value) in extra.as_object().expect("an object") {
                spec[key] = value.clone();
            }
            assert_eq!(pool(&spec).spec.check(), expected, "{spec}");
        };
        check(json!({}), Ok(()));
        check(json!({"appProtocol": "http"}), Ok(()));
        let h2c = "kubernetes.io/h2c";
        check(
            json!({"appProtocol": h2c}),
            Err(InvalidPool::Protocol(h2c.to_owned())),
        );
        check(json!({"selector": {}}), Err(InvalidPool::NoSelector));
        check(json!({"targetPorts": []}), Err(InvalidPool::NoPorts));
        check(
            json!({"targetPorts": [{"number": 0}]}),
            Err(InvalidPool::NoPorts),
        );
    }
}
