//! The messages that a client of Anthropic's API sends.

use crate::wire::{
    InvalidRequest, calls,
    conversation::{
        Call, CallResult, Document, DocumentContent, Message, Part, PartKind, Role, Source,
        Thinking,
    },
    fields::{Fields, Item},
};

/// What the model is told before the conversation.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed.
pub(super) fn decode_system(fields: &mut Fields<'_>) -> Result<Vec<Message>, InvalidRequest> {
    let parts = content(fields, "system")?;
    Ok(match parts.is_empty() {
        true => Vec::new(),
        false => vec![Message {
            role: Role::System,
            parts,
        }],
    })
}

/// The conversation.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed.
pub(super) fn decode_messages(items: Vec<Item<'_>>) -> Result<Vec<Message>, InvalidRequest> {
    let decode = |item: Item<'_>| {
        let mut fields = item.fields()?;
        let role = match fields.need::<String>("role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(fields.invalid("role", "must be `user`, `assistant` or `system`")),
        };
        let parts = content(&mut fields, "content")?;
        Ok(Message { role, parts })
    };
    items.into_iter().map(decode).collect()
}

/// A text, or blocks.
fn content(fields: &mut Fields<'_>, name: &str) -> Result<Vec<Part>, InvalidRequest> {
    let Some(item) = fields.take(name) else {
        return Ok(Vec::new());
    };
    if let Some(text) = item.text() {
        return Ok(vec![Part::new(item.at, PartKind::Text(text))]);
    }
    item.items()?.into_iter().map(block).collect()
}

fn block(item: Item<'_>) -> Result<Part, InvalidRequest> {
    let mut fields = item.fields()?;
    let cache = fields.json("cache_control");
    let kind = match fields.need::<String>("type")?.as_str() {
        "text" => PartKind::Text(fields.need("text")?),
        "image" => PartKind::Image {
            source: source(&mut fields)?,
            detail: None,
        },
        "document" => document(&mut fields)?,
        "tool_use" => {
            let (id, signature) = calls::unseal(fields.need("id")?);
            let arguments = fields.json("input");
            PartKind::Call(Call {
                id,
                name: fields.need("name")?,
                arguments: arguments.map_or_else(|| "{}".to_owned(), |input| input.compact()),
                signature,
            })
        }
        "tool_result" => {
            let (id, _) = calls::unseal(fields.need("tool_use_id")?);
            PartKind::CallResult(CallResult {
                id,
                content: content(&mut fields, "content")?,
                is_error: fields.value("is_error")?.unwrap_or(false),
            })
        }
        "thinking" => PartKind::Thinking(Thinking {
            text: fields.need("thinking")?,
            signature: fields
                .value("signature")?
                .filter(|signature: &String| !signature.is_empty()),
        }),
        "redacted_thinking" => PartKind::Redacted(fields.need("data")?),
        kind => {
            let message = format!("`{kind}` is not supported with this model");
            return Err(fields.invalid("type", message));
        }
    };
    Ok(Part {
        at: fields.at().to_owned(),
        kind,
        cache,
    })
}

fn source(fields: &mut Fields<'_>) -> Result<Source, InvalidRequest> {
    let mut source = fields
        .object("source")?
        .ok_or_else(|| fields.invalid("source", "is missing"))?;
    match source.need::<String>("type")?.as_str() {
        "base64" => Ok(Source::Base64 {
            media_type: source.need("media_type")?,
            data: source.need("data")?,
        }),
        "url" => Ok(Source::Url(source.need("url")?)),
        "file" => Ok(Source::File(source.need("file_id")?)),
        _ => Err(source.invalid("type", "must be `base64`, `url` or `file`")),
    }
}

fn document(fields: &mut Fields<'_>) -> Result<PartKind, InvalidRequest> {
    let title = fields.value("title")?;
    let context: Option<String> = fields.value("context")?;
    let mut source_fields = fields
        .object("source")?
        .ok_or_else(|| fields.invalid("source", "is missing"))?;
    let content = match source_fields.need::<String>("type")?.as_str() {
        "text" => DocumentContent::Text(source_fields.need("data")?),
        "base64" => DocumentContent::Source(Source::Base64 {
            media_type: source_fields.need("media_type")?,
            data: source_fields.need("data")?,
        }),
        "url" => DocumentContent::Source(Source::Url(source_fields.need("url")?)),
        "file" => DocumentContent::Source(Source::File(source_fields.need("file_id")?)),
        _ => {
            let message = "must be `text`, `base64`, `url` or `file` with this model";
            return Err(source_fields.invalid("type", message));
        }
    };
    let cites = match fields.object("citations")? {
        Some(mut citations) => citations.value("enabled")?.unwrap_or(false),
        None => false,
    };
    if cites {
        let message = "are not supported with this model: leave them out";
        return Err(fields.invalid("citations", message));
    }
    Ok(PartKind::Document(Document {
        content,
        title,
        context,
    }))
}
