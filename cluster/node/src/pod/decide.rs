//! The pure core of the node: from what a Pod wants and what is observed to what is done next.
//!
//! Invariants: an init container never runs beside a later one; a sidecar outlives the main containers; nothing is started
//! for a Pod that is deleted, finished or failed; the object is removed only when nothing of it is left on the host.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::backoff::Backoff;
use super::observed::{ContainerState, Exit, Ground, ObservedContainer, ObservedPod};
use super::wanted::{RestartPolicy, Role, WantedContainer, WantedPod};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the address, the folders and the volumes.
    Prepare,
    Start {
        container: String,
        attempt: u32,
    },
    Stop {
        container: String,
        grace: Duration,
        reason: String,
    },
    /// Fail the whole Pod.
    Fail {
        reason: String,
        message: String,
    },
    /// Give back what `Prepare` made.
    TearDown,
    /// Remove the object from the API.
    Delete,
}

/// What to do now and when to decide again at the latest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) actions: Vec<Action>,
    pub(crate) look_again: Option<Timestamp>,
}

impl Decision {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn look_at(&mut self, when: Timestamp) {
        self.look_again = Some(self.look_again.map_or(when, |earlier| earlier.min(when)));
    }
}

/// How a Pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
}

/// Decides what happens to one Pod.
pub(crate) fn decide(
    pod: &WantedPod,
    observed: &ObservedPod,
    backoff: &Backoff,
    now: Timestamp,
) -> Decision {
    let mut decision = Decision::default();
    if let Some(grace) = pod.deletion_grace {
        stop_all(pod, observed, grace, "the Pod is deleted", &mut decision);
        if !observed.any_alive() {
            finish(observed, true, &mut decision);
        }
        return decision;
    }
    if outcome(pod, observed).is_some() {
        stop_all(
            pod,
            observed,
            pod.termination_grace,
            "the Pod has ended",
            &mut decision,
        );
        if !observed.any_alive() {
            finish(observed, false, &mut decision);
        }
        return decision;
    }
    if past_deadline(pod, observed, now, &mut decision) {
        decision.act(Action::Fail {
            reason: "DeadlineExceeded".to_owned(),
            message: "Pod was active on the node longer than the specified deadline".to_owned(),
        });
        return decision;
    }
    match &observed.ground {
        Ground::Absent => decision.act(Action::Prepare),
        Ground::Refused { retry_at, .. } if *retry_at <= now => decision.act(Action::Prepare),
        Ground::Refused { retry_at, .. } => decision.look_at(*retry_at),
        Ground::Ready => run_containers(pod, observed, backoff, now, &mut decision),
        Ground::Preparing | Ground::TearingDown | Ground::Gone => {}
    }
    decision
}

/// How the Pod ended, if it has.
pub(crate) fn outcome(pod: &WantedPod, observed: &ObservedPod) -> Option<Outcome> {
    if observed.failed.is_some() {
        return Some(Outcome::Failed);
    }
    let init_failed = pod.of_role(Role::Init).any(|container| {
        let state = observed.container(&container.name);
        state
            .exit()
            .is_some_and(|exit| exit.code != 0 && pod.restart_policy == RestartPolicy::Never)
    });
    if init_failed {
        return Some(Outcome::Failed);
    }
    let mut worst = Outcome::Succeeded;
    for container in pod.of_role(Role::Main) {
        let state = observed.container(&container.name);
        let exit = state.exit()?;
        if restarts(container.role, pod.restart_policy, exit) {
            return None;
        }
        if exit.code != 0 {
            worst = Outcome::Failed;
        }
    }
    Some(worst)
}

/// Whether every init container has completed and every sidecar has started.
pub(crate) fn is_initialized(pod: &WantedPod, observed: &ObservedPod) -> bool {
    let any_main = pod.of_role(Role::Main).any(|container| {
        let state = observed.container(&container.name);
        state.is_alive() || state.exit().is_some()
    });
    let mut before = pod
        .containers
        .iter()
        .filter(|container| container.role != Role::Main);
    any_main || before.all(|container| is_past(container, &observed.container(&container.name)))
}

/// Whether a container that ended like this is started again.
pub(crate) fn restarts(role: Role, policy: RestartPolicy, exit: &Exit) -> bool {
    match (role, policy) {
        (Role::Sidecar, _) | (Role::Main, RestartPolicy::Always) => true,
        (Role::Init, RestartPolicy::Always | RestartPolicy::OnFailure)
        | (Role::Main, RestartPolicy::OnFailure) => exit.code != 0,
        (Role::Init | Role::Main, RestartPolicy::Never) => false,
    }
}

