//! Amazon Bedrock's Converse, with signatures or an API key, and its binary streams.

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};

use super::{
    API_KEY, Answer, CACHED_TOKENS, PROMPT_TOKENS, Scripted, events, shows, status, words,
};

const STREAM: &str = "application/vnd.amazon.eventstream";
/// A header's value that is a string.
const STRING: u8 = 7;

/// An API key, or a signature for the service; whether it is the right one is for tests of the signer.
pub(super) fn is_let_in(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_signed = text("authorization").is_some_and(|value| {
        value.starts_with("AWS4-HMAC-SHA256 Credential=AKID/")
            && value.contains("/us-east-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=")
    });
    let is_key = shows(headers, "authorization", &format!("Bearer {API_KEY}"));
    is_key || (is_signed && text("x-amz-date").is_some_and(|date| date.len() == 16))
}

pub(super) fn is_path(path: &str) -> bool {
    let method = path
        .strip_prefix("/model/")
        .and_then(|rest| rest.split_once('/'));
    method.is_some_and(|(_, method)| matches!(method, "converse" | "converse-stream" | "invoke"))
}

pub(super) fn answer(scripted: &Scripted, path: &str) -> Answer {
    let is_stream = path.ends_with("-stream");
    match scripted {
        Scripted::Error(code, message) => Answer::Whole(status(*code), json!({"message": message})),
        Scripted::Redirect(_) | Scripted::Json(_) => {
            Answer::Whole(status(500), json!({"message": "no redirect"}))
        }
        Scripted::ErrorEvent => {
            let message = json!({"message": "Too many requests"});
            let kind = ("exception", ":exception-type", "throttlingException");
            events(STREAM, vec![frame(kind, &message)], None)
        }
        Scripted::Text(text) if is_stream => events(STREAM, text_events(text), None),
        Scripted::Cut(text, kept) => events(STREAM, text_events(text), Some(*kept)),
        Scripted::Call if is_stream => events(STREAM, call_events(), None),
        Scripted::Text(text) => whole(&json!({"text": text}), "end_turn", words(text)),
        Scripted::Call => {
            let call =
                json!({"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Oslo"}});
            whole(&json!({"toolUse": call}), "tool_use", 1)
        }
    }
}

fn usage(output: usize) -> Value {
    json!({
        "inputTokens": PROMPT_TOKENS - CACHED_TOKENS, "outputTokens": output,
        "totalTokens": PROMPT_TOKENS + output as u64, "cacheReadInputTokens": CACHED_TOKENS,
        "cacheWriteInputTokens": 0,
    })
}

fn whole(block: &Value, stop_reason: &str, output: usize) -> Answer {
    let body = json!({
        "output": {"message": {"role": "assistant", "content": [block]}}, "stopReason": stop_reason,
        "usage": usage(output), "metrics": {"latencyMs": 1},
    });
    Answer::Whole(StatusCode::OK, body)
}

fn text_events(text: &str) -> Vec<Bytes> {
    let pieces = text
        .split_inclusive(' ')
        .map(|piece| json!({"text": piece}));
    stream_of(None, pieces.collect(), "end_turn", words(text))
}

fn call_events() -> Vec<Bytes> {
    let start = json!({"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}});
    let pieces = ["{\"city\":", " \"Oslo\"}"].map(|piece| json!({"toolUse": {"input": piece}}));
    stream_of(Some(start), pieces.to_vec(), "tool_use", 1)
}

fn stream_of(
    start: Option<Value>,
    pieces: Vec<Value>,
    stop_reason: &str,
    output: usize,
) -> Vec<Bytes> {
    let mut all = vec![("messageStart", json!({"role": "assistant"}))];
    if let Some(start) = start {
        all.push((
            "contentBlockStart",
            json!({"contentBlockIndex": 0, "start": start}),
        ));
    }
    let deltas = pieces.into_iter().map(|piece| {
        let delta = json!({"contentBlockIndex": 0, "delta": piece});
        ("contentBlockDelta", delta)
    });
    all.extend(deltas);
    all.extend([
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": stop_reason})),
        (
            "metadata",
            json!({"usage": usage(output), "metrics": {"latencyMs": 1}}),
        ),
    ]);
    all.iter()
        .map(|(name, payload)| frame(("event", ":event-type", name), payload))
        .collect()
}

/// A frame: two lengths and their checksum, headers, the payload, and the checksum of all.
fn frame((message, header, name): (&str, &str, &str), payload: &Value) -> Bytes {
    let mut headers = Vec::new();
    for (name, value) in [
        (header, name),
        (":content-type", "application/json"),
        (":message-type", message),
    ] {
        headers.push(length(name.len()));
        headers.extend_from_slice(name.as_bytes());
        headers.extend_from_slice(&[STRING, 0, length(value.len())]);
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let total = 16 + headers.len() + payload.len();
    let mut frame = Vec::new();
    for length in [total, headers.len()] {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        frame.extend_from_slice(&length.to_be_bytes());
    }
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload.as_bytes());
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.into()
}

fn length(length: usize) -> u8 {
    // Names and values here are short.
    u8::try_from(length).unwrap_or(u8::MAX)
}
