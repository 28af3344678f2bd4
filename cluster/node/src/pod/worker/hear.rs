//! Takes in what came of actions: the only place where the observed state of a running Pod changes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Held, Outcome, Worker};
use crate::pod::observed::{ContainerState, Exit, Ground};
use crate::pod::start::{StartedContainer, reference};
use crate::pod::wanted::WantedContainer;
use crate::probes::Finding;
use crate::runtime::{Ended, RunningContainer, StartError};
use crate::services::expose::{Exposed, declared_ports, expose};

/// When a refused deletion is tried again.
const DELETE_RETRY: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn hear(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Prepared(result) => self.prepared(result),
            Outcome::Refreshed(result) => {
                self.is_refreshing = false;
                match result {
                    Ok(volumes) => self.volumes = volumes,
                    Err(message) => {
                        self.context.events.warning(
                            reference(&self.wanted, None),
                            "FailedMount",
                            message,
                        );
                    }
                }
            }
            Outcome::Started {
                container,
                attempt,
                result,
            } => match result {
                Ok(started) => self.started(&container, attempt, started),
                Err(error) => self.refused(&container, &error),
            },
            Outcome::Ended {
                container,
                attempt,
                ended,
                at,
            } => self.ended(&container, attempt, ended, at),
            Outcome::Stopped { container, hook } => {
                if let Err(message) = hook {
                    let about = reference(&self.wanted, self.find(&container));
                    self.context
                        .events
                        .warning(about, "FailedPreStopHook", message);
                }
            }
            Outcome::HookFailed { container, message } => {
                let about = reference(&self.wanted, self.find(&container));
                self.context
                    .events
                    .warning(about, "FailedPostStartHook", message);
                self.observed.container_mut(&container).unhealthy =
                    Some(format!("Container {container} failed its postStart hook"));
            }
            Outcome::TornDown => self.observed.ground = Ground::Gone,
            Outcome::Deleted(Ok(())) | Outcome::Done => {}
            Outcome::Deleted(Err(error)) => {
                tracing::warn!(pod = %self.wanted.id.name, %error, "pod not deleted");
                self.observed.deleted = false;
                self.tasks.spawn(async {
                    tokio::time::sleep(DELETE_RETRY).await;
                    Outcome::Done
                });
            }
            Outcome::Published(conditions) => self.published(conditions),
        }
    }

    fn prepared(
        &mut self,
        result: Result<(std::net::Ipv4Addr, crate::volumes::prepare::Volumes), String>,
    ) {
        match result {
            Ok((ip, volumes)) => {
                self.observed.ground = Ground::Ready;
                self.observed.ip = Some(ip);
                self.observed.refusals = 0;
                self.volumes = volumes;
                self.context
                    .table
                    .update(&self.wanted.id, |door| door.ip = Some(ip));
            }
            Err(message) => {
                self.observed.refusals += 1;
                self.context.events.warning(
                    reference(&self.wanted, None),
                    "FailedMount",
                    message.clone(),
                );
                // A volume is often missing only because its object comes a moment later.
                let retry_at = crate::pod::decide::later(
                    Timestamp::now(),
                    self.context
                        .backoff
                        .after_refusal(self.observed.refusals)
                        .min(MOUNT_RETRY_MAX),
                );
                self.observed.ground = Ground::Refused { message, retry_at };
            }
        }
    }

    fn started(&mut self, name: &str, attempt: u32, started: StartedContainer) {
        let StartedContainer {
            running,
            image_id,
            output,
            stdin,
        } = started;
        let since = Timestamp::now();
        let probes = self.context.shutdown.child_token();
        let state = self.observed.container_mut(name);
        state.state = ContainerState::Running {
            id: running.id(),
            since,
            stopping: false,
        };
        state.image_id = Some(image_id);
        state.isolation = Some(running.isolation());
        state.refusals = 0;
        if !running.isolation().starts_with("isolated") && attempt == 0 {
            let about = reference(&self.wanted, self.find(name));
            self.context.events.normal(
                about,
                "Unisolated",
                format!("Container {name} is {}", running.isolation()),
            );
        }
        self.context.table.update(&self.wanted.id, |door| {
            if let Some(container) = door.containers.get_mut(name) {
                container.attempt = Some(attempt);
                container.running = Some(Arc::clone(&running));
                container.output = Some(output);
                container.stdin = stdin;
            }
        });
        // Open connections go on while the container stops.
        let life = self.context.shutdown.child_token();
        self.expose(name, &running, &life);
        let (container, ending) = (name.to_owned(), Arc::clone(&running));
        self.tasks.spawn(async move {
            let ended = ending.ended().await;
            let at = Timestamp::now();
            life.cancel();
            // Told only when nothing of it is left, so that a deleted Pod leaves nothing either.
            ending.remove().await;
            Outcome::Ended {
                container,
                attempt,
                ended,
                at,
            }
        });
        self.held.insert(
            name.to_owned(),
            Held {
                running,
                attempt,
                since,
                probes,
            },
        );
        self.accompany(name);
    }

    /// Serves the declared ports of a sandbox, whose network nobody else reaches.
    fn expose(&self, name: &str, running: &Arc<dyn RunningContainer>, closing: &CancellationToken) {
        let (Some(ip), Some(container)) = (self.observed.ip, self.find(name)) else {
            return;
        };
        if !running.isolation().starts_with("isolated") {
            return;
        }
        let tasks = self.context.tasks.clone();
        for port in declared_ports(&container.spec) {
            let exposed = Exposed {
                running: Arc::clone(running),
                tasks: tasks.clone(),
                closing: closing.clone(),
            };
            tasks.spawn(expose(exposed, ip, port));
        }
    }

    fn refused(&mut self, name: &str, error: &StartError) {
        let about = reference(&self.wanted, self.find(name));
        let refusals = self.observed.container(name).refusals + 1;
        let is_pull = error.reason == "ErrImagePull";
        let event = if is_pull {
            format!("Failed to pull image: {}", error.message)
        } else {
            format!("Error: {}", error.message)
        };
        self.context.events.warning(
            about,
            if error.reason == "IsolationUnavailable" {
                error.reason
            } else {
                "Failed"
            },
            event,
        );
        let retry_at = self.retry_at(refusals);
        let reason = if is_pull && refusals > 1 {
            "ImagePullBackOff"
        } else {
            error.reason
        };
        let state = self.observed.container_mut(name);
        state.refusals = refusals;
        state.state = ContainerState::Refused {
            reason: reason.to_owned(),
            message: error.message.clone(),
            retry_at,
        };
    }

    fn ended(&mut self, name: &str, attempt: u32, ended: Ended, finished: Timestamp) {
        let Some(held) = self.held.remove(name) else {
            return;
        };
        if held.attempt != attempt {
            self.held.insert(name.to_owned(), held);
            return;
        }
        held.probes.cancel();
        let ran = Duration::try_from(finished.duration_since(held.since)).unwrap_or_default();
        let reset_after = self.context.backoff.reset_after;
        let reason = match (ended.out_of_memory && ended.code != 0, ended.code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        if reason == "OOMKilled" {
            let about = reference(&self.wanted, self.find(name));
            self.context.events.warning(
                about,
                "OOMKilled",
                format!("Container {name} ran out of memory"),
            );
        }
        self.context.table.update(&self.wanted.id, |door| {
            if let Some(container) = door.containers.get_mut(name) {
                (container.running, container.output, container.stdin) = (None, None, None);
            }
        });
        let state = self.observed.container_mut(name);
        state.crashes = if ran >= reset_after {
            1
        } else {
            state.crashes + 1
        };
        (state.started, state.ready, state.unhealthy) = (false, false, None);
        state.state = ContainerState::Exited(Exit {
            code: ended.code,
            signal: ended.signal,
            reason: reason.to_owned(),
            message: None,
            container_id: Some(held.running.id()),
            started_at: Some(held.since),
            finished_at: Some(finished),
        });
        self.tell_backoff(name);
    }

    fn tell_backoff(&self, name: &str) {
        let state = self.observed.container(name);
        let delay = self.context.backoff.after_crash(state.crashes);
        let restarts = match (self.find(name), state.exit()) {
            (Some(container), Some(exit)) => {
                crate::pod::decide::restarts(container.role, self.wanted.restart_policy, exit)
            }
            _ => false,
        };
        if restarts && !delay.is_zero() && self.wanted.deletion_grace.is_none() {
            let id = &self.wanted.id;
            let message = format!(
                "Back-off restarting failed container {name} in pod {}_{}({})",
                id.name, id.namespace, id.uid
            );
            self.context.events.warning(
                reference(&self.wanted, self.find(name)),
                "BackOff",
                message,
            );
        }
    }

    pub(super) fn hear_finding(&mut self, name: &str, attempt: u32, finding: Finding) {
        if self
            .held
            .get(name)
            .is_none_or(|held| held.attempt != attempt)
        {
            return;
        }
        match finding {
            Finding::Started => self.observed.container_mut(name).started = true,
            Finding::Ready(is_ready) => self.observed.container_mut(name).ready = is_ready,
            Finding::Failure { message, .. } => {
                self.context.events.warning(
                    reference(&self.wanted, self.find(name)),
                    "Unhealthy",
                    message,
                );
            }
            Finding::Dead { reason, grace } => {
                if let Some(grace) = grace {
                    self.wanted.termination_grace = grace;
                }
                self.observed.container_mut(name).unhealthy = Some(reason);
            }
        }
    }

    fn find(&self, name: &str) -> Option<&WantedContainer> {
        self.wanted
            .containers
            .iter()
            .find(|container| container.name == name)
    }
}

/// A missing volume is looked for at least this often.
const MOUNT_RETRY_MAX: Duration = Duration::from_secs(120);
