//! What a StatefulSet does next, one Pod at a time unless it may go in parallel; pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetStatus},
        core::v1::Pod,
    },
    jiff::Timestamp,
};

use super::{
    build::{self, REVISION},
    revision::Revisions,
};
use crate::pods::{self, Availability};

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Create a Pod, after its claims.
    Create(Box<Pod>),
    /// Delete a Pod.
    Delete(Arc<Pod>),
}

/// The Pods of a set, by ordinal.
#[derive(Debug)]
pub(super) struct Replicas {
    pods: BTreeMap<i32, Arc<Pod>>,
    /// The ordinals that the set wants.
    wanted: std::ops::Range<i32>,
    min_ready: Duration,
    now: Timestamp,
}

impl Replicas {
    /// Sorts the Pods; those with foreign names are left alone.
    pub(super) fn sort(set: &StatefulSet, owned: Vec<Arc<Pod>>, now: Timestamp) -> Self {
        let start = set
            .spec
            .ordinals
            .as_ref()
            .and_then(|ordinals| ordinals.start)
            .unwrap_or(0);
        let count = set.spec.replicas.unwrap_or(1).max(0);
        let seconds = u64::try_from(set.spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0);
        let pods = owned
            .into_iter()
            .filter_map(|pod| Some((build::ordinal_of(set, &pod)?, pod)));
        Self {
            pods: pods.collect(),
            wanted: start..start.saturating_add(count),
            min_ready: Duration::from_secs(seconds),
            now,
        }
    }

    fn availability(&self, pod: &Pod) -> Availability {
        if pods::is_active(pod) {
            pods::availability(pod, self.min_ready, self.now)
        } else {
            Availability::No
        }
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Yes
    }

    fn count(&self, fits: impl Fn(&Pod) -> bool) -> i32 {
        i32::try_from(self.pods.values().filter(|pod| fits(pod)).count()).unwrap_or(i32::MAX)
    }
}

/// Decides.
pub(super) fn plan(set: &StatefulSet, replicas: &Replicas, revisions: &Revisions) -> Vec<Action> {
    let in_parallel = set.spec.pod_management_policy.as_deref() == Some("Parallel");
    let mut actions = Vec::new();
    let mut is_settled = true;
    for ordinal in replicas.wanted.clone() {
        match replicas.pods.get(&ordinal) {
            None => {
                let name = revision_for(set, replicas, revisions, ordinal);
                let template = revisions.template(set, name);
                let pod = build::pod(set, &template, ordinal, hash_of(set, name));
                actions.push(Action::Create(Box::new(pod)));
            }
            // It is created again once it is gone.
            Some(pod) if pods::is_finished(pod) && !pods::is_going(pod) => {
                actions.push(Action::Delete(Arc::clone(pod)));
            }
            Some(pod) if replicas.is_healthy(pod) => continue,
            Some(_) => {}
        }
        is_settled = false;
        if !in_parallel {
            return actions;
        }
    }
    let mut surplus = replicas
        .pods
        .iter()
        .rev()
        .filter(|(ordinal, _)| !replicas.wanted.contains(ordinal));
    if in_parallel {
        actions.extend(
            surplus
                .filter(|(_, pod)| !pods::is_going(pod))
                .map(|(_, pod)| Action::Delete(Arc::clone(pod))),
        );
    } else if let Some((_, pod)) = surplus.next() {
        is_settled = false;
        if !pods::is_going(pod) {
            actions.push(Action::Delete(Arc::clone(pod)));
        }
    }
    if is_settled && actions.is_empty() {
        actions.extend(next_update(set, replicas, revisions));
    }
    actions
}

/// The Pod to replace next in a rolling update: the highest ordinal first, down to the partition.
fn next_update(set: &StatefulSet, replicas: &Replicas, revisions: &Revisions) -> Option<Action> {
    let strategy = set.spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return None;
    }
    let from = replicas.wanted.start.saturating_add(partition(set));
    let update = hash_of(set, &revisions.update_name);
    let outdated = replicas
        .pods
        .range(from..)
        .rev()
        .map(|(_, pod)| pod)
        .find(|pod| revision_of(pod) != update);
    outdated
        .filter(|pod| !pods::is_going(pod))
        .map(|pod| Action::Delete(Arc::clone(pod)))
}

fn partition(set: &StatefulSet) -> i32 {
    let rolling = set
        .spec
        .update_strategy
        .as_ref()
        .and_then(|strategy| strategy.rolling_update.as_ref());
    rolling
        .and_then(|rolling| rolling.partition)
        .unwrap_or(0)
        .max(0)
}

/// The revision that a missing Pod is created from.
fn revision_for<'a>(
    set: &StatefulSet,
    replicas: &Replicas,
    revisions: &'a Revisions,
    ordinal: i32,
) -> &'a str {
    if ordinal < replicas.wanted.start.saturating_add(partition(set)) {
        &revisions.current_name
    } else {
        &revisions.update_name
    }
}

/// A revision's label value: its name without the set's.
fn hash_of<'a>(set: &StatefulSet, name: &'a str) -> &'a str {
    let parent = set.metadata.name.as_deref().unwrap_or_default();
    name.strip_prefix(parent)
        .and_then(|rest| rest.strip_prefix('-'))
        .unwrap_or(name)
}

fn revision_of(pod: &Pod) -> &str {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(REVISION))
        .map_or("", String::as_str)
}

/// The set with its new status, if it changes, and when to look again.
pub(super) fn status_of(
    set: &StatefulSet,
    replicas: &Replicas,
    revisions: &Revisions,
) -> (Option<StatefulSet>, Option<Duration>) {
    let some_unless_zero = |count: i32| (count != 0).then_some(count);
    let having = |name: &str| {
        let hash = hash_of(set, name);
        replicas.count(|pod| pods::is_active(pod) && revision_of(pod) == hash)
    };
    let total = replicas.count(|_| true);
    let ready = replicas.count(|pod| pods::is_active(pod) && pods::is_ready(pod));
    let updated = having(&revisions.update_name);
    let wanted = replicas.wanted.end - replicas.wanted.start;
    let is_rolled_out = updated == wanted && total == wanted && ready == wanted;
    let current_name = if is_rolled_out {
        &revisions.update_name
    } else {
        &revisions.current_name
    };
    let old = set.status.clone().unwrap_or_default();
    let status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: total,
        ready_replicas: some_unless_zero(ready),
        available_replicas: Some(replicas.count(|pod| replicas.is_healthy(pod))),
        current_replicas: some_unless_zero(having(current_name)),
        updated_replicas: some_unless_zero(updated),
        current_revision: Some(current_name.clone()),
        update_revision: Some(revisions.update_name.clone()),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions.clone(),
    };
    let waits = replicas
        .pods
        .values()
        .filter_map(|pod| match replicas.availability(pod) {
            Availability::In(wait) => Some(wait),
            Availability::Yes | Availability::No => None,
        });
    let changed = (normal(&status) != normal(&old)).then(|| StatefulSet {
        status: Some(status),
        ..set.clone()
    });
    (changed, waits.min())
}

/// The status without what servers differ in: zeros that are left out.
fn normal(status: &StatefulSetStatus) -> StatefulSetStatus {
    let mut normal = status.clone();
    for count in [
        &mut normal.ready_replicas,
        &mut normal.available_replicas,
        &mut normal.current_replicas,
        &mut normal.updated_replicas,
        &mut normal.collision_count,
    ] {
        *count = count.filter(|count| *count != 0);
    }
    normal
}

#[cfg(test)]
mod tests;
