//! OpenAI's chat completions, and Azure's paths to them.

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};

use super::{
    API_KEY, Answer, CACHED_TOKENS, PROMPT_TOKENS, Scripted, event, events, shows, status, words,
};

const STREAM: &str = "text/event-stream";

/// A bearer token.
pub(super) fn is_let_in(headers: &HeaderMap) -> bool {
    shows(headers, "authorization", &format!("Bearer {API_KEY}"))
}

/// A deployment with a version, or the API without versions.
pub(super) fn is_azure_path(path: &str) -> bool {
    let deployment = path
        .strip_prefix("/openai/deployments/")
        .and_then(|rest| rest.split_once('/'));
    let versioned =
        deployment.is_some_and(|(_, rest)| rest.starts_with("chat/completions?api-version="));
    versioned || path == "/openai/v1/chat/completions"
}

pub(super) fn answer(scripted: &Scripted, request: &Value) -> Answer {
    let is_stream = request["stream"] == true;
    match scripted {
        Scripted::Error(code, message) => error(*code, message),
        Scripted::Redirect(_) | Scripted::Json(_) => error(500, "no redirect"),
        Scripted::ErrorEvent => {
            let error = json!({"message": "overloaded", "type": "server_error"});
            events(STREAM, vec![event(&json!({"error": error}))], None)
        }
        Scripted::Text(text) if is_stream => events(STREAM, text_events(request, text), None),
        Scripted::Cut(text, kept) => events(STREAM, text_events(request, text), Some(*kept)),
        Scripted::Call if is_stream => events(STREAM, call_events(request), None),
        Scripted::Text(text) => {
            let message = json!({"role": "assistant", "content": text, "refusal": null});
            whole(request, &message, "stop", words(text))
        }
        Scripted::Call => {
            let message = json!({"role": "assistant", "content": null, "tool_calls": [call("{\"city\": \"Oslo\"}")]});
            whole(request, &message, "tool_calls", 1)
        }
    }
}

fn error(code: u16, message: &str) -> Answer {
    let error =
        json!({"message": message, "type": "invalid_request_error", "param": null, "code": null});
    Answer::Whole(status(code), json!({"error": error}))
}

fn call(arguments: &str) -> Value {
    json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}})
}

fn usage(output: usize) -> Value {
    json!({
        "prompt_tokens": PROMPT_TOKENS, "completion_tokens": output, "total_tokens": PROMPT_TOKENS + output as u64,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS},
    })
}

fn whole(request: &Value, message: &Value, finish_reason: &str, output: usize) -> Answer {
    let choice =
        json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": request["model"],
        "choices": [choice], "usage": usage(output),
    });
    Answer::Whole(StatusCode::OK, body)
}

fn text_events(request: &Value, text: &str) -> Vec<Bytes> {
    let pieces = text
        .split_inclusive(' ')
        .map(|piece| json!({"content": piece}));
    stream_of(request, pieces.collect(), "stop", words(text))
}

fn call_events(request: &Value) -> Vec<Bytes> {
    let mut first = call("");
    first["index"] = json!(0);
    let rest = ["{\"city\":", " \"Oslo\"}"]
        .map(|piece| json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}));
    let first = json!({"tool_calls": [first]});
    let pieces = std::iter::once(first).chain(rest).collect();
    stream_of(request, pieces, "tool_calls", 1)
}

fn stream_of(
    request: &Value,
    pieces: Vec<Value>,
    finish_reason: &str,
    output: usize,
) -> Vec<Bytes> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": request["model"],
            "choices": choices,
        });
        if !usage.is_null() {
            chunk["usage"] = usage;
        }
        event(&chunk)
    };
    let role = json!({"role": "assistant", "content": ""});
    let choice = |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
    let mut all: Vec<Bytes> = std::iter::once(role)
        .chain(pieces)
        .map(|delta| chunk(choice(delta, Value::Null), Value::Null))
        .collect();
    all.push(chunk(choice(json!({}), json!(finish_reason)), Value::Null));
    if request["stream_options"]["include_usage"] == true {
        all.push(chunk(json!([]), usage(output)));
    }
    all.push(Bytes::from("data: [DONE]\n\n"));
    all
}
