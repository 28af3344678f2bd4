//! What a restarted node believes about a Pod whose containers ended with the former node process.

use k8s_openapi::api::core::v1::{
    ContainerState as StateField, ContainerStateTerminated, ContainerStatus,
};

use super::decide::{Outcome, outcome};
use super::observed::{ContainerState, Exit, Ground, ObservedContainer, ObservedPod};
use super::wanted::{Role, WantedPod};

const GONE_MESSAGE: &str = "The container could not be located when the node was restarted";

/// Reads back the last status; what it says is running has ended.
pub(crate) fn restored(pod: &WantedPod) -> ObservedPod {
    let mut observed = ObservedPod {
        started_at: pod.started_at(),
        ..ObservedPod::default()
    };
    let Some(status) = pod.object.status.as_ref() else {
        return observed;
    };
    let statuses = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    for status in statuses {
        observed
            .containers
            .insert(status.name.clone(), restored_container(status));
    }
    if status.phase.as_deref() == Some("Failed")
        && let Some(reason) = &status.reason
    {
        observed.failed = Some((reason.clone(), status.message.clone().unwrap_or_default()));
    }
    observed.ip = status.pod_ip.as_ref().and_then(|ip| ip.parse().ok());
    if outcome(pod, &observed).is_some() {
        observed.ground = Ground::Gone;
        return observed;
    }
    // The Pod starts anew, so its init containers and sidecars do too.
    for container in pod
        .containers
        .iter()
        .filter(|container| container.role != Role::Main)
    {
        if let Some(state) = observed.containers.get_mut(&container.name) {
            forget(state);
        }
    }
    for state in observed.containers.values_mut() {
        state.crashes = 0;
        if let ContainerState::Exited(exit) = &mut state.state
            && exit.reason == "ContainerStatusUnknown"
        {
            exit.finished_at = None;
        }
    }
    if outcome(pod, &observed) == Some(Outcome::Failed) {
        observed.ground = Ground::Gone;
    }
    if observed
        .containers
        .values()
        .any(|state| state.exit().is_some())
        && pod.containers.len() > pod.of_role(Role::Main).count()
    {
        restart_mains(pod, &mut observed);
    }
    observed
}

/// Main containers must not run before the init containers have, so they too count as not started.
fn restart_mains(pod: &WantedPod, observed: &mut ObservedPod) {
    for container in pod.of_role(Role::Main) {
        let Some(state) = observed.containers.get_mut(&container.name) else {
            continue;
        };
        let again = state
            .exit()
            .is_some_and(|exit| super::decide::restarts(Role::Main, pod.restart_policy, exit));
        if again {
            forget(state);
        }
    }
}

fn forget(state: &mut ObservedContainer) {
    if let ContainerState::Exited(exit) = &state.state {
        state.last_exit = Some(exit.clone());
        state.state = ContainerState::Absent;
        state.restart_count += 1;
    }
}

fn restored_container(status: &ContainerStatus) -> ObservedContainer {
    let last_exit = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .map(exit_of);
    let state = match &status.state {
        Some(StateField {
            terminated: Some(terminated),
            ..
        }) => ContainerState::Exited(exit_of(terminated)),
        Some(StateField {
            running: Some(running),
            ..
        }) => ContainerState::Exited(Exit {
            code: 137,
            signal: None,
            reason: "ContainerStatusUnknown".to_owned(),
            message: Some(GONE_MESSAGE.to_owned()),
            container_id: status.container_id.clone(),
            started_at: running.started_at.as_ref().map(|time| time.0),
            finished_at: None,
        }),
        _ => match &last_exit {
            Some(exit) => ContainerState::Exited(Exit {
                finished_at: None,
                ..exit.clone()
            }),
            None => ContainerState::Absent,
        },
    };
    ObservedContainer {
        state,
        last_exit,
        restart_count: u32::try_from(status.restart_count).unwrap_or(0),
        ..ObservedContainer::default()
    }
}

fn exit_of(terminated: &ContainerStateTerminated) -> Exit {
    Exit {
        code: terminated.exit_code,
        signal: terminated.signal,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone(),
        container_id: terminated.container_id.clone(),
        started_at: terminated.started_at.as_ref().map(|time| time.0),
        finished_at: terminated.finished_at.as_ref().map(|time| time.0),
    }
}
