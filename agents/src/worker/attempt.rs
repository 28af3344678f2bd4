//! Attempts of a step: an attempt is counted in the log before it is made, so that a crash cannot make it free.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{Backoff, Workshop, persist, slot::Slot};
use crate::{
    definition::{CompiledAgent, RunFacts},
    failure::Failure,
    graph::{CompiledNode, CompiledStep, RunState},
    model,
    steps::{self, Outcome, StepContext},
    store::{CallRecord, StepKey},
};

/// Longest attempt of an MCP step, unless the node says otherwise.
const MCP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

/// A try that lasted so long was being served.
const STEADY: Duration = Duration::from_secs(60);

/// A step that the log has as started.
#[derive(Debug)]
pub(super) struct OpenStep<'a> {
    pub(super) node: &'a CompiledNode,
    pub(super) key: StepKey,
    pub(super) task: String,
    pub(super) attempt: u32,
    pub(super) calls: BTreeMap<u32, CallRecord>,
}

/// What the step belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) workshop: &'a Workshop,
    pub(super) agent: &'a CompiledAgent,
    pub(super) run: &'a RunFacts,
    pub(super) state: &'a RunState,
    pub(super) slot: &'a Slot,
}

/// Tries a step until it is done or cannot be.
pub(super) async fn attempts(scene: Scene<'_>, step: &OpenStep<'_>) -> Result<Outcome, Failure> {
    let services = &scene.workshop.services;
    let has_told = AtomicBool::new(false);
    let mut trouble = Trouble::default();
    let mut backoff = Backoff::default();
    let mut attempt = step.attempt;
    loop {
        let began = Instant::now();
        let result = once(scene, step, attempt, &has_told).await;
        services
            .metrics
            .step_done(step.node.step.kind(), result.is_ok(), began.elapsed());
        let retry_after = match result {
            Err(Failure::Unavailable {
                message,
                retry_after,
            }) if trouble.lasts(began) < scene.workshop.patience.unavailable => {
                if trouble.is_news() {
                    tracing::warn!(run = %step.key.run, node = %step.node.name, reason = %message, "a step waits");
                }
                retry_after
            }
            Err(Failure::Unsettled { .. })
                if trouble.lasts(began) < scene.workshop.patience.unsettled =>
            {
                None
            }
            Err(Failure::Transient { message }) if attempt < step.node.attempts => {
                tracing::debug!(run = %step.key.run, node = %step.node.name, attempt, %message, "trying again");
                attempt += 1;
                persist(&services.store, || {
                    services.store.retry(step.key.clone(), attempt)
                })
                .await
                .map_err(|_| Failure::Lost)?;
                None
            }
            result => return result,
        };
        scene.slot.without(backoff.pause(retry_after)).await;
    }
}

/// How long something has been unavailable.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    is_told: bool,
}

impl Trouble {
    /// A try that worked for a while before it broke off shows that the trouble is new.
    fn lasts(&mut self, began: Instant) -> Duration {
        if STEADY < began.elapsed() {
            *self = Self::default();
        }
        self.since.get_or_insert_with(Instant::now).elapsed()
    }

    fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }
}

async fn once(
    scene: Scene<'_>,
    step: &OpenStep<'_>,
    attempt: u32,
    has_told: &AtomicBool,
) -> Result<Outcome, Failure> {
    let services = &scene.workshop.services;
    // Looked up for each attempt: a workspace that restarted has another address, and an agent may be missing for a
    // moment while the operator starts.
    let live = services
        .catalog
        .agent(&scene.run.namespace, &scene.run.agent)
        .ok_or_else(|| Failure::unavailable("the agent was deleted"))?;
    // A repeat of a failed attempt must not be answered with the failure.
    let task = if attempt == 1 {
        step.task.clone()
    } else {
        format!("{}-{attempt}", step.task)
    };
    let context = StepContext {
        services,
        live: &live,
        agent: scene.agent,
        run: scene.run,
        state: scene.state,
        key: &step.key,
        task: &task,
        calls: &step.calls,
        has_told,
        tells_deltas: !has_told.load(Ordering::Relaxed),
    };
    let doing = Box::pin(steps::run(context, step.node));
    match timeout(step.node) {
        None => doing.await,
        Some(limit) => match tokio::time::timeout(limit, doing).await {
            Ok(result) => result,
            Err(_) => Err(Failure::transient(format!(
                "not done within {} seconds",
                limit.as_secs()
            ))),
        },
    }
}

/// How long one attempt may take; tool calls of a loop have limits of their own.
fn timeout(node: &CompiledNode) -> Option<Duration> {
    match &node.step {
        CompiledStep::Model(_) => Some(node.timeout.unwrap_or(model::TIMEOUT_DEFAULT)),
        CompiledStep::Mcp(_) => Some(node.timeout.unwrap_or(MCP_TIMEOUT_DEFAULT)),
        CompiledStep::Exec(_) => {
            Some(node.timeout.unwrap_or(steps::PROGRAM_TIMEOUT_DEFAULT) + steps::PROGRAM_OVERHEAD)
        }
        CompiledStep::Tools => None,
        CompiledStep::Template { .. } | CompiledStep::Set { .. } => node.timeout,
    }
}
