//! `POST /v1/chat/completions`: any OpenAI client talks to an agent; each request is a run.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use protocol::{
    openai::{ChatChoice, ChatMessage, ChatRequest, ChatResponse, ErrorKind, Usage},
    runs::{RunEvent, RunStatus},
};
use serde_json::{Value, json};

use super::{
    App,
    auth::Caller,
    chat_stream::{Reply, chunks},
    error::ApiError,
    events::{event_stream, feed},
    input::{Body, idempotency_key},
    models::no_model,
    runs::{start, stop},
};
use crate::{
    catalog::{LiveAgent, Lookup},
    feed::Feed,
    store::RunId,
};

/// Tells the client which run answers; its events are at `/v1/runs/{id}/events`.
const RUN_HEADER: HeaderName = HeaderName::from_static("x-run-id");

pub(super) async fn complete(
    State(app): State<App>,
    Caller(account): Caller,
    headers: HeaderMap,
    Body(request): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    let agent = match app.services.catalog.by_model(&account, &request.model) {
        Lookup::Found(agent) => agent,
        lookup => return Err(no_model(&request.model, &lookup)),
    };
    check(&request)?;
    let key = idempotency_key(&headers)?;
    let input = input(&agent, &request)?;
    // A client that goes away ends its run, unless it named a key with which it can come back.
    let is_left_alone = key.is_some();
    let (run, _) = start(&app, &agent, account, input, key).await?;
    let id = run.id.clone();
    let guard = (!is_left_alone).then(|| AbandonedRun::new(&app, id.clone()));
    let feed = feed(&app, id.clone(), 0);
    let reply = Reply {
        id: format!("chatcmpl-{id}"),
        model: request.model.clone(),
        created: run.created.as_seconds(),
        is_conversation: agent.compiled.graph.turns_max.is_some(),
        includes_usage: request
            .stream_options
            .is_some_and(|options| options.include_usage),
    };
    let mut response = if request.stream == Some(true) {
        event_stream(chunks(app, id.clone(), feed, reply, guard))
    } else {
        let output = finish(feed).await?;
        if let Some(guard) = guard {
            guard.disarm();
        }
        Json(whole(&app, &id, reply, output).await).into_response()
    };
    if let Ok(value) = HeaderValue::try_from(id.0) {
        response.headers_mut().insert(RUN_HEADER, value);
    }
    Ok(response)
}

/// Refuses what an agent would silently ignore.
fn check(request: &ChatRequest) -> Result<(), ApiError> {
    if request.messages.is_empty() {
        return Err(ApiError::invalid("messages", "there are no messages"));
    }
    if request
        .tools
        .as_ref()
        .is_some_and(|tools| !tools.is_empty())
    {
        return Err(ApiError::invalid(
            "tools",
            "an agent has tools of its own; a request cannot bring others",
        ));
    }
    if request.logprobs == Some(true) {
        return Err(ApiError::invalid(
            "logprobs",
            "an agent has no log probabilities",
        ));
    }
    let format = request.rest.get("response_format");
    if format.is_some_and(|format| format["type"] != "text") {
        return Err(ApiError::invalid(
            "response_format",
            "an agent's definition decides the format of its answers",
        ));
    }
    if request
        .rest
        .get("n")
        .and_then(Value::as_u64)
        .is_some_and(|n| n != 1)
    {
        return Err(ApiError::invalid("n", "an agent gives one answer"));
    }
    Ok(())
}

/// The run's input: the conversation for a loop, the text of the last user message for a graph.
fn input(agent: &LiveAgent, request: &ChatRequest) -> Result<Value, ApiError> {
    let last = request
        .messages
        .iter()
        .rev()
        .find(|message| message.role == "user");
    let last = last.ok_or_else(|| ApiError::invalid("messages", "no message is from the user"))?;
    if agent.compiled.graph.turns_max.is_none() {
        return Ok(Value::String(last.to_text()));
    }
    if request
        .messages
        .last()
        .is_some_and(|message| message.role != "user")
    {
        return Err(ApiError::invalid(
            "messages",
            "the last message is not from the user",
        ));
    }
    Ok(json!({ "messages": request.messages }))
}

/// Waits for the run's end.
async fn finish(mut feed: Feed) -> Result<Value, ApiError> {
    while let Some(item) = feed.next().await? {
        if let RunEvent::Finished {
            status,
            output,
            error,
        } = item.event
        {
            return outcome(status, output, error);
        }
    }
    Err(interrupted())
}

/// The answer of a run that ended.
pub(super) fn outcome(
    status: RunStatus,
    output: Option<Value>,
    error: Option<String>,
) -> Result<Value, ApiError> {
    match status {
        RunStatus::Succeeded => Ok(output.unwrap_or(Value::Null)),
        RunStatus::Cancelled => Err(ApiError::new(
            ErrorKind::Unavailable,
            "the run was cancelled",
        )),
        RunStatus::Failed | RunStatus::Pending | RunStatus::Running => {
            let reason = error.unwrap_or_else(|| "no reason was given".to_owned());
            Err(ApiError::new(
                ErrorKind::UpstreamFailed,
                format!("the run failed: {reason}"),
            ))
        }
    }
}

pub(super) fn interrupted() -> ApiError {
    let message = "the runtime restarts; the run goes on, and a repeat with the same Idempotency-Key gets its answer";
    ApiError::new(ErrorKind::Unavailable, message)
}

/// An output as a message: text as it is, anything else as JSON.
pub(super) fn output_text(output: &Value) -> String {
    match output {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

async fn whole(app: &App, run: &RunId, reply: Reply, output: Value) -> ChatResponse {
    let usage = usage(app, run).await;
    ChatResponse {
        id: reply.id,
        object: "chat.completion".to_owned(),
        created: reply.created,
        model: reply.model,
        choices: vec![ChatChoice {
            index: 0,
            message: ChatMessage::text("assistant", output_text(&output)),
            logprobs: None,
            finish_reason: Some("stop".to_owned()),
        }],
        usage: Some(usage),
        system_fingerprint: None,
    }
}

/// What all model calls of the run used; an answer does not fail for want of it.
pub(super) async fn usage(app: &App, run: &RunId) -> Usage {
    app.services
        .store
        .usage(run.clone())
        .await
        .unwrap_or_default()
}

/// Cancels a run when its client goes away: dropped before it was disarmed.
#[derive(Debug)]
pub(super) struct AbandonedRun {
    app: App,
    run: Option<RunId>,
}

impl AbandonedRun {
    fn new(app: &App, run: RunId) -> Self {
        Self {
            app: app.clone(),
            run: Some(run),
        }
    }

    /// The run has ended.
    pub(super) fn disarm(mut self) {
        self.run = None;
    }
}

impl Drop for AbandonedRun {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.app.dispatcher.abandon(run);
        }
    }
}

/// Cancels the runs whose clients went away, one after the other.
pub(crate) async fn cancel_abandoned(
    app: App,
    mut abandoned: tokio::sync::mpsc::UnboundedReceiver<RunId>,
) {
    while let Some(run) = abandoned.recv().await {
        if app.services.hub.closing().is_cancelled() {
            // The process goes away, not the client.
            continue;
        }
        if let Err(error) = stop(&app, run.clone()).await {
            tracing::warn!(%run, error = ?error, "a run without a client could not be cancelled");
        }
    }
}
