//! What a Job does next, from its Pods and the time; pure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1::{EnvVar, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use crate::{conditions, pods};

/// The annotation and label that carry a Pod's index in an indexed Job.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The environment variable that carries it into containers.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// The wait after the first failed Pod; it doubles with each.
const BACKOFF_MIN: Duration = Duration::from_secs(10);
/// The longest wait after a failed Pod.
const BACKOFF_MAX: Duration = Duration::from_secs(360);
/// Failed Pods that a Job bears, unless it says otherwise.
const BACKOFF_LIMIT: i32 = 6;
/// The most Pods to create at once.
const BURST_MAX: usize = 100;

/// What a Job does next.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The Pods to create, each with its index if the Job is indexed.
    pub(crate) create: Vec<Option<i32>>,
    /// The Pods to delete.
    pub(crate) delete: Vec<Arc<Pod>>,
    /// The Job with its new status, if it changes.
    pub(crate) status: Option<Job>,
    /// How the Job ended, if it ends now.
    pub(crate) end: Option<End>,
    /// Whether the Job itself goes, its time to live being over.
    pub(crate) expired: bool,
    /// When to look again.
    pub(crate) next: Option<Duration>,
}

/// The Job's Pods, counted.
struct Tally<'a> {
    active: Vec<&'a Arc<Pod>>,
    going: i32,
    ready: i32,
    succeeded: i32,
    failed: i32,
    restarts: i32,
    succeeded_indexes: BTreeSet<i32>,
    last_failure: Option<Timestamp>,
}

/// Decides from the Pods that are the Job's.
pub(crate) fn plan(job: &Job, owned: &[Arc<Pod>], now: Timestamp) -> Plan {
    let Some(spec) = &job.spec else {
        return Plan::default();
    };
    let tally = tally(owned);
    let mut status = job.status.clone().unwrap_or_default();
    if let Some(finished) = finish_time(&status) {
        return plan_finished(spec, finished, now);
    }
    let mut plan = Plan::default();
    let is_suspended = spec.suspend == Some(true);
    if is_suspended {
        status.start_time = None;
        plan.delete = tally.active.iter().map(|pod| Arc::clone(pod)).collect();
    } else {
        status.start_time.get_or_insert(Time(now));
    }
    count_into(&mut status, &tally);
    note_suspension(&mut status, is_suspended, now);
    if let Some(end) = ending(spec, &status, &tally, now) {
        finish(&mut status, &end, now);
        plan.delete = tally.active.iter().map(|pod| Arc::clone(pod)).collect();
        plan.next = spec.ttl_seconds_after_finished.map(seconds);
        plan.end = Some(end);
    } else if !is_suspended {
        let wait = backoff_left(&tally, now);
        match wait {
            Some(wait) => plan.next = Some(wait),
            None => plan.create = missing(spec, &tally),
        }
        plan.next = [plan.next, deadline_left(spec, &status, now)]
            .into_iter()
            .flatten()
            .min();
    }
    let changed = Job {
        status: Some(status),
        ..job.clone()
    };
    plan.status = (normal(&changed) != normal(job)).then_some(changed);
    plan
}

/// Writes the index where containers and people look for it.
pub(crate) fn set_index(pod: &mut Pod, index: i32) {
    let text = index.to_string();
    pod.metadata
        .annotations
        .get_or_insert_default()
        .insert(INDEX.to_owned(), text.clone());
    pod.metadata
        .labels
        .get_or_insert_default()
        .insert(INDEX.to_owned(), text.clone());
    let Some(spec) = &mut pod.spec else { return };
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        let variable = EnvVar {
            name: INDEX_VARIABLE.to_owned(),
            value: Some(text.clone()),
            ..EnvVar::default()
        };
        container.env.get_or_insert_default().push(variable);
    }
}

fn tally(owned: &[Arc<Pod>]) -> Tally<'_> {
    let count = |fits: &dyn Fn(&Pod) -> bool| {
        i32::try_from(owned.iter().filter(|pod| fits(pod)).count()).unwrap_or(i32::MAX)
    };
    let succeeded = |pod: &Pod| pods::phase(pod) == "Succeeded";
    Tally {
        active: owned.iter().filter(|pod| pods::is_active(pod)).collect(),
        going: count(&|pod| pods::is_going(pod) && !pods::is_finished(pod)),
        ready: count(&|pod| pods::is_active(pod) && pods::is_ready(pod)),
        succeeded: count(&succeeded),
        failed: count(&|pod| pods::phase(pod) == "Failed"),
        restarts: owned.iter().map(|pod| pods::restarts(pod)).sum(),
        succeeded_indexes: owned
            .iter()
            .filter(|pod| succeeded(pod))
            .filter_map(|pod| index_of(pod))
            .collect(),
        last_failure: owned
            .iter()
            .filter(|pod| pods::phase(pod) == "Failed")
            .filter_map(|pod| end_time(pod))
            .max(),
    }
}

fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// When the last container of a Pod ended.
fn end_time(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ends = statuses.iter().filter_map(|status| {
        status
            .state
            .as_ref()?
            .terminated
            .as_ref()?
            .finished_at
            .as_ref()
    });
    ends.map(|time| time.0).max()
}

fn finish_time(status: &JobStatus) -> Option<Timestamp> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let finished = ["Complete", "Failed"]
        .into_iter()
        .filter_map(|kind| conditions::find(conditions, kind));
    let mut finished = finished.filter(|condition| condition.status == "True");
    let condition = finished.next()?;
    Some(
        condition
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    )
}

