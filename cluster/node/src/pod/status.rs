//! The status of a Pod, computed from what it wants and what is observed; never from what was wished.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState as StateField, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::Backoff;
use super::conditions::conditions;
use super::decide::{Outcome, is_initialized, outcome, restart_at, restarts};
use super::observed::{ContainerState, Exit, Ground, ObservedContainer, ObservedPod};
use super::qos::qos_class;
use super::wanted::{Role, WantedContainer, WantedPod};

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
pub(crate) fn pod_status(
    pod: &WantedPod,
    observed: &ObservedPod,
    context: StatusContext<'_>,
) -> PodStatus {
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
        host_ips: Some(vec![HostIP {
            ip: context.host_ip.to_string(),
        }]),
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
        ContainerState::Absent | ContainerState::Starting | ContainerState::Refused { .. } => state
            .last_exit
            .as_ref()
            .and_then(|exit| exit.container_id.clone()),
    };
    let completed_init =
        container.role == Role::Init && state.exit().is_some_and(|exit| exit.code == 0);
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
            let reason = if initializing {
                "PodInitializing"
            } else {
                "ContainerCreating"
            };
            let message = match &observed.ground {
                Ground::Refused { message, .. } => Some(message.clone()),
                _ => None,
            };
            (waiting(reason, message), last)
        }
        ContainerState::Refused {
            reason, message, ..
        } => (waiting(reason, Some(message.clone())), last),
        ContainerState::Running { since, .. } => {
            let running = ContainerStateRunning {
                started_at: Some(Time(whole_seconds(*since))),
            };
            (
                StateField {
                    running: Some(running),
                    ..StateField::default()
                },
                last,
            )
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
                delay.as_secs(),
                container.name,
                pod.id.name,
                pod.id.namespace,
                pod.id.uid
            );
            (waiting("CrashLoopBackOff", Some(message)), terminated(exit))
        }
    }
}

fn waiting(reason: &str, message: Option<String>) -> StateField {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message,
    };
    StateField {
        waiting: Some(waiting),
        ..StateField::default()
    }
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
    StateField {
        terminated: Some(terminated),
        ..StateField::default()
    }
}

/// Kubernetes times have whole seconds; a fraction would change each time it is read back.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
