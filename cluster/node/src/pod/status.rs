//! The status of a Pod, computed from what it wants and what is observed; never from what was wished.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState as StateField, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Backoff;
use super::decide::{Outcome, is_initialized, outcome, restart_at, restarts};
use super::observed::{ContainerState, Exit, Ground, ObservedContainer, ObservedPod};
use super::qos::qos_class;
use super::wanted::{Role, WantedContainer, WantedPod};

/// Condition type that says whether the Pod's containers are isolated from the host.
pub(crate) const ISOLATION_CONDITION: &str = "quarterdeck.dev/isolation";

/// What a status needs beside the Pod itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusContext<'a> {
    pub(crate) host_ip: IpAddr,
    pub(crate) backoff: &'a Backoff,
    pub(crate) now: Timestamp,
    /// The conditions last written, for their transition times and for those that others own.
    pub(crate) previous: &'a [PodCondition],
}

/// Computes the whole status.
pub(crate) fn pod_status(pod: &WantedPod, observed: &ObservedPod, context: StatusContext<'_>) -> PodStatus {
    let phase = phase(pod, observed);
    let ip = observed.ip.map(|ip| ip.to_string());
    let statuses = |keep: fn(Role) -> bool| -> Option<Vec<ContainerStatus>> {
        let list: Vec<_> = pod
            .containers
            .iter()
            .filter(|container| keep(container.role))
            .map(|container| container_status(pod, container, observed, &context))
            .collect();
        (!list.is_empty()).then_some(list)
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(pod, observed, phase, &context)),
        container_statuses: statuses(|role| role == Role::Main),
        init_container_statuses: statuses(|role| role != Role::Main),
        host_ip: Some(context.host_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: context.host_ip.to_string() }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        qos_class: Some(qos_class(&pod.spec()).to_owned()),
        start_time: observed.started_at.map(Time),
        observed_generation: pod.object.metadata.generation,
        reason: observed.failed.as_ref().map(|(reason, _)| reason.clone()),
        message: observed.failed.as_ref().map(|(_, message)| message.clone()),
        ..PodStatus::default()
    }
}

fn phase(pod: &WantedPod, observed: &ObservedPod) -> &'static str {
    match outcome(pod, observed) {
        Some(Outcome::Succeeded) => return "Succeeded",
        Some(Outcome::Failed) => return "Failed",
        None => {}
    }
    let began = pod.of_role(Role::Main).any(|container| {
        let state = observed.container(&container.name);
        state.is_running() || state.exit().is_some() || state.last_exit.is_some()
    });
    if began { "Running" } else { "Pending" }
}

fn conditions(
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
    let initialized = is_initialized(pod, observed) || phase == "Succeeded";
    let incomplete = || unfinished(pod, observed, |container, state| {
        container.role == Role::Init && state.exit().is_none_or(|exit| exit.code != 0)
            || container.role == Role::Sidecar && !state.started
    });
    let unready = unfinished(pod, observed, |container, state| container.role != Role::Init && !state.ready);
    let containers_ready = ended.is_none() && initialized && unready.is_empty();
    let gates_pass = pod.spec().readiness_gates.iter().flatten().all(|gate| {
        let given = pod.object.status.iter().flat_map(|status| status.conditions.iter().flatten());
        given.into_iter().any(|condition| condition.type_ == gate.condition_type && condition.status == "True")
    });
    let not_ready = |names: &[String]| match ended {
        Some(reason) => (reason.to_owned(), None),
        None => ("ContainersNotReady".to_owned(), Some(format!("containers with unready status: [{}]", names.join(" ")))),
    };
    let set = ConditionSet { pod, context };
    let mut list = vec![
        set.condition("PodReadyToStartContainers", observed.ground == Ground::Ready, None),
        set.condition("Initialized", initialized, Some((
            "ContainersNotInitialized".to_owned(),
            Some(format!("containers with incomplete status: [{}]", incomplete().join(" "))),
        ))),
        set.condition("Ready", containers_ready && gates_pass, Some(if containers_ready && !gates_pass {
            ("ReadinessGatesNotReady".to_owned(), None)
        } else {
            not_ready(&unready)
        })),
        set.condition("ContainersReady", containers_ready, Some(not_ready(&unready))),
        set.condition("PodScheduled", true, None),
    ];
    list.extend(set.isolation(observed));
    let ours: Vec<String> = list.iter().map(|condition| condition.type_.clone()).collect();
    list.extend(context.previous.iter().filter(|condition| !ours.contains(&condition.type_)).cloned());
    list
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
    fn condition(&self, type_: &str, is_true: bool, why_not: Option<(String, Option<String>)>) -> PodCondition {
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
        let is_true = known.iter().all(|(_, isolation)| isolation.starts_with("isolated"));
        let says: Vec<String> = known.iter().map(|(name, isolation)| format!("{name}: {isolation}")).collect();
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
        let before = self.context.previous.iter().find(|old| old.type_ == condition.type_);
        let since = before
            .filter(|old| old.status == condition.status)
            .and_then(|old| old.last_transition_time.clone())
            .unwrap_or(Time(whole_seconds(self.context.now)));
        PodCondition { last_transition_time: Some(since), ..condition }
    }
}

