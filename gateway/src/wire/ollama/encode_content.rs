//! The messages that an upstream of Ollama's API gets.

use std::collections::HashMap;

use serde::Serialize;

use crate::wire::{
    InvalidRequest,
    conversation::{CallResult, Document, DocumentContent, Message, Part, PartKind, Role, Source},
    json::Json,
    turns::names_of_calls,
};

/// What stands between the texts of one message, which has one text only.
const BETWEEN_TEXTS: &str = "\n\n";

/// A message.
#[derive(Debug, Default, Serialize)]
pub(super) struct OllamaMessage {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<String>,
}

#[derive(Debug, Serialize)]
struct ToolCall {
    function: Function,
}

#[derive(Debug, Serialize)]
struct Function {
    name: String,
    arguments: Json,
}

/// The messages.
///
/// # Errors
/// [`InvalidRequest`] if this API has no words for something.
pub(super) fn encode_messages(
    messages: Vec<Message>,
) -> Result<Vec<OllamaMessage>, InvalidRequest> {
    let names = names_of_calls(&messages);
    let mut encoded = Vec::with_capacity(messages.len());
    for message in messages {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let mut said = OllamaMessage {
            role,
            ..OllamaMessage::default()
        };
        let mut has_results = false;
        let mut texts = Vec::new();
        for part in message.parts {
            match part.kind {
                PartKind::CallResult(result) => {
                    has_results = true;
                    encoded.push(tool(part.at, result, &names)?);
                }
                kind => say(part.at, kind, &mut said, &mut texts)?,
            }
        }
        let between = match message.role {
            // The texts of one answer follow each other without a gap.
            Role::Assistant => "",
            Role::System | Role::User => BETWEEN_TEXTS,
        };
        said.content = texts.join(between);
        let is_empty = said.content.is_empty() && said.images.is_empty();
        if !(has_results && is_empty) {
            encoded.push(said);
        }
    }
    Ok(encoded)
}

fn say(
    at: String,
    kind: PartKind,
    said: &mut OllamaMessage,
    texts: &mut Vec<String>,
) -> Result<(), InvalidRequest> {
    match kind {
        PartKind::Text(text) | PartKind::Refusal(text) => texts.push(text),
        PartKind::Image {
            source: Source::Base64 { data, .. },
            ..
        } => said.images.push(data),
        PartKind::Document(Document {
            content: DocumentContent::Text(text),
            title,
            ..
        }) => {
            texts.extend(title);
            texts.push(text);
        }
        PartKind::Image { .. } | PartKind::Document(_) | PartKind::Audio { .. } => {
            let message = "cannot be shown to this model: send text, or the bytes of a picture";
            return Err(InvalidRequest::new(at, message));
        }
        PartKind::Call(call) => {
            let Some(arguments) = Json::object(&call.arguments) else {
                let message = "has arguments that are not a JSON object";
                return Err(InvalidRequest::new(at, message));
            };
            let function = Function {
                name: call.name,
                arguments,
            };
            said.tool_calls.push(ToolCall { function });
        }
        // Thoughts with a proof are another maker's, who alone can use them.
        PartKind::Thinking(thinking) if thinking.signature.is_none() => {
            said.thinking
                .get_or_insert_default()
                .push_str(&thinking.text);
        }
        PartKind::Thinking(_) | PartKind::Redacted(_) | PartKind::CallResult(_) => {}
    }
    Ok(())
}

fn tool(
    at: String,
    result: CallResult,
    names: &HashMap<String, String>,
) -> Result<OllamaMessage, InvalidRequest> {
    let Some(name) = names.get(&result.id) else {
        let message = "answers a call that is not in the conversation";
        return Err(InvalidRequest::new(at, message));
    };
    let mut message = OllamaMessage {
        role: "tool",
        tool_name: Some(name.clone()),
        ..OllamaMessage::default()
    };
    let mut texts = Vec::new();
    for Part { at, kind, .. } in result.content {
        say(at, kind, &mut message, &mut texts)?;
    }
    message.content = texts.join(BETWEEN_TEXTS);
    if result.is_error && !message.content.to_ascii_lowercase().starts_with("error") {
        // This API has no other word for it.
        message.content.insert_str(0, "Error: ");
    }
    Ok(message)
}
