//! Runs the tool calls of the conversation's last message, several at once; the answers keep the order of the calls.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use protocol::{openai::ToolCall, runs::RunEvent};
use serde_json::{Value, json};

use super::{Outcome, StepContext};
use crate::{
    failure::Failure,
    graph::{MESSAGES, pending_calls},
    store::CallRecord,
    tools::{Invocation, TOOL_TIMEOUT, invoke},
    worker::{Backoff, persist},
};

/// Most calls of a turn that run at once.
const PARALLEL_MAX: usize = 8;
/// How long a tool that does not know us is asked again.
const SETTLING: Duration = Duration::from_secs(10);
/// How long an unreachable tool is waited for before the model is told.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(context: StepContext<'_>) -> Result<Outcome, Failure> {
    let calls = pending_calls(context.state.values.get(MESSAGES));
    let tasks = (0..)
        .zip(calls.clone())
        .map(|(ordinal, call)| answer(context, ordinal, call));
    let records: Vec<CallRecord> = stream::iter(tasks)
        .buffered(PARALLEL_MAX)
        .try_collect()
        .await?;
    let mut messages = Vec::with_capacity(calls.len());
    let mut events = Vec::with_capacity(calls.len());
    for (call, record) in calls.iter().zip(records) {
        let content = match &record.result {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        messages.push(json!({ "role": "tool", "tool_call_id": call.id, "content": content }));
        events.push(RunEvent::ToolCalled {
            step: context.key.number,
            tool: call.function.name.clone(),
            arguments: serde_json::from_str(&call.function.arguments)
                .unwrap_or_else(|_| Value::String(call.function.arguments.clone())),
            result: record.result,
            failed: record.failed,
        });
    }
    let tool_calls = u32::try_from(calls.len()).unwrap_or(u32::MAX);
    Ok(Outcome {
        events,
        tool_calls,
        ..Outcome::write(MESSAGES, Value::Array(messages))
    })
}

/// The answer to one call: from the log if it was done before, otherwise by doing it and keeping it there.
async fn answer(
    context: StepContext<'_>,
    ordinal: u32,
    call: ToolCall,
) -> Result<CallRecord, Failure> {
    if let Some(record) = context.calls.get(&ordinal) {
        return Ok(record.clone());
    }
    let id = format!("{}.{ordinal}", context.task);
    let record = match patiently(context, &call, &id).await {
        Ok(result) => CallRecord {
            result,
            failed: false,
        },
        Err(failure @ Failure::Lost) => return Err(failure),
        Err(failure) => CallRecord {
            result: Value::String(format!("error: {failure}")),
            failed: true,
        },
    };
    let services = context.services;
    services.metrics.tool_called(!record.failed);
    persist(&services.store, || {
        services
            .store
            .record_call(context.key.clone(), ordinal, record.clone())
    })
    .await
    .map_err(|_| Failure::Lost)?;
    Ok(record)
}

async fn patiently(context: StepContext<'_>, call: &ToolCall, id: &str) -> Result<Value, Failure> {
    let services = context.services;
    let since = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        let invocation = Invocation {
            outbound: &services.outbound,
            pool: &services.pool,
            agent: context.agent,
            live: &context.live.entry.definition,
            id,
        };
        let result = match tokio::time::timeout(TOOL_TIMEOUT, invoke(invocation, call)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::transient(format!(
                "no answer within {} seconds",
                TOOL_TIMEOUT.as_secs()
            ))),
        };
        match result {
            Err(Failure::Unsettled { .. }) if since.elapsed() < SETTLING => {
                backoff.pause(None).await;
            }
            Err(Failure::Unavailable { retry_after, .. }) if since.elapsed() < PATIENCE => {
                backoff.pause(retry_after).await;
            }
            result => return result,
        }
    }
}