fn container_status(
    pod: &WantedPod,
    container: &WantedContainer,
    observed: &ObservedPod,
    context: &StatusContext<'_>,
) -> ContainerStatus {
    let state = observed.container(&container.name);
    let (field, last) = state_fields(pod, container, observed, &state, context);
    let container_id = match &state.state {
        ContainerState::Running { id, .. } => Some(id.clone()),
        ContainerState::Exited(exit) => exit.container_id.clone(),
        ContainerState::Absent | ContainerState::Starting | ContainerState::Refused { .. } => {
            state.last_exit.as_ref().and_then(|exit| exit.container_id.clone())
        }
    };
    let completed_init = container.role == Role::Init && state.exit().is_some_and(|exit| exit.code == 0);
    ContainerStatus {
        name: container.name.clone(),
        image: container.spec.image.clone().unwrap_or_default(),
        image_id: state.image_id.clone().unwrap_or_default(),
        container_id,
        ready: completed_init || (state.is_running() && state.ready),
        started: Some(state.is_running() && state.started),
        restart_count: i32::try_from(state.restart_count).unwrap_or(i32::MAX),
        state: Some(field),
        last_state: Some(last),
        ..ContainerStatus::default()
    }
}

fn state_fields(
    pod: &WantedPod,
    container: &WantedContainer,
    observed: &ObservedPod,
    state: &ObservedContainer,
    context: &StatusContext<'_>,
) -> (StateField, StateField) {
    let last = state.last_exit.as_ref().map(terminated).unwrap_or_default();
    match &state.state {
        ContainerState::Absent | ContainerState::Starting => {
            let initializing = container.role == Role::Main
                && pod.containers.iter().any(|other| other.role != Role::Main)
                && !is_initialized(pod, observed);
            let reason = if initializing { "PodInitializing" } else { "ContainerCreating" };
            let message = match &observed.ground {
                Ground::Refused { message, .. } => Some(message.clone()),
                _ => None,
            };
            (waiting(reason, message), last)
        }
        ContainerState::Refused { reason, message, .. } => (waiting(reason, Some(message.clone())), last),
        ContainerState::Running { since, .. } => {
            let running = ContainerStateRunning { started_at: Some(Time(whole_seconds(*since))) };
            (StateField { running: Some(running), ..StateField::default() }, last)
        }
        ContainerState::Exited(exit) => {
            let waits = pod.deletion_grace.is_none()
                && outcome(pod, observed).is_none()
                && restarts(container.role, pod.restart_policy, exit)
                && restart_at(state, exit, context.backoff) > context.now;
            if !waits {
                return (terminated(exit), last);
            }
            let delay = context.backoff.after_crash(state.crashes);
            let message = format!(
                "back-off {}s restarting failed container={} pod={}_{}({})",
                delay.as_secs(), container.name, pod.id.name, pod.id.namespace, pod.id.uid
            );
            (waiting("CrashLoopBackOff", Some(message)), terminated(exit))
        }
    }
}

fn waiting(reason: &str, message: Option<String>) -> StateField {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    StateField { waiting: Some(waiting), ..StateField::default() }
}

fn terminated(exit: &Exit) -> StateField {
    let terminated = ContainerStateTerminated {
        exit_code: exit.code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: exit.message.clone(),
        container_id: exit.container_id.clone(),
        started_at: exit.started_at.map(|time| Time(whole_seconds(time))),
        finished_at: exit.finished_at.map(|time| Time(whole_seconds(time))),
    };
    StateField { terminated: Some(terminated), ..StateField::default() }
}

/// Kubernetes times have whole seconds; a fraction would change each time it is read back.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
