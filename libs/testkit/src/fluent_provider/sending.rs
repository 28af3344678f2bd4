//! How answers leave: events in pieces, streams that stop, errors in the words of each API.

use axum::{
    Json,
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::GEMINI_MODELS;

/// Bytes of a piece of a stream: no multiple of anything.
const PIECE_BYTES: usize = 37;
/// Events of a stream that stalls: in each API two pieces of a text are among them.
const STALLED_EVENTS: usize = 6;

/// Counts a client that went away.
pub(super) struct Abandonment(watch::Sender<usize>);

impl Abandonment {
    /// What counts once it is dropped.
    pub(super) fn new(abandoned: &watch::Sender<usize>) -> Self {
        Self(abandoned.clone())
    }
}

impl Drop for Abandonment {
    fn drop(&mut self) {
        self.0.send_modify(|abandoned| *abandoned += 1);
    }
}

/// The events of an answer, as they are on the wire.
pub(super) struct Events(Vec<String>);

impl Events {
    /// Events that are named after their type.
    pub(super) fn named(events: &[Value]) -> Self {
        let named = |event: &Value| {
            let name = event["type"].as_str().unwrap_or_default();
            format!("event: {name}\ndata: {event}\n\n")
        };
        Self(events.iter().map(named).collect())
    }

    /// Events without names, and whether `[DONE]` ends them.
    pub(super) fn unnamed(events: &[Value], has_end: bool) -> Self {
        let events = events.iter().map(|event| format!("data: {event}\n\n"));
        Self(
            events
                .chain(has_end.then(|| "data: [DONE]\n\n".to_owned()))
                .collect(),
        )
    }

    /// All of them.
    pub(super) fn whole(self) -> Response {
        respond(Body::from_stream(
            stream::iter(pieces(&self.0.concat())).map(Ok::<_, std::io::Error>),
        ))
    }

    /// The first ones, then nothing for ever.
    pub(super) fn stalled(self, guard: Abandonment) -> Response {
        let begun: String = self.0.into_iter().take(STALLED_EVENTS).collect();
        let silence = stream::once(async move {
            std::future::pending::<()>().await;
            drop(guard);
            Bytes::new()
        });
        let pieces = stream::iter(pieces(&begun)).chain(silence);
        respond(Body::from_stream(pieces.map(Ok::<_, std::io::Error>)))
    }
}

fn pieces(text: &str) -> Vec<Bytes> {
    text.as_bytes()
        .chunks(PIECE_BYTES)
        .map(Bytes::copy_from_slice)
        .collect()
}

fn respond(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// An error in the words of the API that a path belongs to.
pub(super) fn error(path: &str, status: u16) -> Response {
    let body = if path.starts_with("/v1/messages") {
        anthropic(status)
    } else if path.starts_with(GEMINI_MODELS) {
        gemini(status)
    } else {
        openai(status)
    };
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (code, Json(body)).into_response();
    if status == 429 {
        // At once: a gateway does not ask again before the time that it is told.
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("0"));
    }
    response
}

fn openai(status: u16) -> Value {
    let (kind, param, code, message) = match status {
        400 => (
            "invalid_request_error",
            json!("messages"),
            json!("invalid_value"),
            "Invalid value: „☕“.",
        ),
        401 => (
            "invalid_request_error",
            Value::Null,
            json!("invalid_api_key"),
            "Incorrect API key provided.",
        ),
        404 => (
            "invalid_request_error",
            json!("model"),
            json!("model_not_found"),
            "The model does not exist.",
        ),
        429 => (
            "requests",
            Value::Null,
            json!("rate_limit_exceeded"),
            "Rate limit reached.",
        ),
        _ => (
            "server_error",
            Value::Null,
            Value::Null,
            "The server had an error.",
        ),
    };
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}

fn anthropic(status: u16) -> Value {
    let (kind, message) = match status {
        400 => ("invalid_request_error", "messages: „☕“ is not allowed"),
        401 => ("authentication_error", "invalid x-api-key"),
        404 => ("not_found_error", "model: not found"),
        429 => (
            "rate_limit_error",
            "This request would exceed your rate limit.",
        ),
        529 => ("overloaded_error", "Overloaded"),
        _ => ("api_error", "Internal server error"),
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fluent"})
}

fn gemini(status: u16) -> Value {
    let (name, message) = match status {
        400 => ("INVALID_ARGUMENT", "Invalid value at contents."),
        401 => ("UNAUTHENTICATED", "API key not valid."),
        404 => ("NOT_FOUND", "The model is not found."),
        429 => ("RESOURCE_EXHAUSTED", "Resource has been exhausted."),
        _ => ("INTERNAL", "An internal error has occurred."),
    };
    json!({"error": {"code": status, "message": message, "status": name}})
}
