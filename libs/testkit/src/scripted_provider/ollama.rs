//! Ollama's chats: lines of JSON, of which the last one counts.

use axum::{body::Bytes, http::StatusCode};
use serde_json::{Value, json};

use super::{Answer, PROMPT_TOKENS, Scripted, events, status, words};

const STREAM: &str = "application/x-ndjson";

pub(super) fn answer(scripted: &Scripted, request: &Value) -> Answer {
    // A chat is streamed unless it says that it is not.
    let is_stream = request["stream"] != false;
    match scripted {
        Scripted::Error(code, message) => Answer::Whole(status(*code), json!({"error": message})),
        Scripted::Redirect(_) | Scripted::Json(_) => {
            Answer::Whole(status(500), json!({"error": "no redirect"}))
        }
        Scripted::ErrorEvent => events(
            STREAM,
            vec![line(&json!({"error": "the runner crashed"}))],
            None,
        ),
        Scripted::Text(text) if is_stream => events(STREAM, text_lines(request, text), None),
        Scripted::Cut(text, kept) => events(STREAM, text_lines(request, text), Some(*kept)),
        Scripted::Call if is_stream => {
            let lines = [
                message(request, &call()),
                end(request, &json!({"content": ""}), 1),
            ];
            events(STREAM, lines.iter().map(line).collect(), None)
        }
        Scripted::Text(text) => {
            let content = json!({"content": text});
            Answer::Whole(StatusCode::OK, end(request, &content, words(text)))
        }
        Scripted::Call => Answer::Whole(StatusCode::OK, end(request, &call(), 1)),
    }
}

fn call() -> Value {
    let function = json!({"name": "weather", "arguments": {"city": "Oslo"}});
    json!({"content": "", "tool_calls": [{"function": function}]})
}

fn message(request: &Value, message: &Value) -> Value {
    let mut message = message.clone();
    message["role"] = json!("assistant");
    json!({
        "model": request["model"], "created_at": "2026-01-01T00:00:00Z", "message": message, "done": false,
    })
}

fn end(request: &Value, said: &Value, output: usize) -> Value {
    let mut end = message(request, said);
    end["done"] = json!(true);
    end["done_reason"] = json!("stop");
    end["prompt_eval_count"] = json!(PROMPT_TOKENS);
    end["eval_count"] = json!(output);
    end
}

fn text_lines(request: &Value, text: &str) -> Vec<Bytes> {
    let pieces = text
        .split_inclusive(' ')
        .map(|piece| message(request, &json!({"content": piece})));
    let last = end(request, &json!({"content": ""}), words(text));
    pieces.chain([last]).map(|value| line(&value)).collect()
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}
