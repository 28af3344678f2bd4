//! Garbage collector: deletes what lost its owners, in the background, in the foreground, or not at all (orphan).

mod decide;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, Preconditions, PropagationPolicy},
};
use serde_json::json;
use tracing::info;

use self::decide::{OwnerState, Verdict, decide};
use crate::{
    api::{Attempt, Next, ReconcileError, delete_params, is_not_found, patch_params},
    inventory::{Inventory, Node, Uid},
    owners,
    worker::Reconcile,
};

/// Deletes what lost its owners.
pub(crate) struct GarbageCollector {
    /// The API server.
    pub(crate) client: Client,
    /// What there is.
    pub(crate) inventory: Arc<Inventory>,
}

impl Reconcile for GarbageCollector {
    type Key = Uid;
    const NAME: &'static str = "garbage";

    async fn reconcile(&self, uid: &Uid) -> Next {
        let Some((node, dependents)) = self.inventory.family(uid) else {
            return Ok(None);
        };
        let mut owners = Vec::with_capacity(node.owners.len());
        for reference in &node.owners {
            owners.push(self.owner_state(&node, reference).await?);
        }
        match decide(&node, &owners, &dependents) {
            Verdict::Keep => {}
            Verdict::Delete(policy) => self.delete(&node, policy).await?,
            Verdict::DropOwners(uids) => self.disown(&node, &uids).await?,
            Verdict::Release(finalizer) => self.drop_finalizer(&node, finalizer).await?,
            Verdict::Orphan(finalizer) => {
                for dependent in &dependents {
                    self.disown(dependent, std::slice::from_ref(&node.uid))
                        .await?;
                }
                self.drop_finalizer(&node, finalizer).await?;
            }
        }
        Ok(None)
    }
}

impl GarbageCollector {
    /// What is known of an owner; the API server is asked before an owner is called absent.
    async fn owner_state(
        &self,
        node: &Node,
        reference: &OwnerReference,
    ) -> Result<OwnerState, ReconcileError> {
        if let Some(owner) = self.inventory.get(&reference.uid) {
            return Ok(if owner.waits_for_dependents() {
                OwnerState::Waiting
            } else {
                OwnerState::Present
            });
        }
        let kinds = self.inventory.kinds();
        let group = reference
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let kind = kinds
            .iter()
            .find(|kind| kind.resource.group == group && kind.resource.kind == reference.kind);
        let Some(kind) = kind else {
            return Ok(OwnerState::Unknown);
        };
        let namespace = if kind.is_namespaced {
            node.key.namespace.as_str()
        } else {
            ""
        };
        if kind.is_namespaced && namespace.is_empty() {
            // A cluster-scoped object cannot have a namespaced owner; deleting it for that would be worse.
            return Ok(OwnerState::Unknown);
        }
        match self
            .api(&kind.resource, namespace)
            .get_metadata(&reference.name)
            .await
        {
            Ok(owner) if owner.uid().as_ref() == Some(&reference.uid) => Ok(OwnerState::Present),
            Ok(_) => Ok(OwnerState::Absent),
            Err(error) if is_not_found(&error) => Ok(OwnerState::Absent),
            Err(error) => Err(error).attempt("look up an owner"),
        }
    }

    async fn delete(&self, node: &Node, policy: PropagationPolicy) -> Result<(), ReconcileError> {
        let mut params = delete_params(None, policy);
        params.preconditions = Some(Preconditions {
            uid: Some(node.uid.clone()),
            resource_version: node.resource_version.clone(),
        });
        let deleted = self
            .api(&node.resource, &node.key.namespace)
            .delete(&node.key.name, &params)
            .await;
        if deleted
            .attempt_unless_gone("delete what lost its owner")?
            .is_some()
        {
            info!(kind = node.resource.kind, object = ?node.key, "deleted, its owner is gone");
        }
        Ok(())
    }

    async fn disown(&self, node: &Node, uids: &[Uid]) -> Result<(), ReconcileError> {
        let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
        let meta = kube::core::ObjectMeta {
            uid: Some(node.uid.clone()),
            owner_references: Some(node.owners.clone()),
            ..kube::core::ObjectMeta::default()
        };
        let patch = owners::disowning(&meta, &uids);
        self.patch(node, patch, "take an owner off").await
    }

    async fn drop_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), ReconcileError> {
        let left: Vec<&String> = node
            .finalizers
            .iter()
            .filter(|name| *name != finalizer)
            .collect();
        let patch = json!({"metadata": {"uid": node.uid, "finalizers": left}});
        self.patch(node, patch, "drop a finalizer").await
    }

    async fn patch(
        &self,
        node: &Node,
        mut patch: serde_json::Value,
        attempt: &'static str,
    ) -> Result<(), ReconcileError> {
        patch["metadata"]["resourceVersion"] = json!(node.resource_version);
        let api = self.api(&node.resource, &node.key.namespace);
        api.patch_metadata(&node.key.name, &patch_params(), &Patch::Merge(&patch))
            .await
            .attempt_unless_gone(attempt)?;
        Ok(())
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, resource)
        }
    }
}
