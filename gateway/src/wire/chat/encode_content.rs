//! The messages of a chat, as an upstream gets them.

use serde::Serialize;
use serde_json::{Value, json};

use crate::wire::{
    InvalidRequest,
    conversation::{CallResult, Document, DocumentContent, Message, Part, PartKind, Role, Source},
};

/// What stands between the texts of one message: many servers take one text only.
const BETWEEN_TEXTS: &str = "\n\n";

/// A message.
#[derive(Debug, Serialize)]
pub(super) struct ChatMessage {
    role: &'static str,
    content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

/// The text of a message, or its parts.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Content {
    None,
    Text(String),
    Parts(Vec<Value>),
}

impl ChatMessage {
    const fn new(role: &'static str, content: Content) -> Self {
        Self {
            role,
            content,
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

/// The messages.
///
/// # Errors
/// [`InvalidRequest`] if chats have no words for something.
pub(super) fn encode_messages(messages: Vec<Message>) -> Result<Vec<ChatMessage>, InvalidRequest> {
    let mut encoded = Vec::with_capacity(messages.len());
    for message in messages {
        match message.role {
            Role::System => {
                let content = content(message.parts, BETWEEN_TEXTS)?;
                encoded.push(ChatMessage::new("system", content));
            }
            Role::User => user(message.parts, &mut encoded)?,
            Role::Assistant => encoded.push(assistant(message.parts)?),
        }
    }
    Ok(encoded)
}

/// What the user says. What tools gave comes first, as messages of their own; pictures among it follow in the user's
/// message, since those of tools hold text only.
fn user(parts: Vec<Part>, encoded: &mut Vec<ChatMessage>) -> Result<(), InvalidRequest> {
    let mut said = Vec::new();
    let mut shown = Vec::new();
    for part in parts {
        match part.kind {
            PartKind::CallResult(result) => encoded.push(tool(result, &mut shown)),
            _ => said.push(part),
        }
    }
    shown.append(&mut said);
    if !shown.is_empty() {
        let content = content(shown, BETWEEN_TEXTS)?;
        encoded.push(ChatMessage::new("user", content));
    }
    Ok(())
}

fn tool(result: CallResult, shown: &mut Vec<Part>) -> ChatMessage {
    let mut texts = Vec::new();
    let mut rest = Vec::new();
    for part in result.content {
        match part.kind {
            PartKind::Text(text) => texts.push(text),
            _ => rest.push(part),
        }
    }
    if !rest.is_empty() {
        let note = format!("What the call {} of a tool showed:", result.id);
        shown.push(Part::new("", PartKind::Text(note)));
        shown.append(&mut rest);
    }
    let mut text = texts.join(BETWEEN_TEXTS);
    if result.is_error && !text.to_ascii_lowercase().starts_with("error") {
        // Chats have no other word for it.
        text.insert_str(0, "Error: ");
    }
    ChatMessage {
        tool_call_id: Some(result.id),
        ..ChatMessage::new("tool", Content::Text(text))
    }
}

fn assistant(parts: Vec<Part>) -> Result<ChatMessage, InvalidRequest> {
    let mut said = Vec::new();
    let mut thoughts = String::new();
    let mut tool_calls = Vec::new();
    for part in parts {
        match part.kind {
            PartKind::Call(call) => tool_calls.push(json!({
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })),
            // Thoughts with a proof are another maker's, who alone can use them.
            PartKind::Thinking(thinking) if thinking.signature.is_none() => {
                thoughts.push_str(&thinking.text);
            }
            PartKind::Thinking(_) | PartKind::Redacted(_) => {}
            PartKind::Text(_)
            | PartKind::Image { .. }
            | PartKind::Document(_)
            | PartKind::Audio { .. }
            | PartKind::CallResult(_)
            | PartKind::Refusal(_) => said.push(part),
        }
    }
    // The texts of one answer follow each other without a gap.
    let content = match content(said, "")? {
        Content::Text(text) if text.is_empty() && !tool_calls.is_empty() => Content::None,
        content => content,
    };
    Ok(ChatMessage {
        reasoning_content: (!thoughts.is_empty()).then_some(thoughts),
        tool_calls,
        ..ChatMessage::new("assistant", content)
    })
}

/// One text if there is nothing but text, else parts.
fn content(parts: Vec<Part>, between: &str) -> Result<Content, InvalidRequest> {
    let is_text = |part: &Part| matches!(part.kind, PartKind::Text(_));
    if parts.iter().all(is_text) {
        let texts = parts.into_iter().filter_map(|part| match part.kind {
            PartKind::Text(text) => Some(text),
            _ => None,
        });
        return Ok(Content::Text(texts.collect::<Vec<_>>().join(between)));
    }
    let parts = parts.into_iter().map(encode_part);
    Ok(Content::Parts(parts.collect::<Result<_, _>>()?))
}

fn encode_part(part: Part) -> Result<Value, InvalidRequest> {
    let invalid = |message: &str| Err(InvalidRequest::new(part.at.clone(), message));
    match part.kind {
        PartKind::Text(text) => Ok(json!({"type": "text", "text": text})),
        PartKind::Refusal(refusal) => Ok(json!({"type": "refusal", "refusal": refusal})),
        PartKind::Image { source, detail } => match source.url() {
            Some(url) => {
                let mut image = json!({"url": url});
                if let Some(detail) = detail {
                    image["detail"] = json!(detail);
                }
                Ok(json!({"type": "image_url", "image_url": image}))
            }
            None => invalid("is a file of another API: send its bytes or a URL"),
        },
        PartKind::Audio { format, data } => {
            let audio = json!({"format": format, "data": data});
            Ok(json!({"type": "input_audio", "input_audio": audio}))
        }
        PartKind::Document(document) => match encode_document(document) {
            Some(value) => Ok(value),
            None => {
                invalid("is a document on the web, which this model does not fetch: send its bytes")
            }
        },
        PartKind::Call(_)
        | PartKind::CallResult(_)
        | PartKind::Thinking(_)
        | PartKind::Redacted(_) => invalid("cannot stand in a message of this role"),
    }
}

fn encode_document(document: Document) -> Option<Value> {
    let source = match document.content {
        DocumentContent::Text(text) => {
            let text = match document.title {
                Some(title) => format!("{title}\n\n{text}"),
                None => text,
            };
            return Some(json!({"type": "text", "text": text}));
        }
        DocumentContent::Source(source) => source,
    };
    let file = match &source {
        Source::File(id) => json!({"file_id": id}),
        Source::Base64 { .. } => {
            let title = document.title.as_deref().unwrap_or("document.pdf");
            json!({"filename": title, "file_data": source.url()})
        }
        Source::Url(_) => return None,
    };
    Some(json!({"type": "file", "file": file}))
}