/// When a container that ended may run again.
pub(crate) fn restart_at(
    container: &ObservedContainer,
    exit: &Exit,
    backoff: &Backoff,
) -> Timestamp {
    let finished = exit.finished_at.unwrap_or(Timestamp::UNIX_EPOCH);
    later(finished, backoff.after_crash(container.crashes))
}

fn run_containers(
    pod: &WantedPod,
    observed: &ObservedPod,
    backoff: &Backoff,
    now: Timestamp,
    decision: &mut Decision,
) {
    let mains_began = is_initialized(pod, observed);
    let mut blocked = false;
    for container in &pod.containers {
        let state = observed.container(&container.name);
        if container.role == Role::Init && mains_began {
            continue;
        }
        if blocked {
            continue;
        }
        step(pod, container, &state, backoff, now, decision);
        if container.role != Role::Main && !mains_began {
            blocked |= !is_past(container, &state);
        }
    }
}

/// Brings one container that may run now a step further.
fn step(
    pod: &WantedPod,
    container: &WantedContainer,
    state: &ObservedContainer,
    backoff: &Backoff,
    now: Timestamp,
    decision: &mut Decision,
) {
    let start = |attempt| Action::Start {
        container: container.name.clone(),
        attempt,
    };
    match &state.state {
        ContainerState::Absent => decision.act(start(state.restart_count)),
        ContainerState::Starting | ContainerState::Running { stopping: true, .. } => {}
        ContainerState::Refused { retry_at, .. } if *retry_at <= now => {
            decision.act(start(state.restart_count));
        }
        ContainerState::Refused { retry_at, .. } => decision.look_at(*retry_at),
        ContainerState::Running { .. } => {
            if let Some(reason) = &state.unhealthy {
                decision.act(Action::Stop {
                    container: container.name.clone(),
                    grace: pod.termination_grace,
                    reason: reason.clone(),
                });
            }
        }
        ContainerState::Exited(exit) => {
            if !restarts(container.role, pod.restart_policy, exit) {
                return;
            }
            let due = restart_at(state, exit, backoff);
            if due <= now {
                decision.act(start(state.restart_count + 1));
            } else {
                decision.look_at(due);
            }
        }
    }
}

/// Whether the containers after this one may start.
fn is_past(container: &WantedContainer, state: &ObservedContainer) -> bool {
    match container.role {
        Role::Init => state.exit().is_some_and(|exit| exit.code == 0),
        Role::Sidecar => state.is_running() && state.started,
        Role::Main => false,
    }
}

/// Stops main and init containers first and sidecars, last one first, when these are gone.
fn stop_all(
    pod: &WantedPod,
    observed: &ObservedPod,
    grace: Duration,
    reason: &str,
    decision: &mut Decision,
) {
    let mut stop = |container: &WantedContainer| {
        let state = observed.container(&container.name);
        if matches!(
            state.state,
            ContainerState::Running {
                stopping: false,
                ..
            }
        ) {
            decision.act(Action::Stop {
                container: container.name.clone(),
                grace,
                reason: reason.to_owned(),
            });
        }
        state.is_alive()
    };
    let mut alive = false;
    for container in pod
        .containers
        .iter()
        .filter(|container| container.role != Role::Sidecar)
    {
        alive |= stop(container);
    }
    for container in pod
        .containers
        .iter()
        .rev()
        .filter(|container| container.role == Role::Sidecar)
    {
        if alive {
            return;
        }
        alive = stop(container);
    }
}

fn finish(observed: &ObservedPod, remove: bool, decision: &mut Decision) {
    match observed.ground {
        Ground::Ready | Ground::Refused { .. } => decision.act(Action::TearDown),
        Ground::Preparing | Ground::TearingDown => {}
        Ground::Absent | Ground::Gone if remove && !observed.deleted => {
            decision.act(Action::Delete);
        }
        Ground::Absent | Ground::Gone => {}
    }
}

fn past_deadline(
    pod: &WantedPod,
    observed: &ObservedPod,
    now: Timestamp,
    decision: &mut Decision,
) -> bool {
    let (Some(limit), Some(since)) = (pod.active_deadline, observed.started_at) else {
        return false;
    };
    let due = later(since, limit);
    if now < due {
        decision.look_at(due);
    }
    due <= now
}

/// `time` moved by `by`, or the end of time.
pub(crate) fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| time.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
