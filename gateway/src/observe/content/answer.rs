//! Whole answers of chats, messages, responses and completions, in the words of the conventions.

use serde_json::{Map, Value, json};

use super::{
    parts::{parts, text},
    request::{list, parts_of_item, parts_of_message},
};
use crate::call::Operation;

/// What an answer says: a message for each choice. Nothing of an error.
pub(super) fn messages(operation: Operation, body: &Value) -> Vec<Value> {
    match operation {
        Operation::Chat => {
            let choices = list(&body["choices"]).iter();
            choices
                .map(|choice| {
                    told(
                        parts_of_message(&choice["message"]),
                        &choice["finish_reason"],
                    )
                })
                .collect()
        }
        Operation::Completion => {
            let choices = list(&body["choices"]).iter();
            choices
                .map(|choice| {
                    let content = choice["text"].as_str().unwrap_or_default();
                    told(vec![text(content)], &choice["finish_reason"])
                })
                .collect()
        }
        Operation::Message if body["content"].is_array() => {
            vec![told(parts(&body["content"]), &body["stop_reason"])]
        }
        Operation::Response if body["output"].is_array() => {
            let items = list(&body["output"]).iter();
            let parts: Vec<Value> = items.flat_map(parts_of_item).collect();
            let has_calls = parts.iter().any(|part| part["type"] == "tool_call");
            let reason = match body["status"].as_str() {
                Some("incomplete") => body["incomplete_details"]["reason"].clone(),
                Some("failed") => json!("error"),
                Some("completed") if has_calls => json!("tool_calls"),
                Some("completed") => json!("stop"),
                _ => Value::Null,
            };
            vec![told(parts, &reason)]
        }
        _ => Vec::new(),
    }
}

fn told(parts: Vec<Value>, reason: &Value) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    message.insert("parts".to_owned(), Value::Array(parts));
    if let Some(reason) = reason.as_str() {
        message.insert("finish_reason".to_owned(), json!(finish_reason(reason)));
    }
    Value::Object(message)
}

/// The word of the conventions for why an answer ended, where they have one.
fn finish_reason(reason: &str) -> &str {
    match reason {
        "end_turn" | "stop_sequence" => "stop",
        "max_tokens" | "max_output_tokens" => "length",
        "tool_calls" | "tool_use" | "function_call" => "tool_call",
        "refusal" => "content_filter",
        other => other,
    }
}
