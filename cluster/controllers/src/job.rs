//! Job controller: runs Pods until enough of them succeeded.
//!
//! Pods are counted while they exist; a finished Pod that somebody deletes before the Job ends is run again.

mod plan;

use std::sync::Arc;

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PropagationPolicy};
use tokio::time::Instant;
use tracing::info;

use self::plan::{End, Plan, plan};
use crate::{
    api::{Attempt, Next, ReconcileError, api_beside, delete_params, post_params, replace_status},
    cache::{Cache, Key},
    expectations::{Expectations, Expected},
    journal::Journal,
    owners, pods,
    worker::Reconcile,
};

/// Labels by which a Job's Pods are found, old and new names.
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];

/// Runs Pods until enough of them succeeded.
pub(crate) struct JobController {
    /// The API server.
    pub(crate) client: Client,
    /// All Jobs.
    pub(crate) jobs: Arc<Cache<Job>>,
    /// All Pods.
    pub(crate) pods: Arc<Cache<Pod>>,
    /// What was asked for and not seen yet.
    pub(crate) expectations: Arc<Expectations>,
    /// Where it tells what it did.
    pub(crate) journal: Journal,
}

impl Reconcile for JobController {
    type Key = Key;
    const NAME: &'static str = "job";

    async fn reconcile(&self, key: &Key) -> Next {
        let Some(job) = self
            .jobs
            .get(key)
            .filter(|job| job.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        let lag = self.expectations.wait(key, Instant::now());
        if lag.is_some() {
            return Ok(lag);
        }
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let mut owned = self.pods.in_namespace(&key.namespace);
        owned.retain(|pod| owners::is_controlled_by(&pod.metadata, uid));
        let plan = plan(&job, &owned, Timestamp::now());
        // The status goes first: that a Job has failed must be known before its Pods disappear.
        if let Some(changed) = &plan.status {
            replace_status(
                &api_beside(&self.client, &*job),
                changed,
                "write a Job's status",
            )
            .await?;
        }
        self.execute(key, &job, &plan).await?;
        match plan.end {
            Some(End::Complete) => {
                self.journal
                    .note(&*job, "Completed", "Job completed".to_owned())
                    .await;
            }
            Some(End::Failed { reason, message }) => {
                self.journal.warn(&*job, reason, message.to_owned()).await;
            }
            None => {}
        }
        Ok(plan.next)
    }
}

impl JobController {
    async fn execute(&self, key: &Key, job: &Job, plan: &Plan) -> Result<(), ReconcileError> {
        if plan.expired {
            let api: Api<Job> = api_beside(&self.client, job);
            let params = delete_params(job.metadata.uid.clone(), PropagationPolicy::Background);
            api.delete(&key.name, &params)
                .await
                .attempt_unless_gone("delete an expired Job")?;
            info!(job = ?key, "finished Job deleted after its time to live");
            return Ok(());
        }
        let api: Api<Pod> = api_beside(&self.client, job);
        for index in &plan.create {
            let Some(pod) = new_pod(job, &key.namespace, *index) else {
                break;
            };
            let expected = Expected::Created(Key::of(&pod));
            self.expectations.expect(key, expected.clone());
            if let Err(error) = api
                .create(&post_params(), &pod)
                .await
                .attempt("create a Job's Pod")
            {
                self.expectations.meet(key, &expected);
                return Err(error);
            }
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            self.journal
                .note(job, "SuccessfulCreate", format!("Created pod: {name}"))
                .await;
        }
        for pod in &plan.delete {
            let params = delete_params(pod.metadata.uid.clone(), PropagationPolicy::Background);
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            api.delete(name, &params)
                .await
                .attempt_unless_gone("delete a Job's Pod")?;
        }
        Ok(())
    }
}

/// A Pod of the Job; indexed Jobs give each its index.
fn new_pod(job: &Job, namespace: &str, index: Option<i32>) -> Option<Pod> {
    let template = &job.spec.as_ref()?.template;
    let mut pod = pods::from_template(template, namespace, owners::controller_reference(job));
    let labels = pod.metadata.labels.get_or_insert_default();
    for label in NAME_LABELS {
        labels.insert(
            label.to_owned(),
            job.metadata.name.clone().unwrap_or_default(),
        );
    }
    for label in UID_LABELS {
        labels.insert(
            label.to_owned(),
            job.metadata.uid.clone().unwrap_or_default(),
        );
    }
    if let Some(index) = index {
        plan::set_index(&mut pod, index);
    }
    Some(pod)
}
