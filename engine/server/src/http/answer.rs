//! What the answers of both APIs have in common: collecting tokens, usage, event streams.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use engine_core::FinishReason;
use futures::Stream;
use protocol::openai::{ErrorKind, PromptTokensDetails, Usage};
use protocol::sse::{self, Event};
use serde::Serialize;
use tokio_stream::StreamExt;

use crate::runner::TokenEvent;

use super::fault::Fault;
use super::submit::Tokens;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) tokens: Vec<TokenEvent>,
    pub(super) finish: FinishReason,
    pub(super) usage: Usage,
}

/// Waits for the end of an answer.
pub(super) async fn collect(mut tokens: Tokens) -> Result<Answer, Fault> {
    let (mut text, mut events) = (String::new(), Vec::new());
    loop {
        let event = tokens.next().await.ok_or_else(Fault::stopped)?;
        text.push_str(&event.text);
        let finish = event.finish;
        events.push(event);
        if let Some(finish) = finish {
            let cached = events.last().map_or(0, |event| event.cached_tokens);
            let usage = usage(tokens.prompt_length, cached, events.len());
            return Ok(Answer {
                text,
                tokens: events,
                finish,
                usage,
            });
        }
    }
}

/// The usage of one answer.
pub(super) fn usage(prompt: usize, cached: usize, completion: usize) -> Usage {
    let mut usage = Usage::new(prompt as u64, completion as u64);
    usage.prompt_tokens_details = Some(PromptTokensDetails {
        cached_tokens: cached as u64,
    });
    usage
}

/// Adds up the usage of several answers.
pub(super) fn total(usages: impl IntoIterator<Item = Usage>) -> Usage {
    let add = |sum: Usage, usage: Usage| {
        let cached = |usage: &Usage| {
            usage
                .prompt_tokens_details
                .map_or(0, |details| details.cached_tokens)
        };
        let cached_tokens = cached(&sum) + cached(&usage);
        let mut total = Usage::new(
            sum.prompt_tokens + usage.prompt_tokens,
            sum.completion_tokens + usage.completion_tokens,
        );
        total.prompt_tokens_details = Some(PromptTokensDetails { cached_tokens });
        total
    };
    usages.into_iter().fold(Usage::default(), add)
}

/// Sends chunks as server-sent events, with the end mark behind them. Dropping the response drops the stream, and
/// with it the sequences.
pub(super) fn event_stream<T: Serialize>(
    chunks: impl Stream<Item = T> + Send + 'static,
) -> Response {
    let events = chunks.map(|chunk| match serde_json::to_string(&chunk) {
        Ok(data) => Event::data(data).encode(),
        Err(error) => error_event(&error.to_string()),
    });
    let done = tokio_stream::once(Event::data(sse::DONE).encode());
    let body = Body::from_stream(
        events
            .chain(done)
            .map(Ok::<Bytes, std::convert::Infallible>),
    );
    let headers = [
        (header::CONTENT_TYPE, sse::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, body).into_response()
}

/// An error in the middle of a stream, where the status is sent already.
fn error_event(message: &str) -> Bytes {
    let body = serde_json::to_string(&ErrorKind::Internal.body(message)).unwrap_or_default();
    Event::data(body).encode()
}

/// A chunk, or the error that ends a stream early.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ChunkOrError<T> {
    Chunk(T),
    Error(protocol::openai::ErrorBody),
}

/// The error of a stream whose step loop is gone.
pub(super) fn stopped<T>() -> ChunkOrError<T> {
    ChunkOrError::Error(
        ErrorKind::Unavailable.body("The engine stopped before the answer was complete."),
    )
}
