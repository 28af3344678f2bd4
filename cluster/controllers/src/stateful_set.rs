//! StatefulSet controller: Pods with stable names and volumes, started and stopped in order.
//!
//! Volume claims stay when their Pods go; the retention policy is not honoured.

mod build;
mod plan;
mod revision;

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod},
    },
    jiff::Timestamp,
};
use kube::{Api, Client, api::PropagationPolicy};
use serde_json::json;

use self::{
    plan::{Action, Replicas, plan, status_of},
    revision::Revisions,
};
use crate::{
    api::{
        Attempt, Next, ReconcileError, api_beside, delete_params, is_already_exists, merge,
        post_params, replace_status,
    },
    cache::{Cache, Key},
    journal::Journal,
    owners::{self, Claim},
    worker::Reconcile,
};

/// Keeps Pods with stable names.
pub(crate) struct StatefulSetController {
    /// The API server.
    pub(crate) client: Client,
    /// All StatefulSets.
    pub(crate) stateful_sets: Arc<Cache<StatefulSet>>,
    /// All ControllerRevisions.
    pub(crate) revisions: Arc<Cache<ControllerRevision>>,
    /// All Pods.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// All claims.
    pub(crate) claims: Arc<Cache<PersistentVolumeClaim>>,
    /// Where it tells what it did.
    pub(crate) journal: Journal,
}

impl Reconcile for StatefulSetController {
    type Key = Key;
    const NAME: &'static str = "stateful-set";

    async fn reconcile(&self, key: &Key) -> Next {
        let Some(set) = self.stateful_sets.get(key) else {
            return Ok(None);
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let mut revisions = self.revisions.in_namespace(&key.namespace);
        revisions.retain(|revision| owners::is_controlled_by(&revision.metadata, &uid));
        let revisions = Revisions::sort(&set, revisions);
        self.keep_history(&set, &revisions).await?;
        let owned = self.claim_pods(&set).await?;
        let now = Timestamp::now();
        let replicas = Replicas::sort(&set, owned, now);
        for action in plan(&set, &replicas, &revisions) {
            self.execute(&set, action).await?;
        }
        let (changed, next) = status_of(&set, &replicas, &revisions);
        if let Some(changed) = changed {
            replace_status(
                &api_beside(&self.client, &*set),
                &changed,
                "write a StatefulSet's status",
            )
            .await?;
        }
        Ok(next)
    }
}

impl StatefulSetController {
    /// Adopts and releases, and returns the Pods that are ours.
    async fn claim_pods(&self, set: &StatefulSet) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let Some(selector) = owners::parse_selector(&set.spec.selector) else {
            return Ok(Vec::new());
        };
        let api: Api<Pod> = api_beside(&self.client, set);
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let mut owned = Vec::new();
        for pod in self.pods.in_namespace(namespace) {
            match owners::claim(&set.metadata, &selector, &pod.metadata) {
                Claim::Owned => owned.push(pod),
                Claim::Adopt if build::ordinal_of(set, &pod).is_some() => {
                    let patch = owners::adoption(&pod.metadata, owners::controller_reference(set));
                    if let Some(adopted) = merge(&api, &*pod, patch, "adopt a Pod").await? {
                        owned.push(Arc::new(adopted));
                    }
                }
                Claim::Release => {
                    let uid = set.metadata.uid.as_deref().unwrap_or_default();
                    let patch = owners::disowning(&pod.metadata, &[uid]);
                    merge(&api, &*pod, patch, "release a Pod").await?;
                }
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(owned)
    }

    /// Records the present template, and forgets templates beyond the history limit.
    async fn keep_history(
        &self,
        set: &StatefulSet,
        revisions: &Revisions,
    ) -> Result<(), ReconcileError> {
        let api: Api<ControllerRevision> = api_beside(&self.client, set);
        let attempt = "record a StatefulSet's revision";
        match &revisions.update {
            None => {
                let created = api
                    .create(&post_params(), &revisions.new_revision(set))
                    .await;
                if created.as_ref().is_err_and(is_already_exists) {
                    return Err(ReconcileError::Stale { attempt });
                }
                created.attempt(attempt)?;
            }
            Some(update) if update.revision != Some(revisions.newest) => {
                // A rollback: the template of an old revision is the newest again.
                let patch = json!({"revision": revisions.newest + 1});
                merge(&api, &**update, patch, attempt).await?;
            }
            Some(_) => {}
        }
        for expired in revisions.expired(set) {
            let name = expired.metadata.name.as_deref().unwrap_or_default();
            let params = delete_params(expired.metadata.uid.clone(), PropagationPolicy::Background);
            api.delete(name, &params)
                .await
                .attempt_unless_gone("forget a StatefulSet's revision")?;
        }
        Ok(())
    }

    async fn execute(&self, set: &StatefulSet, action: Action) -> Result<(), ReconcileError> {
        let api: Api<Pod> = api_beside(&self.client, set);
        let attempt = "create a StatefulSet's Pod";
        match action {
            Action::Create(pod) => {
                self.create_claims(set, &pod).await?;
                let created = api.create(&post_params(), &pod).await;
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                if created.as_ref().is_err_and(is_already_exists) {
                    // Ours, not seen yet, or one that is still going.
                    return Err(ReconcileError::Stale { attempt });
                }
                created.attempt(attempt)?;
                let message = format!("create Pod {name} in StatefulSet successful");
                self.journal.note(set, "SuccessfulCreate", message).await;
            }
            Action::Delete(pod) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let params = delete_params(pod.metadata.uid.clone(), PropagationPolicy::Background);
                let deleted = api.delete(name, &params).await;
                if deleted
                    .attempt_unless_gone("delete a StatefulSet's Pod")?
                    .is_some()
                {
                    let message = format!("delete Pod {name} in StatefulSet successful");
                    self.journal.note(set, "SuccessfulDelete", message).await;
                }
            }
        }
        Ok(())
    }

    async fn create_claims(&self, set: &StatefulSet, pod: &Pod) -> Result<(), ReconcileError> {
        let api: Api<PersistentVolumeClaim> = api_beside(&self.client, set);
        for claim in build::claims(set, pod) {
            if self.claims.get(&Key::of(&claim)).is_some() {
                continue;
            }
            let created = api.create(&post_params(), &claim).await;
            if !created.as_ref().is_err_and(is_already_exists) {
                created.attempt("create a StatefulSet's claim")?;
            }
        }
        Ok(())
    }
}
