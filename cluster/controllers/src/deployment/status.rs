//! What a Deployment says about itself; pure.

use std::time::Duration;

use k8s_openapi::{
    api::apps::v1::{
        Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::{
    revision::Sets,
    rolling::{Bounds, asked},
};
use crate::conditions;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The Deployment with its new status, if it changes, and when to look again.
pub(crate) fn status_of(
    deployment: &Deployment,
    sets: &Sets,
    collision_count: Option<i32>,
    now: Timestamp,
) -> (Option<Deployment>, Option<Duration>) {
    let old = deployment.status.clone().unwrap_or_default();
    let counted = |count: fn(&ReplicaSetStatus) -> i32| -> i32 {
        sets.all()
            .filter_map(|set| set.status.as_ref())
            .map(count)
            .sum()
    };
    let available = counted(|status| status.available_replicas.unwrap_or(0));
    let asked: i32 = sets.all().map(|set| asked(set)).sum();
    let updated = sets
        .new
        .as_ref()
        .and_then(|set| set.status.as_ref())
        .map_or(0, |status| status.replicas);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some_unless_zero(counted(|status| status.replicas)),
        updated_replicas: some_unless_zero(updated),
        ready_replicas: some_unless_zero(counted(|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: some_unless_zero(available),
        unavailable_replicas: some_unless_zero((asked - available).max(0)),
        terminating_replicas: None,
        collision_count,
        conditions: None,
    };
    let mut conditions = old.conditions.clone().unwrap_or_default();
    conditions::set(&mut conditions, availability(deployment, available, now));
    set_failure(&mut conditions, sets, now);
    let next = set_progress(
        &mut conditions,
        &Progress {
            deployment,
            sets,
            old: &old,
            new: &status,
        },
        now,
    );
    status.conditions = Some(conditions);
    if normal(&status) == normal(&old) {
        return (None, next);
    }
    (
        Some(Deployment {
            status: Some(status),
            ..deployment.clone()
        }),
        next,
    )
}

fn availability(deployment: &Deployment, available: i32, now: Timestamp) -> DeploymentCondition {
    if Bounds::of(deployment).available_min() <= available {
        let message = "Deployment has minimum availability.";
        return condition(AVAILABLE, "True", "MinimumReplicasAvailable", message, now);
    }
    let message = "Deployment does not have minimum availability.";
    condition(
        AVAILABLE,
        "False",
        "MinimumReplicasUnavailable",
        message,
        now,
    )
}

fn set_failure(conditions: &mut Vec<DeploymentCondition>, sets: &Sets, now: Timestamp) {
    let failures = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions::find(conditions, REPLICA_FAILURE).cloned()
    };
    match sets
        .new
        .as_deref()
        .and_then(failures)
        .or_else(|| sets.old.iter().find_map(|set| failures(set)))
    {
        Some(failure) => {
            let reason = failure.reason.unwrap_or_default();
            let message = failure.message.unwrap_or_default();
            conditions::set(
                conditions,
                condition(REPLICA_FAILURE, "True", &reason, &message, now),
            );
        }
        None => conditions::remove(conditions, REPLICA_FAILURE),
    }
}

/// What progress is judged by.
struct Progress<'a> {
    deployment: &'a Deployment,
    sets: &'a Sets,
    old: &'a DeploymentStatus,
    new: &'a DeploymentStatus,
}

impl Progress<'_> {
    fn is_complete(&self) -> bool {
        let wanted = self.deployment.spec.replicas.unwrap_or(1);
        [
            self.new.updated_replicas,
            self.new.replicas,
            self.new.available_replicas,
        ]
        .into_iter()
        .all(|count| count.unwrap_or(0) == wanted)
            && self.sets.new.is_some()
    }

    /// A finished rollout stays finished while replicas come and go.
    fn stays_complete(&self) -> bool {
        self.sets.new.is_some() && self.new.replicas == self.new.updated_replicas
    }

    fn has_moved(&self) -> bool {
        let old_sets = |status: &DeploymentStatus| {
            status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0)
        };
        let grew = |old: Option<i32>, new: Option<i32>| old.unwrap_or(0) < new.unwrap_or(0);
        grew(self.old.updated_replicas, self.new.updated_replicas)
            || grew(self.old.ready_replicas, self.new.ready_replicas)
            || grew(self.old.available_replicas, self.new.available_replicas)
            || old_sets(self.new) < old_sets(self.old)
    }

    fn set_name(&self) -> String {
        self.sets
            .new
            .as_ref()
            .and_then(|set| set.metadata.name.clone())
            .unwrap_or_default()
    }
}

