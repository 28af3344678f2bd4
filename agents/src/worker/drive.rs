//! Driving a run: plan, do, commit; what is done and what follows are one transaction.

use std::{collections::BTreeMap, time::Duration};

use protocol::runs::{RunEvent, RunStatus};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Workshop,
    attempt::{OpenStep, Scene, attempts},
    persist,
    prepare::{Prepared, prepare},
    slot::Slot,
};
use crate::{
    clock::Millis,
    definition::{CompiledAgent, RunFacts},
    failure::{Failure, chain},
    graph::{Next, RunFailure, RunState, StepRecord, next},
    steps::Outcome,
    store::{Advance, Following, RunId, Started, StepKey, StoreError},
};

/// Longest reason of a failure that is kept.
const ERROR_CHARS_MAX: usize = 4096;

/// Takes a run up and works on it until it ends, is taken away, or the process ends.
pub(super) async fn drive(
    workshop: &Workshop,
    run: &RunId,
    cancel: &CancellationToken,
    slot: &Slot,
) {
    let services = &workshop.services;
    let started = match persist(&services.store, || services.store.take(run.clone())).await {
        Ok(started) => started,
        // It ended while it waited.
        Err(StoreError::NotOwner) => return,
        Err(error) => {
            tracing::error!(%run, error = %chain(&error), "a run could not be taken up");
            return;
        }
    };
    let _active = services.metrics.run_active();
    services.hub.publish_stored(run, started.events.clone());
    let driver = Driver::new(workshop, &started, cancel, slot);
    let end = match prepare(workshop, &started) {
        Ok(prepared) => driver.run(prepared).await,
        Err(reason) => {
            driver
                .end(RunStatus::Failed, None, Some(reason.to_string()))
                .await
        }
    };
    match end {
        Ok(()) | Err(StoreError::NotOwner | StoreError::Closed) => {}
        Err(error) => tracing::error!(%run, error = %chain(&error), "work on a run stopped"),
    }
}

/// Ends a run whose driver panicked: a second try would panic as well.
pub(super) async fn give_up(workshop: &Workshop, run: &RunId) {
    let store = &workshop.services.store;
    let Ok(started) = store.take(run.clone()).await else {
        return;
    };
    let advance = Advance {
        run: run.clone(),
        epoch: started.epoch,
        finished: None,
        events: Vec::new(),
        following: Following::End {
            status: RunStatus::Failed,
            output: None,
            error: Some("the runtime failed on this run; its log says where".to_owned()),
        },
    };
    let hub = &workshop.services.hub;
    hub.publish_stored(run, started.events);
    match store.advance(advance).await {
        Ok(progress) => hub.publish_stored(run, progress.events),
        Err(error) => tracing::error!(%run, error = %chain(&error), "a run could not be ended"),
    }
}

/// Why work on a step stopped without a result.
enum Interruption {
    /// The log knows why, or nobody may write.
    Taken,
    Shutdown,
    Failed(RunFailure),
}

struct Driver<'a> {
    workshop: &'a Workshop,
    cancel: &'a CancellationToken,
    slot: &'a Slot,
    id: RunId,
    epoch: i64,
    facts: RunFacts,
    started: Millis,
}

impl<'a> Driver<'a> {
    fn new(
        workshop: &'a Workshop,
        started: &Started,
        cancel: &'a CancellationToken,
        slot: &'a Slot,
    ) -> Self {
        let run = &started.run;
        let facts = RunFacts {
            id: run.id.0.clone(),
            namespace: run.namespace.clone(),
            agent: run.agent.clone(),
        };
        Self {
            workshop,
            cancel,
            slot,
            id: run.id.clone(),
            epoch: started.epoch,
            facts,
            started: run.started.unwrap_or(run.created),
        }
    }

    async fn run(&self, prepared: Prepared) -> Result<(), StoreError> {
        let Prepared {
            agent,
            mut state,
            open,
        } = prepared;
        let deadline = self.deadline(agent.limits.wall_seconds);
        let planned = next(&agent, &state, &self.facts);
        let mut step = match (open, planned) {
            (Some((stored, calls)), Next::Step { number, node })
                if stored.number == number && stored.node == node.name =>
            {
                OpenStep {
                    node,
                    key: self.key(number),
                    task: stored.task,
                    attempt: stored.attempt,
                    calls,
                }
            }
            (Some((stored, _)), _) => {
                let reason = format!(
                    "step {} is `{}` in the log and is not what follows",
                    stored.number, stored.node
                );
                return self.fail(&RunFailure::Log { reason }).await;
            }
            (None, planned) => match self.commit(None, Vec::new(), planned).await? {
                Some(step) => step,
                None => return Ok(()),
            },
        };
        loop {
            let limit = (deadline, agent.limits.wall_seconds);
            let outcome = match self.attempt(&agent, &state, &step, limit).await {
                Ok(outcome) => outcome,
                Err(Interruption::Taken) => return Ok(()),
                Err(Interruption::Shutdown) => return self.park().await,
                Err(Interruption::Failed(reason)) => return self.fail(&reason).await,
            };
            let Outcome {
                writes,
                events,
                tool_calls,
                usage,
            } = outcome;
            let record = StepRecord {
                number: step.key.number,
                node: step.node.name.clone(),
                writes,
                tool_calls,
                usage,
            };
            if let Err(error) = state.apply(&agent.graph, &record) {
                let failure = RunFailure::Step {
                    node: record.node,
                    reason: error.to_string(),
                };
                return self.fail(&failure).await;
            }
            let planned = next(&agent, &state, &self.facts);
            match self.commit(Some(record), events, planned).await? {
                Some(following) => step = following,
                None => return Ok(()),
            }
        }
    }

