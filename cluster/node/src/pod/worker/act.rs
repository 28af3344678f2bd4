//! Carries a decision out: every action that may take time becomes a task whose outcome is heard later.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};

use super::{Outcome, Worker};
use crate::explain::explain;
use crate::pod::decide::Action;
use crate::pod::lifecycle::{self, run_hook};
use crate::pod::observed::{ContainerState, Ground};
use crate::pod::start::{StartRequest, named_ports, reference, start};
use crate::probes::check::Target;
use crate::probes::{self};
use crate::runtime::StartError;

impl Worker {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Prepare => self.prepare(),
            Action::Start { container, attempt } => self.start(&container, attempt),
            Action::Stop {
                container,
                grace,
                reason,
            } => self.stop(&container, grace, &reason),
            Action::Fail { reason, message } => {
                self.context.events.warning(
                    reference(&self.wanted, None),
                    &reason,
                    message.clone(),
                );
                self.observed.failed = Some((reason, message));
            }
            Action::TearDown => self.tear_down(),
            Action::Delete => self.delete(),
        }
    }

    fn prepare(&mut self) {
        self.observed.ground = Ground::Preparing;
        let (context, wanted) = (Arc::clone(&self.context), self.wanted.clone());
        let volumes = std::mem::take(&mut self.volumes);
        self.tasks.spawn(async move {
            let ip = match context.addresses.lend(&wanted.id.uid) {
                Ok(ip) => ip,
                Err(error) => {
                    return Outcome::Prepared(Err(format!("cannot lend an address: {error}")));
                }
            };
            if let Err(error) = std::fs::create_dir_all(context.folders.pod(&wanted.id.uid)) {
                return Outcome::Prepared(Err(format!("cannot make the Pod's folder: {error}")));
            }
            let facts = Self::facts(&wanted, &context, ip);
            let made = context.volumes.prepare(facts.borrow(), volumes).await;
            Outcome::Prepared(
                made.map(|volumes| (ip, volumes))
                    .map_err(|error| explain(&error)),
            )
        });
    }

    /// Brings the files of the volumes up to date.
    pub(super) fn refresh(&mut self) {
        let Some(ip) = self.observed.ip.filter(|_| !self.is_refreshing) else {
            return;
        };
        self.is_refreshing = true;
        let (context, wanted, volumes) = (
            Arc::clone(&self.context),
            self.wanted.clone(),
            self.volumes.clone(),
        );
        self.tasks.spawn(async move {
            let facts = Self::facts(&wanted, &context, ip);
            let made = context.volumes.prepare(facts.borrow(), volumes).await;
            Outcome::Refreshed(made.map_err(|error| explain(&error)))
        });
    }

    fn start(&mut self, name: &str, attempt: u32) {
        let wanted = self
            .wanted
            .containers
            .iter()
            .find(|container| container.name == name)
            .cloned();
        let (Some(container), Some(ip)) = (wanted, self.observed.ip) else {
            return;
        };
        let state = self.observed.container_mut(name);
        if let ContainerState::Exited(exit) = &state.state {
            state.last_exit = Some(exit.clone());
        }
        state.state = ContainerState::Starting;
        state.restart_count = attempt;
        (state.started, state.ready, state.unhealthy) = (false, false, None);
        let request = StartRequest {
            pod: self.wanted.clone(),
            container,
            attempt,
            ip,
            volumes: self.volumes.clone(),
        };
        let (context, cancelled, container) = (
            Arc::clone(&self.context),
            self.starting.clone(),
            name.to_owned(),
        );
        self.tasks.spawn(async move {
            let result = tokio::select! {
                biased;
                () = cancelled.cancelled() => Err(StartError::new("ContainerCreating", "no longer wanted")),
                result = start(&context, request) => result,
            };
            Outcome::Started { container, attempt, result }
        });
    }

    fn stop(&mut self, name: &str, grace: Duration, reason: &str) {
        let Some(held) = self.held.get(name) else {
            return;
        };
        let Some(container) = self
            .wanted
            .containers
            .iter()
            .find(|container| container.name == name)
        else {
            return;
        };
        if let ContainerState::Running { stopping, .. } =
            &mut self.observed.container_mut(name).state
        {
            *stopping = true;
        }
        held.probes.cancel();
        let message = if reason.starts_with("Container") {
            reason.to_owned()
        } else {
            format!("Stopping container {name}")
        };
        self.context
            .events
            .normal(reference(&self.wanted, Some(container)), "Killing", message);
        let target = Target {
            container: Arc::clone(&held.running),
            ports: named_ports(&self.wanted),
        };
        let (spec, name) = (container.spec.clone(), name.to_owned());
        self.tasks.spawn(async move {
            let hook = lifecycle::stop(spec, target, grace).await;
            Outcome::Stopped {
                container: name,
                hook,
            }
        });
    }

    /// Starts what runs beside a container: its probes and its postStart hook.
    pub(super) fn accompany(&mut self, name: &str) {
        let Some(held) = self.held.get(name) else {
            return;
        };
        let Some(container) = self
            .wanted
            .containers
            .iter()
            .find(|container| container.name == name)
        else {
            return;
        };
        let target = Target {
            container: Arc::clone(&held.running),
            ports: named_ports(&self.wanted),
        };
        let hook = container
            .spec
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.clone());
        let (cancelled, attempt, name) = (held.probes.clone(), held.attempt, name.to_owned());
        if let Some(hook) = hook {
            let (target, name, cancelled) = (target.clone(), name.clone(), cancelled.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = cancelled.cancelled() => Outcome::Done,
                    result = run_hook(&hook, &target) => match result {
                        Ok(()) => Outcome::Done,
                        Err(message) => Outcome::HookFailed { container: name, message },
                    },
                }
            });
        }
        let (spec, all) = (container.spec.clone(), self.findings.0.clone());
        self.tasks.spawn(async move {
            let (sender, mut found) = tokio::sync::mpsc::channel(8);
            let forward = async {
                while let Some(finding) = found.recv().await {
                    // The worker outlives its tasks.
                    drop(all.send((name.clone(), attempt, finding)).await);
                }
            };
            tokio::select! {
                () = cancelled.cancelled() => {}
                _ = futures::future::join(probes::run(spec, target, sender), forward) => {}
            }
            Outcome::Done
        });
    }

    fn tear_down(&mut self) {
        self.observed.ground = Ground::TearingDown;
        let (context, id, keep) = (
            Arc::clone(&self.context),
            self.wanted.id.clone(),
            self.wanted.deletion_grace.is_none(),
        );
        self.tasks.spawn_blocking(move || {
            let folder = context.folders.pod(&id.uid);
            crate::volumes::unmount_below(&folder);
            // A finished Pod keeps its folder until it is deleted; only what the kernel holds is given back.
            if !keep && let Err(error) = context.folders.remove_pod(&id.uid) {
                tracing::warn!(pod = %id.name, namespace = %id.namespace, %error, "pod folder not removed");
            }
            Outcome::TornDown
        });
    }

    fn delete(&mut self) {
        self.observed.deleted = true;
        let (client, id, folders) = (
            self.context.client.clone(),
            self.wanted.id.clone(),
            self.context.folders.clone(),
        );
        self.tasks.spawn(async move {
            if let Err(error) = folders.remove_pod(&id.uid) {
                tracing::warn!(pod = %id.name, namespace = %id.namespace, %error, "pod folder not removed");
            }
            let pods: Api<Pod> = Api::namespaced(client, &id.namespace);
            let only_this = Preconditions { uid: Some(id.uid.clone()), resource_version: None };
            let parameters = DeleteParams::default().grace_period(0).preconditions(only_this);
            Outcome::Deleted(match pods.delete(&id.name, &parameters).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
                Err(error) => Err(error.to_string()),
            })
        });
    }

    /// When something that failed for the `count`-th time is tried again.
    pub(super) fn retry_at(&self, count: u32) -> Timestamp {
        crate::pod::decide::later(Timestamp::now(), self.context.backoff.after_refusal(count))
    }
}
