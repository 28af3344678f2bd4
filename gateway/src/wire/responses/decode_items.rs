//! The items of a conversation that a client of responses sends.

use super::blob;
use crate::wire::{
    InvalidRequest, calls,
    conversation::{
        Call, CallResult, Document, DocumentContent, Message, Part, PartKind, Role, Source,
        Thinking,
    },
    fields::{Fields, Item},
};

/// Reads a text or items. What the model said, thought and called in a row is one message of it, and results of
/// calls in a row are one of the user.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed.
pub(super) fn decode_input(input: Item<'_>) -> Result<Vec<Message>, InvalidRequest> {
    if let Some(text) = input.text() {
        return Ok(vec![Message {
            role: Role::User,
            parts: vec![Part::new(input.at, PartKind::Text(text))],
        }]);
    }
    let mut messages: Vec<Message> = Vec::new();
    let mut is_after_result = false;
    for item in input.items()? {
        let (message, is_result) = decode_item(item)?;
        let joins = message.role == Role::Assistant || (is_result && is_after_result);
        is_after_result = is_result;
        match messages.last_mut() {
            Some(last) if joins && last.role == message.role => last.parts.extend(message.parts),
            _ => messages.push(message),
        }
    }
    Ok(messages)
}

/// An item, and whether it is the result of a call.
fn decode_item(item: Item<'_>) -> Result<(Message, bool), InvalidRequest> {
    let mut fields = item.fields()?;
    let at = fields.at().to_owned();
    let kind: Option<String> = fields.value("type")?;
    let of_model = |parts| Message {
        role: Role::Assistant,
        parts,
    };
    match kind.as_deref().unwrap_or("message") {
        "message" => Ok((message(&mut fields)?, false)),
        "function_call" => {
            let (id, signature) = calls::unseal(fields.need("call_id")?);
            let call = PartKind::Call(Call {
                id,
                name: fields.need("name")?,
                arguments: fields.value("arguments")?.unwrap_or_default(),
                signature,
            });
            Ok((of_model(vec![Part::new(at, call)]), false))
        }
        "function_call_output" => {
            let (id, _) = calls::unseal(fields.need("call_id")?);
            let result = PartKind::CallResult(CallResult {
                id,
                content: content(&mut fields, "output")?,
                is_error: false,
            });
            let message = Message {
                role: Role::User,
                parts: vec![Part::new(at, result)],
            };
            Ok((message, true))
        }
        "reasoning" => Ok((of_model(reasoning(&mut fields)?), false)),
        "item_reference" => {
            let message =
                "is not supported with this model, since nothing is stored: send the item itself";
            Err(InvalidRequest::new(at, message))
        }
        kind => {
            let message = format!("`{kind}` is not supported with this model");
            Err(fields.invalid("type", message))
        }
    }
}

fn message(fields: &mut Fields<'_>) -> Result<Message, InvalidRequest> {
    let role = match fields.need::<String>("role")?.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => {
            let message = "must be `system`, `developer`, `user` or `assistant`";
            return Err(fields.invalid("role", message));
        }
    };
    let parts = content(fields, "content")?;
    Ok(Message { role, parts })
}

/// A text, or parts.
fn content(fields: &mut Fields<'_>, name: &str) -> Result<Vec<Part>, InvalidRequest> {
    let Some(item) = fields.take(name) else {
        return Ok(Vec::new());
    };
    if let Some(text) = item.text() {
        return Ok(vec![Part::new(item.at, PartKind::Text(text))]);
    }
    item.items()?.into_iter().map(part).collect()
}

fn part(item: Item<'_>) -> Result<Part, InvalidRequest> {
    let mut fields = item.fields()?;
    let kind = match fields.need::<String>("type")?.as_str() {
        "input_text" | "output_text" | "text" => PartKind::Text(fields.need("text")?),
        "refusal" => PartKind::Refusal(fields.need("refusal")?),
        "input_image" => {
            let id: Option<String> = fields.value("file_id")?;
            let url: Option<String> = fields.value("image_url")?;
            let source = match (url, id) {
                (Some(url), _) => Source::of_url(url),
                (None, Some(id)) => Source::File(id),
                (None, None) => return Err(fields.invalid("image_url", "is missing")),
            };
            PartKind::Image {
                source,
                detail: fields.value("detail")?,
            }
        }
        "input_file" => file(&mut fields)?,
        "input_audio" => {
            let mut audio = fields
                .object("input_audio")?
                .ok_or_else(|| fields.invalid("input_audio", "is missing"))?;
            PartKind::Audio {
                format: audio.need("format")?,
                data: audio.need("data")?,
            }
        }
        _ => {
            let message = "must be `input_text`, `output_text`, `input_image`, `input_file`, `input_audio` or `refusal`";
            return Err(fields.invalid("type", message));
        }
    };
    Ok(Part::new(fields.at(), kind))
}

fn file(fields: &mut Fields<'_>) -> Result<PartKind, InvalidRequest> {
    let title = fields.value("filename")?;
    let data: Option<String> = fields.value("file_data")?;
    let url: Option<String> = fields.value("file_url")?;
    let id: Option<String> = fields.value("file_id")?;
    let source = match (data, url, id) {
        (Some(data), _, _) => Source::of_file(data),
        (None, Some(url), _) => Source::Url(url),
        (None, None, Some(id)) => Source::File(id),
        (None, None, None) => return Err(fields.invalid("file_data", "is missing")),
    };
    Ok(PartKind::Document(Document {
        content: DocumentContent::Source(source),
        title,
        context: None,
    }))
}

/// What the model thought: sealed with its proof, or as plain text.
fn reasoning(fields: &mut Fields<'_>) -> Result<Vec<Part>, InvalidRequest> {
    let at = fields.at().to_owned();
    let sealed: Option<String> = fields.value("encrypted_content")?;
    if let Some(kind) = sealed.as_deref().and_then(blob::open) {
        return Ok(vec![Part::new(at, kind)]);
    }
    let mut text = String::new();
    for item in fields.list("content")? {
        let mut part = item.fields()?;
        let piece: Option<String> = part.value("text")?;
        text.push_str(&piece.unwrap_or_default());
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let thinking = Thinking {
        text,
        signature: None,
    };
    Ok(vec![Part::new(at, PartKind::Thinking(thinking))])
}