fn plan_finished(spec: &JobSpec, finished: Timestamp, now: Timestamp) -> Plan {
    let Some(ttl) = spec.ttl_seconds_after_finished.map(seconds) else {
        return Plan::default();
    };
    let left = ttl.saturating_sub(elapsed(finished, now));
    if left.is_zero() {
        return Plan {
            expired: true,
            ..Plan::default()
        };
    }
    Plan {
        next: Some(left),
        ..Plan::default()
    }
}

fn count_into(status: &mut JobStatus, tally: &Tally<'_>) {
    let some_unless_zero = |count: i32| (count != 0).then_some(count);
    status.active = some_unless_zero(i32::try_from(tally.active.len()).unwrap_or(i32::MAX));
    status.ready = Some(tally.ready);
    status.terminating = Some(tally.going);
    status.succeeded = some_unless_zero(tally.succeeded);
    status.failed = some_unless_zero(tally.failed);
    status.uncounted_terminated_pods.get_or_insert_default();
    let indexes: Vec<String> = tally
        .succeeded_indexes
        .iter()
        .map(ToString::to_string)
        .collect();
    if !indexes.is_empty() {
        status.completed_indexes = Some(indexes.join(","));
    }
}

fn note_suspension(status: &mut JobStatus, is_suspended: bool, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    if is_suspended {
        conditions::set(
            conditions,
            condition("Suspended", "JobSuspended", "Job suspended", now),
        );
    } else if conditions::is_true(conditions, "Suspended") {
        let mut resumed = condition("Suspended", "JobResumed", "Job resumed", now);
        "False".clone_into(&mut resumed.status);
        conditions::set(conditions, resumed);
    }
}

/// How a Job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Enough Pods succeeded.
    Complete,
    /// It is given up.
    Failed {
        /// One word for programs.
        reason: &'static str,
        /// A sentence for people.
        message: &'static str,
    },
}

fn ending(spec: &JobSpec, status: &JobStatus, tally: &Tally<'_>, now: Timestamp) -> Option<End> {
    let limit = spec.backoff_limit.unwrap_or(BACKOFF_LIMIT);
    let restarts_in_place = spec
        .template
        .spec
        .as_ref()
        .and_then(|pod| pod.restart_policy.as_deref())
        == Some("OnFailure");
    if limit < tally.failed || (restarts_in_place && limit < tally.restarts) {
        let message = "Job has reached the specified backoff limit";
        return Some(End::Failed {
            reason: "BackoffLimitExceeded",
            message,
        });
    }
    if deadline_left(spec, status, now).is_some_and(|left| left.is_zero()) {
        let message = "Job was active longer than specified deadline";
        return Some(End::Failed {
            reason: "DeadlineExceeded",
            message,
        });
    }
    let is_complete = match spec.completions {
        Some(completions) => completions <= done(spec, tally),
        // A work queue: done when one has succeeded and the others have ended.
        None => 0 < tally.succeeded && tally.active.is_empty(),
    };
    is_complete.then_some(End::Complete)
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn done(spec: &JobSpec, tally: &Tally<'_>) -> i32 {
    if is_indexed(spec) {
        i32::try_from(tally.succeeded_indexes.len()).unwrap_or(i32::MAX)
    } else {
        tally.succeeded
    }
}

fn finish(status: &mut JobStatus, end: &End, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    match end {
        End::Complete => {
            let message = "Reached expected number of succeeded pods";
            for kind in ["SuccessCriteriaMet", "Complete"] {
                conditions::set(
                    conditions,
                    condition(kind, "CompletionsReached", message, now),
                );
            }
            status.completion_time = Some(Time(now));
        }
        End::Failed { reason, message } => {
            for kind in ["FailureTarget", "Failed"] {
                conditions::set(conditions, condition(kind, reason, message, now));
            }
        }
    }
    status.active = None;
    status.ready = Some(0);
}

fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The Pods to create now.
fn missing(spec: &JobSpec, tally: &Tally<'_>) -> Vec<Option<i32>> {
    let active = i32::try_from(tally.active.len()).unwrap_or(i32::MAX);
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - done(spec, tally)),
        None if 0 < tally.succeeded => active,
        None => parallelism,
    };
    let count = usize::try_from(wanted - active).unwrap_or(0).min(BURST_MAX);
    if !is_indexed(spec) {
        return vec![None; count];
    }
    let taken: BTreeSet<i32> = tally
        .active
        .iter()
        .filter_map(|pod| index_of(pod))
        .collect();
    let free = (0..spec.completions.unwrap_or(0))
        .filter(|index| !taken.contains(index) && !tally.succeeded_indexes.contains(index));
    free.take(count).map(Some).collect()
}

fn backoff_left(tally: &Tally<'_>, now: Timestamp) -> Option<Duration> {
    let last = tally.last_failure?;
    let doublings = u32::try_from(tally.failed.saturating_sub(1))
        .unwrap_or(0)
        .min(16);
    let wait = BACKOFF_MIN.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let left = wait.saturating_sub(elapsed(last, now));
    (!left.is_zero()).then_some(left)
}

fn deadline_left(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let limit = Duration::from_secs(u64::try_from(spec.active_deadline_seconds?).unwrap_or(0));
    Some(limit.saturating_sub(elapsed(status.start_time.as_ref()?.0, now)))
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

/// The status without what servers differ in: zeros and empty lists that are left out.
fn normal(job: &Job) -> JobStatus {
    let mut status = job.status.clone().unwrap_or_default();
    for count in [
        &mut status.active,
        &mut status.ready,
        &mut status.terminating,
        &mut status.succeeded,
        &mut status.failed,
    ] {
        *count = count.filter(|count| *count != 0);
    }
    status.uncounted_terminated_pods = None;
    status.conditions = status
        .conditions
        .filter(|conditions| !conditions.is_empty());
    status
}

#[cfg(test)]
mod tests;
