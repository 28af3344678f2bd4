//! How many Pods to create, which to delete, and what to say about it; pure.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use crate::{
    conditions,
    pods::{self, Availability},
};

/// The most Pods to create or delete at once.
const BURST_MAX: usize = 100;
/// The annotation by which people say which Pod to delete first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// How many Pods to create.
    pub(crate) create: usize,
    /// Which Pods to delete.
    pub(crate) delete: Vec<Arc<Pod>>,
}

/// Decides from the Pods that are ours.
pub(crate) fn plan(set: &ReplicaSet, owned: &[Arc<Pod>]) -> Plan {
    let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let mut active: Vec<&Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    if active.len() <= wanted {
        return Plan {
            create: (wanted - active.len()).min(BURST_MAX),
            delete: Vec::new(),
        };
    }
    active.sort_by_key(|pod| deletion_rank(pod));
    let surplus = (active.len() - wanted).min(BURST_MAX);
    Plan {
        create: 0,
        delete: active[..surplus]
            .iter()
            .map(|pod| Arc::clone(pod))
            .collect(),
    }
}

/// Least loss first: not assigned, not running, not ready, cheap by annotation, often restarted, young.
type DeletionRank = (bool, u8, bool, i32, Reverse<i32>, Reverse<Option<Time>>);

fn deletion_rank(pod: &Pod) -> DeletionRank {
    let is_assigned = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.is_some());
    let phase = match pods::phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let annotations = pod.metadata.annotations.as_ref();
    let cost = annotations
        .and_then(|all| all.get(DELETION_COST))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0);
    let age = Reverse(pod.metadata.creation_timestamp.clone());
    (
        is_assigned,
        phase,
        pods::is_ready(pod),
        cost,
        Reverse(pods::restarts(pod)),
        age,
    )
}

/// The set with its new status, if it changes, and when to look again.
pub(crate) fn status_of(
    set: &ReplicaSet,
    owned: &[Arc<Pod>],
    failure: Option<&str>,
    now: Timestamp,
) -> (Option<ReplicaSet>, Option<Duration>) {
    let min_ready =
        Duration::from_secs(u64::try_from(set.spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0));
    let active: Vec<&Arc<Pod>> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    let template_labels = set
        .spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref()?.labels.clone())
        .unwrap_or_default();
    let is_fully_labeled = |pod: &Pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        template_labels
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value))
    };
    let availabilities = || {
        active
            .iter()
            .map(|pod| pods::availability(pod, min_ready, now))
    };
    let count =
        |fits: &dyn Fn(&Pod) -> bool| counted(active.iter().filter(|pod| fits(pod)).count());
    let mut changed = set.clone();
    let mut conditions = set
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    match failure {
        Some(message) => conditions::set(
            &mut conditions,
            ReplicaSetCondition {
                type_: Some("ReplicaFailure".to_owned()),
                status: Some("True".to_owned()),
                reason: Some("FailedCreate".to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: Some(Time(now)),
            },
        ),
        None => conditions::remove(&mut conditions, "ReplicaFailure"),
    }
    changed.status = Some(ReplicaSetStatus {
        replicas: counted(active.len()),
        fully_labeled_replicas: some_unless_zero(count(&is_fully_labeled)),
        ready_replicas: some_unless_zero(count(&pods::is_ready)),
        available_replicas: some_unless_zero(counted(
            availabilities()
                .filter(|availability| *availability == Availability::Yes)
                .count(),
        )),
        observed_generation: set.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
        terminating_replicas: None,
    });
    let soonest = availabilities().filter_map(|availability| match availability {
        Availability::In(wait) => Some(wait),
        Availability::Yes | Availability::No => None,
    });
    (is_news(set, &changed).then_some(changed), soonest.min())
}

/// Whether the status says something new; the server may have added zeros that we leave out.
fn is_news(old: &ReplicaSet, new: &ReplicaSet) -> bool {
    let normal = |set: &ReplicaSet| {
        let status = set.status.clone()?;
        Some(ReplicaSetStatus {
            fully_labeled_replicas: status.fully_labeled_replicas.filter(|count| *count != 0),
            ready_replicas: status.ready_replicas.filter(|count| *count != 0),
            available_replicas: status.available_replicas.filter(|count| *count != 0),
            terminating_replicas: None,
            ..status
        })
    };
    normal(old) != normal(new)
}

fn counted(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn some_unless_zero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use k8s_openapi::{
        api::{
            apps::v1::{ReplicaSet, ReplicaSetSpec},
            core::v1::{Pod, PodCondition, PodSpec, PodStatus},
        },
        apimachinery::pkg::apis::meta::v1::Time,
        jiff::Timestamp,
    };

    use super::{plan, status_of};

    fn set(replicas: i32) -> ReplicaSet {
        ReplicaSet {
            spec: ReplicaSetSpec {
                replicas: Some(replicas),
                ..ReplicaSetSpec::default()
            },
            ..ReplicaSet::default()
        }
    }

    fn pod(name: &str, phase: &str, ready_since: Option<i64>) -> Arc<Pod> {
        let ready = ready_since.map(|second| PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(Timestamp::from_second(second).unwrap())),
            ..PodCondition::default()
        });
        let mut pod = Pod {
            spec: Some(PodSpec {
                node_name: Some("node".to_owned()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.to_owned()),
                conditions: ready.map(|condition| vec![condition]),
                ..PodStatus::default()
            }),
            ..Pod::default()
        };
        pod.metadata.name = Some(name.to_owned());
        Arc::new(pod)
    }

    #[track_caller]
    fn check(replicas: i32, owned: &[Arc<Pod>], create: usize, delete: &[&str]) {
        let plan = plan(&set(replicas), owned);
        let deleted: Vec<&str> = plan
            .delete
            .iter()
            .filter_map(|pod| pod.metadata.name.as_deref())
            .collect();
        assert_eq!((plan.create, deleted.as_slice()), (create, delete));
    }

    #[test]
    fn missing_replicas_are_created_and_the_least_useful_are_deleted_first() {
        let ready = pod("ready", "Running", Some(0));
        let unready = pod("unready", "Running", None);
        let pending = pod("pending", "Pending", None);
        let failed = pod("failed", "Failed", None);
        check(2, &[], 2, &[]);
        check(2, &[Arc::clone(&ready), Arc::clone(&failed)], 1, &[]);
        check(1, &[Arc::clone(&ready)], 0, &[]);
        check(
            1,
            &[
                Arc::clone(&ready),
                Arc::clone(&unready),
                Arc::clone(&pending),
            ],
            0,
            &["pending", "unready"],
        );
        check(0, &[ready], 0, &["ready"]);
    }

    #[test]
    fn availability_waits_for_min_ready_seconds_and_steady_state_is_no_news() {
        let mut set = set(1);
        set.spec.min_ready_seconds = Some(10);
        let pods = [pod("a", "Running", Some(100))];
        let (changed, next) = status_of(&set, &pods, None, Timestamp::from_second(104).unwrap());
        let changed = changed.unwrap();
        let status = changed.status.as_ref().unwrap();
        assert_eq!(
            (status.ready_replicas, status.available_replicas),
            (Some(1), None)
        );
        assert_eq!(next, Some(Duration::from_secs(6)));
        let (again, _) = status_of(&changed, &pods, None, Timestamp::from_second(105).unwrap());
        assert_eq!(again, None);
        let (available, next) =
            status_of(&changed, &pods, None, Timestamp::from_second(110).unwrap());
        assert_eq!(
            available.unwrap().status.unwrap().available_replicas,
            Some(1)
        );
        assert_eq!(next, None);
    }
}
