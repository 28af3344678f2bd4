//! What is not kept in memory.

use crds::{Agent, Model, Route, Workspace, WorkspaceTemplate};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};

use crate::inference_pool::InferencePool;

/// The type of Secrets that people and we make; all others hold nothing for us.
const OPAQUE: &str = "Opaque";

/// Drops what nobody here reads.
pub(crate) trait Prune {
    /// Drops it.
    fn prune(&mut self) {}
}

impl Prune for Model {}
impl Prune for Route {}
impl Prune for Agent {}
impl Prune for Workspace {}
impl Prune for WorkspaceTemplate {}
impl Prune for Deployment {}
impl Prune for Service {}
impl Prune for PersistentVolumeClaim {}
impl Prune for NetworkPolicy {}
impl Prune for EndpointSlice {}
impl Prune for ConfigMap {}
impl Prune for InferencePool {}

impl Prune for Pod {
    /// Pods are created once and never applied again, so their specification is not compared.
    fn prune(&mut self) {
        if let Some(spec) = &mut self.spec {
            spec.volumes = None;
            spec.init_containers = None;
            for container in &mut spec.containers {
                container.env = None;
                container.args = None;
                container.volume_mounts = None;
            }
        }
    }
}

impl Prune for Secret {
    fn prune(&mut self) {
        if self.type_.as_deref().is_some_and(|type_| type_ != OPAQUE) {
            self.data = None;
        }
    }
}
