//! The conversation of a loop: its messages, and the tool calls that wait for an answer.

use protocol::openai::{ChatMessage, ToolCall};
use serde_json::{Value, json};

/// The channel of a loop's messages.
pub(crate) const MESSAGES: &str = "messages";

/// The first messages of a conversation: a text, a list of messages under `messages`, or other JSON as text.
pub(super) fn opening(input: &Value) -> Value {
    if let Value::String(text) = input {
        return json!([{ "role": "user", "content": text }]);
    }
    if let Some(Value::Array(messages)) = input.get(MESSAGES) {
        return Value::Array(messages.clone());
    }
    json!([{ "role": "user", "content": input.to_string() }])
}

/// The last message of a conversation.
pub(crate) fn last_message(messages: Option<&Value>) -> Option<ChatMessage> {
    let last = messages?.as_array()?.last()?;
    serde_json::from_value(last.clone()).ok()
}

/// The calls that the conversation's last message makes.
pub(crate) fn pending_calls(messages: Option<&Value>) -> Vec<ToolCall> {
    last_message(messages)
        .filter(|message| message.role == "assistant")
        .and_then(|message| message.tool_calls)
        .unwrap_or_default()
}