/// Sets `Progressing` and returns when its deadline passes.
fn set_progress(
    conditions: &mut Vec<DeploymentCondition>,
    progress: &Progress<'_>,
    now: Timestamp,
) -> Option<Duration> {
    let deployment = progress.deployment;
    let old = conditions::find(conditions, PROGRESSING).cloned();
    let old_reason = old
        .as_ref()
        .and_then(|old| old.reason.as_deref())
        .unwrap_or_default();
    if deployment.spec.paused == Some(true) {
        conditions::set(
            conditions,
            condition(
                PROGRESSING,
                "Unknown",
                "DeploymentPaused",
                "Deployment is paused",
                now,
            ),
        );
        return None;
    }
    let limit = deployment.spec.progress_deadline_seconds.unwrap_or(600);
    let name = progress.set_name();
    if progress.is_complete() {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        conditions::set(
            conditions,
            condition(PROGRESSING, "True", "NewReplicaSetAvailable", &message, now),
        );
        return None;
    }
    if old_reason == "NewReplicaSetAvailable" && progress.stays_complete() {
        return None;
    }
    let is_new_rollout = matches!(
        old_reason,
        "" | "NewReplicaSetAvailable" | "DeploymentPaused"
    );
    if is_new_rollout || progress.has_moved() {
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        let mut moved = condition(PROGRESSING, "True", "ReplicaSetUpdated", &message, now);
        if let Some(old) = old.filter(|old| old.status.as_deref() == Some("True")) {
            moved.last_transition_time = old.last_transition_time;
        }
        conditions::remove(conditions, PROGRESSING);
        conditions.push(moved);
        return Some(seconds(limit));
    }
    if old_reason == TIMED_OUT {
        return None;
    }
    let since = old
        .and_then(|old| old.last_update_time)
        .map_or(now, |time| time.0);
    let left = seconds(limit)
        .saturating_sub(Duration::try_from(now.duration_since(since)).unwrap_or_default());
    if left.is_zero() {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        conditions::set(
            conditions,
            condition(PROGRESSING, "False", TIMED_OUT, &message, now),
        );
        return None;
    }
    Some(left)
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn some_unless_zero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The status without what servers differ in: zeros that are left out, the order of conditions.
fn normal(status: &DeploymentStatus) -> DeploymentStatus {
    let mut normal = status.clone();
    for count in [
        &mut normal.replicas,
        &mut normal.updated_replicas,
        &mut normal.ready_replicas,
        &mut normal.available_replicas,
        &mut normal.unavailable_replicas,
        &mut normal.terminating_replicas,
    ] {
        *count = count.filter(|count| *count != 0);
    }
    normal
        .conditions
        .get_or_insert_default()
        .sort_by(|left, right| left.type_.cmp(&right.type_));
    normal
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use k8s_openapi::{
        api::apps::v1::{
            Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetSpec,
            ReplicaSetStatus,
        },
        jiff::Timestamp,
    };

    use super::{AVAILABLE, PROGRESSING, status_of};
    use crate::{conditions, deployment::revision::Sets};

    fn sets(replicas: i32, available: i32) -> Sets {
        let status = ReplicaSetStatus {
            replicas,
            ready_replicas: Some(available),
            available_replicas: Some(available),
            ..ReplicaSetStatus::default()
        };
        let set = ReplicaSet {
            spec: ReplicaSetSpec {
                replicas: Some(2),
                ..ReplicaSetSpec::default()
            },
            status: Some(status),
            ..ReplicaSet::default()
        };
        Sets {
            new: Some(Arc::new(set)),
            old: Vec::new(),
        }
    }

    fn deployment() -> Deployment {
        let spec = DeploymentSpec {
            replicas: Some(2),
            progress_deadline_seconds: Some(10),
            ..DeploymentSpec::default()
        };
        Deployment {
            spec,
            ..Deployment::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[track_caller]
    fn check(deployment: &Deployment, kind: &str, status: &str, reason: &str) {
        let conditions = deployment
            .status
            .as_ref()
            .unwrap()
            .conditions
            .as_ref()
            .unwrap();
        let found = conditions::find(conditions, kind).unwrap();
        assert_eq!(
            (found.status.as_deref(), found.reason.as_deref()),
            (Some(status), Some(reason))
        );
    }

    #[test]
    fn a_rollout_progresses_completes_and_then_says_nothing_new() {
        let (started, next) = status_of(&deployment(), &sets(1, 0), None, at(0));
        let started = started.unwrap();
        check(&started, PROGRESSING, "True", "ReplicaSetUpdated");
        check(&started, AVAILABLE, "False", "MinimumReplicasUnavailable");
        assert_eq!(next, Some(Duration::from_secs(10)));
        let (complete, next) = status_of(&started, &sets(2, 2), None, at(5));
        let complete = complete.unwrap();
        check(&complete, PROGRESSING, "True", "NewReplicaSetAvailable");
        check(&complete, AVAILABLE, "True", "MinimumReplicasAvailable");
        assert_eq!(next, None);
        assert_eq!(
            status_of(&complete, &sets(2, 2), None, at(60)),
            (None, None)
        );
        let (lost, next) = status_of(&complete, &sets(2, 1), None, at(70));
        check(
            &lost.unwrap(),
            PROGRESSING,
            "True",
            "NewReplicaSetAvailable",
        );
        assert_eq!(next, None);
    }

    #[test]
    fn recreate_is_available_with_all_its_replicas_only() {
        let mut recreate = deployment();
        recreate.spec.strategy = Some(DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            rolling_update: None,
        });
        for (available, status) in [(0, "False"), (1, "False"), (2, "True")] {
            let (changed, _) = status_of(&recreate, &sets(2, available), None, at(0));
            let conditions = changed.unwrap().status.unwrap().conditions.unwrap();
            let found = conditions::find(&conditions, AVAILABLE).unwrap();
            assert_eq!(found.status.as_deref(), Some(status), "{available} of 2");
        }
    }

    #[test]
    fn a_rollout_that_stands_still_times_out_once() {
        let (started, _) = status_of(&deployment(), &sets(2, 0), None, at(0));
        let started = started.unwrap();
        assert_eq!(
            status_of(&started, &sets(2, 0), None, at(4)),
            (None, Some(Duration::from_secs(6)))
        );
        let (late, next) = status_of(&started, &sets(2, 0), None, at(10));
        let late = late.unwrap();
        check(&late, PROGRESSING, "False", "ProgressDeadlineExceeded");
        assert_eq!(next, None);
        assert_eq!(status_of(&late, &sets(2, 0), None, at(20)), (None, None));
    }
}
