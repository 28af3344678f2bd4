//! `/api/generate`: one prompt, which is a chat of one message.

use bytes::Bytes;
use serde::Serialize;

use super::decode_request;
use crate::wire::{
    InvalidRequest,
    conversation::Conversation,
    fields::Fields,
    json::{Extra, Json},
    to_body,
};

/// The same request as a chat.
#[derive(Serialize)]
struct Chat {
    messages: Vec<Said>,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize)]
struct Said {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Json>,
}

/// The body of the chat that a prompt stands for.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed, or wants a part of the prompt's text as only Ollama's own engine makes it.
pub(crate) fn generation_as_chat(body: &[u8]) -> Result<Bytes, InvalidRequest> {
    const LEAVE_OUT: &str = "is not supported here: leave it out, or use `/api/chat`";
    let mut fields = Fields::of_body(body)?;
    let is_raw: Option<bool> = fields.value("raw")?;
    if is_raw == Some(true) {
        return Err(fields.invalid("raw", LEAVE_OUT));
    }
    for name in ["suffix", "template"] {
        let text: Option<String> = fields.value(name)?;
        if text.is_some_and(|text| !text.is_empty()) {
            return Err(fields.invalid(name, LEAVE_OUT));
        }
    }
    let context: Option<Vec<i64>> = fields.value("context")?;
    if context.is_some_and(|context| !context.is_empty()) {
        return Err(fields.invalid("context", LEAVE_OUT));
    }
    let system: Option<String> = fields.value("system")?;
    let system = system.filter(|text| !text.is_empty()).map(|content| Said {
        role: "system",
        content,
        images: None,
    });
    let prompt = Said {
        role: "user",
        content: fields.value("prompt")?.unwrap_or_default(),
        images: fields.json("images"),
    };
    fields.ignore(&["messages", "tools"]);
    Ok(to_body(&Chat {
        messages: system.into_iter().chain([prompt]).collect(),
        extra: fields.rest(),
    }))
}

/// Reads a request.
///
/// # Errors
/// [`InvalidRequest`] as for [`generation_as_chat`] and chats.
pub(in crate::wire) fn decode_generation(body: &[u8]) -> Result<Conversation, InvalidRequest> {
    decode_request(&generation_as_chat(body)?)
}
