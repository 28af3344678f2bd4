//! Attempts of a step: an attempt is counted in the log before it is made, so that a crash cannot make it free.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Backoff, Workshop, persist};
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
}

/// Tries a step until it is done or cannot be.
pub(super) async fn attempts(scene: Scene<'_>, step: &OpenStep<'_>) -> Result<Outcome, Failure> {
    let services = &scene.workshop.services;
    let since = Instant::now();
    let mut backoff = Backoff::default();
    let mut attempt = step.attempt;
    let mut tells_deltas = true;
    loop {
        let began = Instant::now();
        let result = once(scene, step, attempt, tells_deltas).await;
        services
            .metrics
            .step_done(step.node.step.kind(), result.is_ok(), began.elapsed());
        tells_deltas = false;
        let retry_after = match result {
            Err(Failure::Unavailable {
                message,
                retry_after,
            }) if since.elapsed() < scene.workshop.patience.unavailable => {
                tracing::debug!(run = %step.key.run, node = %step.node.name, %message, "waiting");
                retry_after
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
        backoff.pause(retry_after).await;
    }
}

async fn once(
    scene: Scene<'_>,
    step: &OpenStep<'_>,
    attempt: u32,
    tells_deltas: bool,
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
        tells_deltas,
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
