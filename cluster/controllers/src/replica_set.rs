//! ReplicaSet controller: as many Pods of one template as asked for.

mod plan;

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ReplicaSet, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PropagationPolicy};
use tokio::time::Instant;
use tracing::{debug, info};

use self::plan::{Plan, plan, status_of};
use crate::{
    api::{
        Attempt, Next, ReconcileError, api_beside, delete_params, merge, post_params,
        replace_status,
    },
    cache::{Cache, Change, Key},
    expectations::{Expectations, Expected},
    journal::Journal,
    owners::{self, Claim},
    pods,
    worker::Reconcile,
};

/// Keeps as many Pods as asked for.
pub(crate) struct ReplicaSetController {
    /// The API server.
    pub(crate) client: Client,
    /// All ReplicaSets.
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    /// All Pods.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// What was asked for and not seen yet.
    pub(crate) expectations: Arc<Expectations>,
    /// Where it tells what it did.
    pub(crate) journal: Journal,
}

impl Reconcile for ReplicaSetController {
    type Key = Key;
    const NAME: &'static str = "replica-set";

    async fn reconcile(&self, key: &Key) -> Next {
        let Some(set) = self.replica_sets.get(key) else {
            return Ok(None);
        };
        let owned = self.claim_pods(&set).await?;
        let now = Timestamp::now();
        let lag = self.expectations.wait(key, Instant::now());
        let mut failure = None;
        if lag.is_none() && set.metadata.deletion_timestamp.is_none() {
            let todo = plan(&set, &owned);
            failure = self.execute(key, &set, todo).await.err();
        }
        let failure_message = failure.as_ref().map(describe);
        let (changed, next) = status_of(&set, &owned, failure_message.as_deref(), now);
        if let Some(changed) = changed {
            replace_status(
                &api_beside(&self.client, &*set),
                &changed,
                "write a ReplicaSet's status",
            )
            .await?;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        Ok([lag, next].into_iter().flatten().min())
    }
}

impl ReplicaSetController {
    /// Adopts and releases, and returns the Pods that are ours.
    async fn claim_pods(&self, set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, ReconcileError> {
        let Some(selector) = owners::parse_selector(&set.spec.selector) else {
            return Ok(Vec::new());
        };
        let api: Api<Pod> = api_beside(&self.client, set);
        let mut owned = Vec::new();
        for pod in self
            .pods
            .in_namespace(set.metadata.namespace.as_deref().unwrap_or_default())
        {
            match owners::claim(&set.metadata, &selector, &pod.metadata) {
                Claim::Owned => owned.push(pod),
                Claim::Adopt if pods::is_active(&pod) => {
                    let patch = owners::adoption(&pod.metadata, owners::controller_reference(set));
                    if let Some(adopted) = merge(&api, &*pod, patch, "adopt a Pod").await? {
                        owned.push(Arc::new(adopted));
                    }
                }
                Claim::Release => {
                    let uid = set.metadata.uid.as_deref().unwrap_or_default();
                    merge(
                        &api,
                        &*pod,
                        owners::disowning(&pod.metadata, &[uid]),
                        "release a Pod",
                    )
                    .await?;
                }
                Claim::Adopt | Claim::Ignore => {}
            }
        }
        Ok(owned)
    }

    async fn execute(&self, key: &Key, set: &ReplicaSet, plan: Plan) -> Result<(), ReconcileError> {
        let api: Api<Pod> = api_beside(&self.client, set);
        for _ in 0..plan.create {
            let Some(template) = &set.spec.template else {
                break;
            };
            let pod =
                pods::from_template(template, &key.namespace, owners::controller_reference(set));
            let expected = Expected::Created(Key::of(&pod));
            self.expectations.expect(key, expected.clone());
            let created = api
                .create(&post_params(), &pod)
                .await
                .attempt("create a Pod");
            if let Err(error) = created {
                self.expectations.meet(key, &expected);
                self.journal
                    .warn(set, "FailedCreate", describe(&error))
                    .await;
                return Err(error);
            }
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            debug!(replica_set = ?key, pod = name, "Pod created");
            self.journal
                .note(set, "SuccessfulCreate", format!("Created pod: {name}"))
                .await;
        }
        for pod in plan.delete {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let expected = Expected::Deleted(uid.clone());
            self.expectations.expect(key, expected.clone());
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let deleted = api
                .delete(
                    name,
                    &delete_params(Some(uid), PropagationPolicy::Background),
                )
                .await;
            match deleted.attempt_unless_gone("delete a Pod") {
                Ok(Some(_)) => {
                    info!(replica_set = ?key, pod = name, "Pod deleted, too many replicas");
                    self.journal
                        .note(set, "SuccessfulDelete", format!("Deleted pod: {name}"))
                        .await;
                }
                Ok(None) => self.expectations.meet(key, &expected),
                Err(error) => {
                    self.expectations.meet(key, &expected);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

fn describe(error: &ReconcileError) -> String {
    let cause = std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default();
    format!("{error}: {cause}")
}

/// Meets what the controllers of Pods expect, and returns the owners of a changed Pod, by the kind of its controller.
pub(crate) fn observe(
    change: &Change<'_, Pod>,
    kind: &str,
    expectations: &Expectations,
) -> Vec<Key> {
    let mut affected = Vec::new();
    for pod in change.states() {
        let Some(owner) = owners::controller_of(&pod.metadata).filter(|owner| owner.kind == kind)
        else {
            continue;
        };
        let key = Key::new(
            pod.metadata.namespace.clone().unwrap_or_default(),
            &owner.name,
        );
        expectations.meet(&key, &Expected::Created(Key::of(pod)));
        if change.new.is_none_or(pods::is_going) {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            expectations.meet(&key, &Expected::Deleted(uid));
        }
        if !affected.contains(&key) {
            affected.push(key);
        }
    }
    affected
}
