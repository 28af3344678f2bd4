//! Runs one Pod: decides, acts, listens to what comes of it, and writes the status; one task per Pod.

mod act;
mod hear;
mod publish;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::decide::decide;
use super::observed::{Ground, ObservedPod};
use super::restore::restored;
use super::start::StartedContainer;
use super::table::{ContainerDoor, PodDoor};
use super::wanted::{PodId, Role, WantedPod};
use crate::context::NodeContext;
use crate::fields::PodFacts;
use crate::probes::Finding;
use crate::runtime::{Ended, RunningContainer, StartError};
use crate::volumes::prepare::Volumes;

/// Findings of one Pod's probes that may wait.
const FINDINGS_MAX: usize = 64;
/// Longest time without looking at the Pod.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(3600);
/// When a failed write of the status is tried again.
const STATUS_RETRY: Duration = Duration::from_secs(1);

/// What the API says about a Pod.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Run(Arc<Pod>),
    /// The object is gone.
    Gone,
}

/// What came of an action.
enum Outcome {
    Prepared(Result<(std::net::Ipv4Addr, Volumes), String>),
    Refreshed(Result<Volumes, String>),
    Started {
        container: String,
        attempt: u32,
        result: Result<StartedContainer, StartError>,
    },
    Ended {
        container: String,
        attempt: u32,
        ended: Ended,
        at: Timestamp,
    },
    Stopped {
        container: String,
        hook: Result<(), String>,
    },
    HookFailed {
        container: String,
        message: String,
    },
    TornDown,
    Deleted(Result<(), String>),
    Published(Option<Vec<PodCondition>>),
    Done,
}

/// One container as the worker holds it.
struct Held {
    running: Arc<dyn RunningContainer>,
    attempt: u32,
    since: Timestamp,
    probes: CancellationToken,
}

/// What a probe found out about an attempt of a container.
type FindingOf = (String, u32, Finding);

/// The state of one Pod's task.
pub(crate) struct Worker {
    context: Arc<NodeContext>,
    wanted: WantedPod,
    observed: ObservedPod,
    held: BTreeMap<String, Held>,
    volumes: Volumes,
    is_refreshing: bool,
    tasks: JoinSet<Outcome>,
    findings: (mpsc::Sender<FindingOf>, mpsc::Receiver<FindingOf>),
    /// Ends what may take long before a container starts, once it is not wanted any more.
    starting: CancellationToken,
    status: publish::Published,
    is_gone: bool,
}

/// Runs a Pod until it is gone from the API and from this host, or the node shuts down.
pub(crate) async fn run(context: Arc<NodeContext>, pod: Arc<Pod>, wishes: watch::Receiver<Wish>) {
    let mut worker = Worker::new(context, pod);
    worker.open_door();
    Box::pin(worker.work(wishes)).await;
    worker.end().await;
}

