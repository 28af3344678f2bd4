//! The conditions of a Pod. Pure.

use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::is_initialized;
use super::observed::{Ground, ObservedContainer, ObservedPod};
use super::status::{StatusContext, whole_seconds};
use super::wanted::{Role, WantedContainer, WantedPod};

/// Condition type that says whether the Pod's containers are isolated from the host.
pub(crate) const ISOLATION_CONDITION: &str = "quarterdeck.dev/isolation";

/// Why a condition is false: reason and message.
type WhyNot = (String, Option<String>);

/// All conditions: ours as they are now, and those of others as they were.
pub(super) fn conditions(
    pod: &WantedPod,
    observed: &ObservedPod,
    phase: &str,
    context: &StatusContext<'_>,
) -> Vec<PodCondition> {
    let ended = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let is_initialized = is_initialized(pod, observed) || phase == "Succeeded";
    let unready = unready(pod, observed);
    let are_ready = ended.is_none() && is_initialized && unready.is_empty();
    let passes = gates_pass(pod);
    let not_ready: WhyNot = match ended {
        Some(reason) => (reason.to_owned(), None),
        None => why("ContainersNotReady", "unready", &unready),
    };
    let not_ready_yet: WhyNot = if are_ready && !passes {
        ("ReadinessGatesNotReady".to_owned(), None)
    } else {
        not_ready.clone()
    };
    let not_initialized = why(
        "ContainersNotInitialized",
        "incomplete",
        &incomplete(pod, observed),
    );
    let set = ConditionSet { pod, context };
    let has_ground = observed.ground == Ground::Ready;
    let mut list = vec![
        set.condition("PodReadyToStartContainers", has_ground, None),
        set.condition("Initialized", is_initialized, Some(not_initialized)),
        set.condition("Ready", are_ready && passes, Some(not_ready_yet)),
        set.condition("ContainersReady", are_ready, Some(not_ready)),
        set.condition("PodScheduled", true, None),
    ];
    list.extend(set.isolation(observed));
    let is_ours = |type_: &str| list.iter().any(|condition| condition.type_ == type_);
    let others: Vec<_> = context
        .previous
        .iter()
        .filter(|old| !is_ours(&old.type_))
        .cloned()
        .collect();
    list.extend(others);
    list
}

fn why(reason: &str, lack: &str, names: &[String]) -> WhyNot {
    let message = format!("containers with {lack} status: [{}]", names.join(" "));
    (reason.to_owned(), Some(message))
}

fn incomplete(pod: &WantedPod, observed: &ObservedPod) -> Vec<String> {
    unfinished(pod, observed, |container, state| match container.role {
        Role::Init => state.exit().is_none_or(|exit| exit.code != 0),
        Role::Sidecar => !state.started,
        Role::Main => false,
    })
}

fn unready(pod: &WantedPod, observed: &ObservedPod) -> Vec<String> {
    unfinished(pod, observed, |container, state| {
        container.role != Role::Init && !state.ready
    })
}

/// Whether the conditions that the Pod names beside ours are true.
fn gates_pass(pod: &WantedPod) -> bool {
    let status = pod.object.status.as_ref();
    let given: Vec<&PodCondition> = status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .collect();
    let is_true = |type_: &str| {
        given
            .iter()
            .any(|it| it.type_ == type_ && it.status == "True")
    };
    pod.spec()
        .readiness_gates
        .iter()
        .flatten()
        .all(|gate| is_true(&gate.condition_type))
}

fn unfinished(
    pod: &WantedPod,
    observed: &ObservedPod,
    is_unfinished: impl Fn(&WantedContainer, &ObservedContainer) -> bool,
) -> Vec<String> {
    pod.containers
        .iter()
        .filter(|container| is_unfinished(container, &observed.container(&container.name)))
        .map(|container| container.name.clone())
        .collect()
}

struct ConditionSet<'a> {
    pod: &'a WantedPod,
    context: &'a StatusContext<'a>,
}

impl ConditionSet<'_> {
    /// `why_not` is kept only where the condition is false.
    fn condition(&self, type_: &str, is_true: bool, why_not: Option<WhyNot>) -> PodCondition {
        let (reason, message) = match why_not {
            Some((reason, message)) if !is_true => (Some(reason), message),
            _ => (None, None),
        };
        self.stamped(PodCondition {
            type_: type_.to_owned(),
            status: if is_true { "True" } else { "False" }.to_owned(),
            reason,
            message,
            observed_generation: self.pod.object.metadata.generation,
            ..PodCondition::default()
        })
    }

    fn isolation(&self, observed: &ObservedPod) -> Option<PodCondition> {
        let known: Vec<(&String, &String)> = observed
            .containers
            .iter()
            .filter_map(|(name, container)| Some((name, container.isolation.as_ref()?)))
            .collect();
        if known.is_empty() {
            return None;
        }
        let is_true = known
            .iter()
            .all(|(_, isolation)| isolation.starts_with("isolated"));
        let says: Vec<String> = known
            .iter()
            .map(|(name, isolation)| format!("{name}: {isolation}"))
            .collect();
        Some(self.stamped(PodCondition {
            type_: ISOLATION_CONDITION.to_owned(),
            status: if is_true { "True" } else { "False" }.to_owned(),
            reason: Some(if is_true { "Sandboxed" } else { "HostProcess" }.to_owned()),
            message: Some(says.join("; ")),
            observed_generation: self.pod.object.metadata.generation,
            ..PodCondition::default()
        }))
    }

    fn stamped(&self, condition: PodCondition) -> PodCondition {
        let before = self
            .context
            .previous
            .iter()
            .find(|old| old.type_ == condition.type_);
        let since = before
            .filter(|old| old.status == condition.status)
            .and_then(|old| old.last_transition_time.clone())
            .unwrap_or(Time(whole_seconds(self.context.now)));
        PodCondition {
            last_transition_time: Some(since),
            ..condition
        }
    }
}
