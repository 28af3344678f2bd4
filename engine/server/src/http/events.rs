//! Server-sent events: OpenAI's streams of chunks, and streams of typed events.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use protocol::openai::ErrorBody;
use protocol::sse::{self, Event};
use serde::Serialize;

use super::fault::Fault;

/// A chunk, or the error that ends a stream early.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ChunkOrError<T> {
    Chunk(T),
    Error(ErrorBody),
}

impl<T> From<Result<T, Fault>> for ChunkOrError<T> {
    fn from(chunk: Result<T, Fault>) -> Self {
        match chunk {
            Ok(chunk) => Self::Chunk(chunk),
            Err(fault) => Self::Error(fault.body()),
        }
    }
}

/// Sends chunks with the end mark behind them. Dropping the response drops the stream, and with it the sequences.
pub(super) fn chunks<T: Serialize + Send + 'static>(
    chunks: impl Stream<Item = Result<T, Fault>> + Send + 'static,
) -> Response {
    let events = chunks.map(|chunk| encode("", &ChunkOrError::from(chunk)));
    let done = stream::once(async { Event::data(sse::DONE).encode() });
    response(events.chain(done))
}

/// Sends encoded events.
pub(super) fn response(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(events.map(Ok::<Bytes, Infallible>));
    let headers = [
        (header::CONTENT_TYPE, sse::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, body).into_response()
}

/// Writes one event.
pub(super) fn encode(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|error| {
        let fault = Fault::internal(error.to_string());
        serde_json::to_string(&fault.body()).unwrap_or_default()
    });
    Event {
        event: name.to_owned(),
        ..Event::data(data)
    }
    .encode()
}