impl Worker {
    fn new(context: Arc<NodeContext>, pod: Arc<Pod>) -> Self {
        let wanted = WantedPod::of(pod);
        let mut observed = restored(&wanted);
        if observed.started_at.is_none() {
            observed.started_at = Some(Timestamp::now());
        }
        let conditions = wanted
            .object
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone());
        Self {
            context,
            observed,
            held: BTreeMap::new(),
            volumes: Volumes::default(),
            is_refreshing: false,
            tasks: JoinSet::new(),
            findings: mpsc::channel(FINDINGS_MAX),
            starting: CancellationToken::new(),
            status: publish::Published::new(conditions.unwrap_or_default()),
            is_gone: false,
            wanted,
        }
    }

    async fn work(&mut self, mut wishes: watch::Receiver<Wish>) {
        let shutdown = self.context.shutdown.clone();
        let mut files = self.context.caches.files_changed.clone();
        // The Pod may have changed since the worker was made.
        wishes.mark_changed();
        loop {
            if self.is_finished() {
                return;
            }
            let look_again = self.decide_and_act();
            self.publish();
            let wait = until(look_again);
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = wishes.changed() => match changed {
                    Ok(()) => {
                        let wish = wishes.borrow_and_update().clone();
                        self.take_wish(&wish);
                    }
                    Err(_) => return,
                },
                Some(outcome) = self.tasks.join_next() => match outcome {
                    Ok(outcome) => self.hear(outcome),
                    Err(error) => tracing::error!(pod = %self.wanted.id.name, %error, "pod task failed"),
                },
                Some((container, attempt, finding)) = self.findings.1.recv() => self.hear_finding(&container, attempt, finding),
                Ok(()) = files.changed() => self.files_changed(),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn take_wish(&mut self, wish: &Wish) {
        match wish {
            Wish::Run(pod) => self.wanted = WantedPod::of(Arc::clone(pod)),
            Wish::Gone if !self.is_gone => {
                self.is_gone = true;
                self.observed.deleted = true;
                // Removed without waiting for us: nothing is left that could ask for grace.
                self.wanted.deletion_grace = Some(Duration::ZERO);
                for held in self.held.values() {
                    held.running.kill();
                }
            }
            Wish::Gone => {}
        }
        if self.wanted.deletion_grace.is_some() {
            self.starting.cancel();
        }
    }

    fn is_finished(&self) -> bool {
        self.is_gone
            && !self.observed.any_alive()
            && matches!(self.observed.ground, Ground::Gone | Ground::Absent)
    }

    fn decide_and_act(&mut self) -> Option<Timestamp> {
        let decision = decide(
            &self.wanted,
            &self.observed,
            &self.context.backoff,
            Timestamp::now(),
        );
        for action in decision.actions {
            self.act(action);
        }
        let mut look_again = decision.look_again;
        if self.observed.ground == Ground::Ready && self.wanted.deletion_grace.is_none() {
            let renew = self.volumes.renew_at();
            if renew.is_some_and(|at| at <= Timestamp::now()) {
                self.refresh();
            } else {
                look_again = [look_again, renew].into_iter().flatten().min();
            }
        }
        look_again
    }

    fn files_changed(&mut self) {
        match &mut self.observed.ground {
            Ground::Ready => self.refresh(),
            // What was missing may be there now.
            Ground::Refused { retry_at, .. } => *retry_at = Timestamp::now(),
            Ground::Absent | Ground::Preparing | Ground::TearingDown | Ground::Gone => {}
        }
        for container in self.observed.containers.values_mut() {
            if let super::observed::ContainerState::Refused {
                reason, retry_at, ..
            } = &mut container.state
                && reason == "CreateContainerConfigError"
            {
                *retry_at = Timestamp::now();
            }
        }
    }

    /// Lets those who come from outside find the Pod.
    fn open_door(&self) {
        let mut order: Vec<String> = self
            .wanted
            .of_role(Role::Main)
            .map(|container| container.name.clone())
            .collect();
        let before = self
            .wanted
            .containers
            .iter()
            .filter(|container| container.role != Role::Main);
        order.extend(before.map(|container| container.name.clone()));
        let containers = self.wanted.containers.iter().map(|container| {
            let state = self.observed.container(&container.name);
            let attempt = (state.exit().is_some() || state.last_exit.is_some())
                .then_some(state.restart_count);
            (
                container.name.clone(),
                ContainerDoor {
                    attempt,
                    ..ContainerDoor::default()
                },
            )
        });
        self.context.table.put(PodDoor {
            id: self.wanted.id.clone(),
            ip: self.observed.ip,
            order,
            containers: containers.collect(),
        });
    }

    fn id(&self) -> &PodId {
        &self.wanted.id
    }

    fn facts(wanted: &WantedPod, context: &NodeContext, pod_ip: std::net::Ipv4Addr) -> OwnedFacts {
        OwnedFacts {
            pod: Arc::clone(&wanted.object),
            pod_ip,
            host_ip: context.host_ip,
        }
    }

    /// Ends every process of the Pod; the object stays, for the next node process.
    async fn end(&mut self) {
        self.starting.cancel();
        let grace = self
            .wanted
            .deletion_grace
            .unwrap_or(self.wanted.termination_grace)
            .min(SHUTDOWN_GRACE_MAX);
        let mut mains = Vec::new();
        let mut sidecars = Vec::new();
        for container in &self.wanted.containers {
            if let Some(held) = self.held.remove(&container.name) {
                held.probes.cancel();
                if container.role == Role::Sidecar {
                    sidecars.push(held);
                } else {
                    mains.push(held);
                }
            }
        }
        end_all(mains, grace).await;
        end_all(sidecars, grace).await;
        // What was starting ends with its task, or is ended here.
        let drain = async {
            while let Some(outcome) = self.tasks.join_next().await {
                if let Ok(Outcome::Started {
                    result: Ok(started),
                    ..
                }) = outcome
                {
                    started.running.kill();
                    started.running.ended().await;
                    started.running.remove().await;
                }
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drain).await.is_err() {
            self.tasks.shutdown().await;
        }
        if self.is_gone {
            if let Err(error) = self.context.folders.remove_pod(&self.wanted.id.uid) {
                tracing::warn!(pod = %self.wanted.id.name, %error, "pod folder not removed");
            }
            self.context.table.remove(self.id());
            self.context.logs.remove(self.id());
            self.context.addresses.give_back(&self.wanted.id.uid);
        } else {
            crate::volumes::unmount_below(&self.context.folders.pod(&self.wanted.id.uid));
        }
    }
}

/// On shutdown nobody waits longer than this for a container.
const SHUTDOWN_GRACE_MAX: Duration = Duration::from_secs(10);

/// Writes to the API that are still under way get this long.
const DRAIN_MAX: Duration = Duration::from_secs(3);

async fn end_all(held: Vec<Held>, grace: Duration) {
    let ending = held.into_iter().map(|held| async move {
        held.running.terminate();
        if tokio::time::timeout(grace, held.running.ended())
            .await
            .is_err()
        {
            held.running.kill();
            // The kernel ends a killed process; only one stuck in a device outlives this.
            drop(tokio::time::timeout(SHUTDOWN_GRACE_MAX, held.running.ended()).await);
        }
        held.running.remove().await;
    });
    futures::future::join_all(ending).await;
}

/// Facts that a task can own.
#[derive(Clone)]
struct OwnedFacts {
    pod: Arc<Pod>,
    pod_ip: std::net::Ipv4Addr,
    host_ip: std::net::IpAddr,
}

impl OwnedFacts {
    fn borrow(&self) -> PodFacts<'_> {
        PodFacts {
            pod: &self.pod,
            pod_ip: self.pod_ip,
            host_ip: self.host_ip,
        }
    }
}

fn until(look_again: Option<Timestamp>) -> Duration {
    let Some(at) = look_again else {
        return LOOK_AGAIN_MAX;
    };
    let left = at.duration_since(Timestamp::now());
    Duration::try_from(left)
        .unwrap_or(Duration::ZERO)
        .min(LOOK_AGAIN_MAX)
}