    /// Does a step, unless the run is cancelled, its time is over or the process ends.
    async fn attempt(
        &self,
        agent: &CompiledAgent,
        state: &RunState,
        step: &OpenStep<'_>,
        (deadline, seconds): (Instant, u64),
    ) -> Result<Outcome, Interruption> {
        let scene = Scene {
            workshop: self.workshop,
            agent,
            run: &self.facts,
            state,
            slot: self.slot,
        };
        let shutdown = async {
            self.workshop.shutdown.cancelled().await;
            tokio::time::sleep(self.workshop.patience.shutdown).await;
        };
        let result = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Interruption::Taken),
            () = self.workshop.services.store.closed().cancelled() => return Err(Interruption::Taken),
            result = Box::pin(attempts(scene, step)) => result,
            () = tokio::time::sleep_until(deadline) => {
                return Err(Interruption::Failed(RunFailure::WallLimit { seconds }));
            }
            () = shutdown => return Err(Interruption::Shutdown),
        };
        result.map_err(|failure| match failure {
            Failure::Lost => Interruption::Taken,
            failure => Interruption::Failed(RunFailure::Step {
                node: step.node.name.clone(),
                reason: failure.to_string(),
            }),
        })
    }

    /// Commits what was done together with what follows; `None` if the run ended with it.
    async fn commit<'b>(
        &self,
        finished: Option<StepRecord>,
        events: Vec<RunEvent>,
        planned: Next<'b>,
    ) -> Result<Option<OpenStep<'b>>, StoreError> {
        let (following, step) = match planned {
            Next::Step { number, node } => {
                let task = task_id(&self.id, number, &node.name);
                let following = Following::Step {
                    number,
                    node: node.name.clone(),
                    task: task.clone(),
                };
                let key = self.key(number);
                (
                    following,
                    Some(OpenStep {
                        node,
                        key,
                        task,
                        attempt: 1,
                        calls: BTreeMap::new(),
                    }),
                )
            }
            Next::Succeeded { output } => (
                Following::End {
                    status: RunStatus::Succeeded,
                    output: Some(output),
                    error: None,
                },
                None,
            ),
            Next::Failed { reason } => (
                Following::End {
                    status: RunStatus::Failed,
                    output: None,
                    error: Some(reason.to_string()),
                },
                None,
            ),
        };
        self.write(finished, events, following).await?;
        Ok(step)
    }

    async fn write(
        &self,
        finished: Option<StepRecord>,
        events: Vec<RunEvent>,
        following: Following,
    ) -> Result<(), StoreError> {
        let services = &self.workshop.services;
        let ended = match &following {
            Following::End { status, .. } => Some(*status),
            Following::Step { .. } => None,
        };
        let advance = Advance {
            run: self.id.clone(),
            epoch: self.epoch,
            finished,
            events,
            following,
        };
        let progress = persist(&services.store, || services.store.advance(advance.clone())).await?;
        services.hub.publish_stored(&self.id, progress.events);
        if let Some(status) = ended {
            services.metrics.run_ended(status);
            tracing::info!(run = %self.id, namespace = %self.facts.namespace, agent = %self.facts.agent, ?status, "run ended");
        }
        Ok(())
    }

    async fn fail(&self, reason: &RunFailure) -> Result<(), StoreError> {
        self.end(RunStatus::Failed, None, Some(reason.to_string()))
            .await
    }

    async fn end(
        &self,
        status: RunStatus,
        output: Option<Value>,
        error: Option<String>,
    ) -> Result<(), StoreError> {
        let error = error.map(|error| error.chars().take(ERROR_CHARS_MAX).collect());
        self.write(
            None,
            Vec::new(),
            Following::End {
                status,
                output,
                error,
            },
        )
        .await
    }

    async fn park(&self) -> Result<(), StoreError> {
        self.workshop
            .services
            .store
            .park(self.id.clone(), self.epoch)
            .await
    }

    fn key(&self, number: u32) -> StepKey {
        StepKey {
            run: self.id.clone(),
            epoch: self.epoch,
            number,
        }
    }

    /// When the run's time is over; a clock that went back does not make it longer.
    fn deadline(&self, wall_seconds: u64) -> Instant {
        let spent = u64::try_from(Millis::now().0 - self.started.0).unwrap_or(0);
        let wall = Duration::from_secs(wall_seconds);
        Instant::now() + wall.saturating_sub(Duration::from_millis(spent))
    }
}

/// The identity of a step: the same for every repetition, in this process and the next.
fn task_id(run: &RunId, number: u32, node: &str) -> String {
    let digest = Sha256::digest(format!("{run}\n{number}\n{node}"));
    protocol::key::hex(&digest[..16])
}
