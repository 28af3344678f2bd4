//! Anthropic's API, as its reference describes messages, streams and errors.

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};

use super::{
    API_KEY, Answer, CACHED_TOKENS, PROMPT_TOKENS, Scripted, events, shows, status, words,
};

const STREAM: &str = "text/event-stream";

/// A key, and the version that the API asks for.
pub(super) fn is_let_in(headers: &HeaderMap) -> bool {
    shows(headers, "x-api-key", API_KEY) && headers.contains_key("anthropic-version")
}

/// At Vertex the version is in the body, and the model is not.
pub(super) fn answer_at_vertex(scripted: &Scripted, request: &Value) -> Answer {
    if request["anthropic_version"] != "vertex-2023-10-16" || !request["model"].is_null() {
        return error(400, "anthropic_version: Field required");
    }
    answer(scripted, request)
}

pub(super) fn answer(scripted: &Scripted, request: &Value) -> Answer {
    let is_stream = request["stream"] == true;
    if request["max_tokens"].as_u64().is_none() {
        return error(400, "max_tokens: Field required");
    }
    match scripted {
        Scripted::Error(status, message) => error(*status, message),
        Scripted::ErrorEvent => events(STREAM, vec![overloaded()], None),
        Scripted::Text(text) if is_stream => events(STREAM, text_events(request, text), None),
        Scripted::Cut(text, kept) => events(STREAM, text_events(request, text), Some(*kept)),
        Scripted::Call if is_stream => events(STREAM, call_events(request), None),
        Scripted::Redirect(_) | Scripted::Json(_) => error(500, "no redirect"),
        Scripted::Text(text) => {
            let block = json!({"type": "text", "text": text});
            whole(request, &block, "end_turn", words(text))
        }
        Scripted::Call => {
            let block = json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}});
            whole(request, &block, "tool_use", 1)
        }
    }
}

fn whole(request: &Value, block: &Value, stop_reason: &str, output: usize) -> Answer {
    let body = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "content": [block],
        "stop_reason": stop_reason, "stop_sequence": null, "usage": usage(output),
    });
    Answer::Whole(StatusCode::OK, body)
}

fn error(code: u16, message: &str) -> Answer {
    let kind = match code {
        401 => "authentication_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let error = json!({"type": kind, "message": message});
    let body = json!({"type": "error", "error": error, "request_id": "req_011"});
    Answer::Whole(status(code), body)
}

fn usage(output: usize) -> Value {
    json!({
        "input_tokens": PROMPT_TOKENS - CACHED_TOKENS, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED_TOKENS, "output_tokens": output,
    })
}

fn text_events(request: &Value, text: &str) -> Vec<Bytes> {
    let pieces = text
        .split_inclusive(' ')
        .map(|piece| json!({"type": "text_delta", "text": piece}));
    let block = json!({"type": "text", "text": ""});
    stream_of(request, &block, pieces.collect(), "end_turn", words(text))
}

fn call_events(request: &Value) -> Vec<Bytes> {
    let pieces = ["{\"city\":", " \"Oslo\"}"]
        .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
    let block = json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}});
    stream_of(request, &block, pieces.to_vec(), "tool_use", 1)
}

fn stream_of(
    request: &Value,
    block: &Value,
    pieces: Vec<Value>,
    stop_reason: &str,
    output: usize,
) -> Vec<Bytes> {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(1),
    });
    let mut all = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "ping"}),
    ];
    let deltas = pieces
        .into_iter()
        .map(|piece| json!({"type": "content_block_delta", "index": 0, "delta": piece}));
    all.extend(deltas);
    let delta = json!({"stop_reason": stop_reason, "stop_sequence": null});
    all.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": output}}),
        json!({"type": "message_stop"}),
    ]);
    all.iter().map(named).collect()
}

fn overloaded() -> Bytes {
    let error = json!({"type": "overloaded_error", "message": "Overloaded"});
    named(&json!({"type": "error", "error": error}))
}

/// An event that is named after its type.
fn named(data: &Value) -> Bytes {
    let name = data["type"].as_str().unwrap_or_default();
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}
