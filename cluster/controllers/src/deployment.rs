//! Deployment controller: moves from one ReplicaSet to the next as fast as surge and unavailability allow.

mod plan;
mod revision;
mod rolling;
mod status;

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
    jiff::Timestamp,
};
use kube::{Api, Client, api::PropagationPolicy};
use serde_json::json;
use tracing::info;

use self::{
    plan::{Action, plan},
    revision::Sets,
    status::status_of,
};
use crate::{
    api::{
        Attempt, Next, ReconcileError, api_beside, delete_params, is_already_exists, merge,
        post_params, replace_status,
    },
    cache::{Cache, Key},
    journal::Journal,
    owners::{self, Claim},
    pods,
    worker::Reconcile,
};

/// Moves Deployments from one ReplicaSet to the next.
pub(crate) struct DeploymentController {
    /// The API server.
    pub(crate) client: Client,
    /// All Deployments.
    pub(crate) deployments: Arc<Cache<Deployment>>,
    /// All ReplicaSets.
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    /// All Pods; `Recreate` waits for the old ones to end.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// Where it tells what it did.
    pub(crate) journal: Journal,
}

impl Reconcile for DeploymentController {
    type Key = Key;
    const NAME: &'static str = "deployment";

    async fn reconcile(&self, key: &Key) -> Next {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(None);
        };
        let sets = Sets::sort(&deployment, self.claim_sets(&deployment).await?);
        let mut collisions = deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count);
        if deployment.metadata.deletion_timestamp.is_none() {
            let has_old_pods = self.has_old_pods(&deployment, &sets);
            for action in plan(&deployment, &sets, has_old_pods) {
                if let Outcome::NameTaken = self.execute(&deployment, action).await? {
                    collisions = Some(collisions.unwrap_or(0) + 1);
                }
            }
        }
        let (changed, next) = status_of(&deployment, &sets, collisions, Timestamp::now());
        if let Some(changed) = changed {
            replace_status(
                &api_beside(&self.client, &*deployment),
                &changed,
                "write a Deployment's status",
            )
            .await?;
        }
        Ok(next)
    }
}

/// What came of an action.
enum Outcome {
    Done,
    /// Another template has the name of the new ReplicaSet; the next name will differ.
    NameTaken,
}

impl DeploymentController {
    /// Adopts and releases, and returns the ReplicaSets that are ours.
    async fn claim_sets(
        &self,
        deployment: &Deployment,
    ) -> Result<Vec<Arc<ReplicaSet>>, ReconcileError> {
        let Some(selector) = owners::parse_selector(&deployment.spec.selector) else {
            return Ok(Vec::new());
        };
        let api: Api<ReplicaSet> = api_beside(&self.client, deployment);
        let mut owned = Vec::new();
        for set in self
            .replica_sets
            .in_namespace(deployment.metadata.namespace.as_deref().unwrap_or_default())
        {
            match owners::claim(&deployment.metadata, &selector, &set.metadata) {
                Claim::Owned => owned.push(set),
                Claim::Adopt => {
                    let patch =
                        owners::adoption(&set.metadata, owners::controller_reference(deployment));
                    if let Some(adopted) = merge(&api, &*set, patch, "adopt a ReplicaSet").await? {
                        owned.push(Arc::new(adopted));
                    }
                }
                Claim::Release => {
                    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
                    merge(
                        &api,
                        &*set,
                        owners::disowning(&set.metadata, &[uid]),
                        "release a ReplicaSet",
                    )
                    .await?;
                }
                Claim::Ignore => {}
            }
        }
        Ok(owned)
    }

    fn has_old_pods(&self, deployment: &Deployment, sets: &Sets) -> bool {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        self.pods.in_namespace(namespace).iter().any(|pod| {
            let is_old = sets.old.iter().any(|set| {
                owners::is_controlled_by(
                    &pod.metadata,
                    set.metadata.uid.as_deref().unwrap_or_default(),
                )
            });
            is_old && !pods::is_finished(pod)
        })
    }

    async fn execute(
        &self,
        deployment: &Deployment,
        action: Action,
    ) -> Result<Outcome, ReconcileError> {
        let api: Api<ReplicaSet> = api_beside(&self.client, deployment);
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        match action {
            Action::Create(set) => {
                let created = api.create(&post_params(), &set).await;
                if created.as_ref().is_err_and(is_already_exists) {
                    return self.explain_taken(&api, deployment, &set).await;
                }
                created.attempt("create a ReplicaSet")?;
                info!(
                    deployment = name,
                    replica_set = set.metadata.name,
                    "rollout started"
                );
                self.note_scaling(deployment, &set, 0, rolling::asked(&set))
                    .await;
            }
            Action::Scale { set, replicas } => {
                let patch = json!({"spec": {"replicas": replicas}});
                merge(&api, &*set, patch, "scale a ReplicaSet").await?;
                info!(
                    deployment = name,
                    replica_set = set.metadata.name,
                    replicas,
                    "ReplicaSet scaled"
                );
                self.note_scaling(deployment, &set, rolling::asked(&set), replicas)
                    .await;
            }
            Action::Annotate { set, annotations } => {
                merge(
                    &api,
                    &*set,
                    json!({"metadata": {"annotations": annotations}}),
                    "annotate a ReplicaSet",
                )
                .await?;
            }
            Action::SetRevision(revision) => {
                let patch = json!({"metadata": {"annotations": {revision::REVISION: revision.to_string()}}});
                let api: Api<Deployment> = api_beside(&self.client, deployment);
                merge(&api, deployment, patch, "note a Deployment's revision").await?;
                // The status is written against the new version, after the watch has shown it.
                return Err(ReconcileError::Stale {
                    attempt: "note a Deployment's revision",
                });
            }
            Action::Delete(set) => {
                let params = delete_params(set.metadata.uid.clone(), PropagationPolicy::Background);
                let deleted = api
                    .delete(set.metadata.name.as_deref().unwrap_or_default(), &params)
                    .await;
                deleted.attempt_unless_gone("delete an old ReplicaSet")?;
            }
        }
        Ok(Outcome::Done)
    }

    async fn note_scaling(&self, deployment: &Deployment, set: &ReplicaSet, from: i32, to: i32) {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let way = if from < to { "up" } else { "down" };
        let message = format!("Scaled {way} replica set {name} from {from} to {to}");
        self.journal
            .note(deployment, "ScalingReplicaSet", message)
            .await;
    }

    /// A ReplicaSet of the new name exists: ours, not seen yet, or another template's.
    async fn explain_taken(
        &self,
        api: &Api<ReplicaSet>,
        deployment: &Deployment,
        wanted: &ReplicaSet,
    ) -> Result<Outcome, ReconcileError> {
        let attempt = "look at a ReplicaSet whose name is taken";
        let found = api
            .get_opt(wanted.metadata.name.as_deref().unwrap_or_default())
            .await
            .attempt(attempt)?;
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let is_ours = found.as_ref().is_some_and(|set| {
            owners::is_controlled_by(&set.metadata, uid)
                && revision::has_template_of(set, deployment)
        });
        if is_ours || found.is_none() {
            Err(ReconcileError::Stale { attempt })
        } else {
            Ok(Outcome::NameTaken)
        }
    }
}
