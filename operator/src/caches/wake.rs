//! Who is woken by the change of an object.

use std::sync::Arc;

use crds::{
    Agent, GROUP, Model, Route, Workspace, WorkspaceTemplate,
    names::{COMPONENT_LABEL, MODEL_LABEL, WORKSPACE_LABEL},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{inference_pool::InferencePool, queue::Key};

/// Somebody whom a change concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wake {
    Model(Key),
    Route(Key),
    Agent(Key),
    Workspace(Key),
    Template(Key),
    /// All Models of a namespace.
    ModelsOf(String),
    RoutesOf(String),
    AgentsOf(String),
    WorkspacesOf(String),
    TemplatesOf(String),
    AllRoutes,
    AllAgents,
    /// Whose Pods are followed for InferencePools.
    Pools,
    /// The snapshots of the data planes.
    Snapshots,
}

/// Where wakes go.
///
/// The channel has no bound of its own: the receiver does nothing but add names to sets, so it is never behind.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    sender: UnboundedSender<Wake>,
}

impl Signals {
    pub(crate) fn new() -> (Self, UnboundedReceiver<Wake>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender }, receiver)
    }

    pub(crate) fn send(&self, wakes: Vec<Wake>) {
        for wake in wakes {
            // After shutdown nobody is left to wake.
            let _ = self.sender.send(wake);
        }
    }
}

/// A kind whose changes concern others.
pub(crate) trait Wakes {
    /// Whom.
    fn wakes(&self) -> Vec<Wake>;
}

impl Wakes for Model {
    fn wakes(&self) -> Vec<Wake> {
        let key = Key::of(self);
        vec![
            Wake::RoutesOf(key.namespace.clone()),
            Wake::Model(key),
            Wake::Snapshots,
        ]
    }
}

impl Wakes for Route {
    fn wakes(&self) -> Vec<Wake> {
        let key = Key::of(self);
        vec![
            Wake::AllAgents,
            Wake::Route(key),
            Wake::Pools,
            Wake::Snapshots,
        ]
    }
}

impl Wakes for InferencePool {
    fn wakes(&self) -> Vec<Wake> {
        let namespace = self.namespace().unwrap_or_default();
        vec![Wake::RoutesOf(namespace), Wake::Pools, Wake::Snapshots]
    }
}

impl Wakes for Agent {
    fn wakes(&self) -> Vec<Wake> {
        vec![Wake::Agent(Key::of(self)), Wake::Snapshots]
    }
}

impl Wakes for Workspace {
    fn wakes(&self) -> Vec<Wake> {
        let key = Key::of(self);
        let namespace = key.namespace.clone();
        vec![
            Wake::Workspace(key),
            Wake::TemplatesOf(namespace.clone()),
            Wake::AgentsOf(namespace),
            Wake::Snapshots,
        ]
    }
}

impl Wakes for WorkspaceTemplate {
    fn wakes(&self) -> Vec<Wake> {
        let key = Key::of(self);
        vec![
            Wake::WorkspacesOf(key.namespace.clone()),
            Wake::Template(key),
        ]
    }
}

impl Wakes for Deployment {
    fn wakes(&self) -> Vec<Wake> {
        owner(self).into_iter().collect()
    }
}

impl Wakes for Service {
    fn wakes(&self) -> Vec<Wake> {
        owner(self).into_iter().collect()
    }
}

impl Wakes for PersistentVolumeClaim {
    fn wakes(&self) -> Vec<Wake> {
        owner(self).into_iter().collect()
    }
}

impl Wakes for NetworkPolicy {
    fn wakes(&self) -> Vec<Wake> {
        owner(self).into_iter().collect()
    }
}

impl Wakes for Pod {
    fn wakes(&self) -> Vec<Wake> {
        let namespace = self.namespace().unwrap_or_default();
        let mut wakes = Vec::new();
        if let Some(model) = self.labels().get(MODEL_LABEL) {
            wakes.push(Wake::Model(Key::new(&namespace, model)));
        }
        if let Some(workspace) = self.labels().get(WORKSPACE_LABEL) {
            wakes.push(Wake::Workspace(Key::new(&namespace, workspace)));
            wakes.push(Wake::AgentsOf(namespace));
            wakes.push(Wake::Snapshots);
        }
        wakes
    }
}

