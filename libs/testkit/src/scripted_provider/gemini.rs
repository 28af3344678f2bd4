//! Google's `generateContent`, at AI Studio with a key and at Vertex with an access token, and the server of those tokens.

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};

use super::{
    API_KEY, Answer, CACHED_TOKENS, PROMPT_TOKENS, Scripted, event, events, shows, status, words,
};

const STREAM: &str = "text/event-stream";
/// The path of the server of access tokens.
pub(super) const TOKEN_PATH: &str = "/token";

/// An API key of AI Studio's.
pub(super) fn is_let_in(headers: &HeaderMap) -> bool {
    shows(headers, "x-goog-api-key", API_KEY)
}

/// An access token that was given before.
pub(super) fn has_token(headers: &HeaderMap) -> bool {
    shows(headers, "authorization", &format!("Bearer {API_KEY}"))
}

/// Whether it is a model's method, in this version or project.
pub(super) fn is_path(path: &str, below: &str) -> bool {
    let method = path
        .strip_prefix(below)
        .and_then(|rest| rest.split_once(':'));
    method.is_some_and(|(_, method)| {
        matches!(
            method,
            "generateContent" | "streamGenerateContent?alt=sse" | "batchEmbedContents" | "predict"
        )
    })
}

/// An access token for a claim, which holds for an hour.
pub(super) fn token(form: &str) -> Answer {
    if !form.contains("jwt-bearer") || !form.contains("assertion=") {
        return Answer::Whole(StatusCode::BAD_REQUEST, json!({"error": "invalid_grant"}));
    }
    let body = json!({"access_token": API_KEY, "expires_in": 3600, "token_type": "Bearer"});
    Answer::Whole(StatusCode::OK, body)
}

pub(super) fn answer(scripted: &Scripted, path: &str) -> Answer {
    let is_stream = path.contains(":streamGenerateContent");
    match scripted {
        Scripted::Error(code, message) => error(*code, message),
        Scripted::Redirect(_) | Scripted::Json(_) => error(500, "no redirect"),
        Scripted::ErrorEvent => {
            let error = json!({"code": 503, "message": "overloaded", "status": "UNAVAILABLE"});
            events(STREAM, vec![event(&json!({"error": error}))], None)
        }
        Scripted::Text(text) if is_stream => events(STREAM, text_events(text), None),
        Scripted::Cut(text, kept) => events(STREAM, text_events(text), Some(*kept)),
        Scripted::Call if is_stream => {
            events(STREAM, vec![event(&chunk(&call(), Some("STOP"), 1))], None)
        }
        Scripted::Text(text) => {
            let parts = json!([{"text": text}]);
            Answer::Whole(StatusCode::OK, chunk(&parts, Some("STOP"), words(text)))
        }
        Scripted::Call => Answer::Whole(StatusCode::OK, chunk(&call(), Some("STOP"), 1)),
    }
}

fn error(code: u16, message: &str) -> Answer {
    let word = match code {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        _ => "INTERNAL",
    };
    let error = json!({"code": code, "message": message, "status": word});
    Answer::Whole(status(code), json!({"error": error}))
}

fn call() -> Value {
    json!([{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}])
}

fn chunk(parts: &Value, finish_reason: Option<&str>, output: usize) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    if let Some(reason) = finish_reason {
        candidate["finishReason"] = json!(reason);
    }
    let usage = json!({
        "promptTokenCount": PROMPT_TOKENS, "candidatesTokenCount": output,
        "totalTokenCount": PROMPT_TOKENS + output as u64, "cachedContentTokenCount": CACHED_TOKENS,
    });
    json!({
        "candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted", "responseId": "r-1",
    })
}

fn text_events(text: &str) -> Vec<Bytes> {
    let pieces: Vec<&str> = text.split_inclusive(' ').collect();
    let last = pieces.len();
    let events = pieces.iter().enumerate().map(|(place, piece)| {
        let reason = (place + 1 == last).then_some("STOP");
        event(&chunk(&json!([{"text": piece}]), reason, place + 1))
    });
    events.collect()
}