impl Wakes for Secret {
    fn wakes(&self) -> Vec<Wake> {
        if self.data.is_none() && self.metadata.deletion_timestamp.is_none() {
            // Nothing that we read; Secrets of other types are pruned to this.
            return owner(self).into_iter().collect();
        }
        let namespace = self.namespace().unwrap_or_default();
        let mut wakes: Vec<Wake> = owner(self).into_iter().collect();
        wakes.extend([
            Wake::ModelsOf(namespace.clone()),
            Wake::RoutesOf(namespace.clone()),
            Wake::AgentsOf(namespace),
            Wake::Snapshots,
        ]);
        wakes
    }
}

impl Wakes for ConfigMap {
    fn wakes(&self) -> Vec<Wake> {
        let namespace = self.namespace().unwrap_or_default();
        vec![Wake::RoutesOf(namespace), Wake::Snapshots]
    }
}

impl Wakes for EndpointSlice {
    fn wakes(&self) -> Vec<Wake> {
        vec![Wake::Snapshots]
    }
}

/// A Pod of a data plane comes or goes: what is programmed changes, and gateways learn of each other.
pub(super) fn of_plane(pod: &Pod) -> Vec<Wake> {
    match pod.labels().get(COMPONENT_LABEL).map(String::as_str) {
        Some("gateway") => vec![Wake::AllRoutes, Wake::Snapshots],
        Some("agents") => vec![Wake::AllAgents],
        Some(_) | None => Vec::new(),
    }
}

/// A Pod of an InferencePool comes, goes or gets ready: the gateway has other addresses.
pub(super) fn of_pool(_: &Pod) -> Vec<Wake> {
    vec![Wake::Snapshots]
}

/// The object of ours that a child belongs to.
fn owner(child: &impl Resource) -> Option<Wake> {
    let meta = child.meta();
    let owner = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))?;
    if !owner.api_version.starts_with(GROUP) {
        return None;
    }
    let key = Key::new(meta.namespace.as_deref().unwrap_or_default(), &owner.name);
    match &*owner.kind {
        "Model" => Some(Wake::Model(key)),
        "Agent" => Some(Wake::Agent(key)),
        "Workspace" => Some(Wake::Workspace(key)),
        _ => None,
    }
}

/// Sorts wakes into queues until `handle` says that it is over.
pub(crate) async fn dispatch(
    mut receiver: UnboundedReceiver<Wake>,
    handle: Arc<dyn Fn(Wake) + Send + Sync>,
) {
    while let Some(wake) = receiver.recv().await {
        handle(wake);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, Secret};
    use serde_json::{Value, json};

    use super::{Wake, Wakes, of_plane};
    use crate::queue::Key;

    fn pod(labels: &Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "labels": labels}}),
        )
        .expect("a pod")
    }

    #[test]
    fn a_pod_wakes_what_its_labels_name() {
        let model = Wake::Model(Key::new("n", "m"));
        assert_eq!(pod(&json!({"quarterdeck.dev/model": "m"})).wakes(), [model]);
        let workspace = pod(&json!({"quarterdeck.dev/workspace": "w"})).wakes();
        assert!(
            workspace.contains(&Wake::Workspace(Key::new("n", "w")))
                && workspace.contains(&Wake::Snapshots)
        );
        assert_eq!(
            of_plane(&pod(&json!({"app.kubernetes.io/component": "gateway"}))),
            [Wake::AllRoutes, Wake::Snapshots]
        );
        assert_eq!(
            of_plane(&pod(&json!({"app.kubernetes.io/component": "agents"}))),
            [Wake::AllAgents]
        );
        assert!(pod(&json!({})).wakes().is_empty());
    }

    #[test]
    fn a_child_wakes_its_owner_and_a_stranger_nobody_of_ours() {
        let secret = |api_version: &str| -> Secret {
            let owner = json!({"apiVersion": api_version, "kind": "Agent", "name": "a", "uid": "u", "controller": true});
            serde_json::from_value(
                json!({"metadata": {"name": "s", "namespace": "n", "ownerReferences": [owner]}}),
            )
            .expect("a secret")
        };
        assert_eq!(
            secret("quarterdeck.dev/v1alpha1").wakes(),
            [Wake::Agent(Key::new("n", "a"))]
        );
        assert!(secret("other.dev/v1").wakes().is_empty());
    }
}
