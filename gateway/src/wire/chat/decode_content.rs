//! The messages of a chat.

use crate::wire::{
    InvalidRequest, calls,
    conversation::{
        Call, CallResult, Document, DocumentContent, Message, Part, PartKind, Role, Source,
        Thinking,
    },
    fields::{Fields, Item},
};

/// Reads messages; what tools gave becomes part of what the user says, and successive results one message.
///
/// # Errors
/// [`InvalidRequest`] if one is malformed.
pub(super) fn decode_messages(items: Vec<Item<'_>>) -> Result<Vec<Message>, InvalidRequest> {
    let mut messages: Vec<Message> = Vec::with_capacity(items.len());
    let mut is_after_result = false;
    for item in items {
        let mut fields = item.fields()?;
        let role: String = fields.need("role")?;
        let (role, parts) = match role.as_str() {
            "system" | "developer" => (Role::System, content(&mut fields)?),
            "user" => (Role::User, content(&mut fields)?),
            "assistant" => (Role::Assistant, assistant(&mut fields)?),
            "tool" => {
                let result = vec![result(&mut fields)?];
                match messages.last_mut() {
                    Some(last) if is_after_result => last.parts.extend(result),
                    _ => messages.push(Message {
                        role: Role::User,
                        parts: result,
                    }),
                }
                is_after_result = true;
                continue;
            }
            _ => {
                let message = "must be `system`, `developer`, `user`, `assistant` or `tool`";
                return Err(fields.invalid("role", message));
            }
        };
        is_after_result = false;
        messages.push(Message { role, parts });
    }
    Ok(messages)
}

/// The parts of a content; a mark of the whole message is the mark of its last part.
fn content(fields: &mut Fields<'_>) -> Result<Vec<Part>, InvalidRequest> {
    let mark = fields.json("cache_control");
    let mut parts = match fields.take("content") {
        None => Vec::new(),
        Some(item) => match item.text() {
            Some(text) => vec![Part::new(item.at, PartKind::Text(text))],
            None => {
                let parts = item.items()?.into_iter().map(part);
                parts.collect::<Result<_, _>>()?
            }
        },
    };
    if let (Some(last), Some(mark)) = (parts.last_mut(), mark) {
        last.cache = Some(mark);
    }
    Ok(parts)
}

fn part(item: Item<'_>) -> Result<Part, InvalidRequest> {
    let mut fields = item.fields()?;
    let cache = fields.json("cache_control");
    let kind = match fields.need::<String>("type")?.as_str() {
        "text" => PartKind::Text(fields.need("text")?),
        "refusal" => PartKind::Refusal(fields.need("refusal")?),
        "image_url" => image(&mut fields)?,
        "input_audio" => {
            let mut audio = fields
                .object("input_audio")?
                .ok_or_else(|| fields.invalid("input_audio", "is missing"))?;
            PartKind::Audio {
                format: audio.need("format")?,
                data: audio.need("data")?,
            }
        }
        "file" => file(&mut fields)?,
        "thinking" => PartKind::Thinking(Thinking {
            text: fields.need("thinking")?,
            signature: fields.value("signature")?,
        }),
        _ => {
            let message = "must be `text`, `image_url`, `input_audio`, `file` or `refusal`";
            return Err(fields.invalid("type", message));
        }
    };
    Ok(Part {
        at: fields.at().to_owned(),
        kind,
        cache,
    })
}

fn image(fields: &mut Fields<'_>) -> Result<PartKind, InvalidRequest> {
    let item = fields
        .take("image_url")
        .ok_or_else(|| fields.invalid("image_url", "is missing"))?;
    // Some clients leave out the object around the URL.
    if let Some(url) = item.text() {
        let source = Source::of_url(url);
        return Ok(PartKind::Image {
            source,
            detail: None,
        });
    }
    let mut image = item.fields()?;
    Ok(PartKind::Image {
        source: Source::of_url(image.need("url")?),
        detail: image.value("detail")?,
    })
}

fn file(fields: &mut Fields<'_>) -> Result<PartKind, InvalidRequest> {
    let mut file = fields
        .object("file")?
        .ok_or_else(|| fields.invalid("file", "is missing"))?;
    let title: Option<String> = file.value("filename")?;
    let id: Option<String> = file.value("file_id")?;
    let data: Option<String> = file.value("file_data")?;
    let source = match (id, data) {
        (Some(id), _) => Source::File(id),
        (None, Some(data)) => Source::of_file(data),
        (None, None) => return Err(file.invalid("file_data", "is missing")),
    };
    Ok(PartKind::Document(Document {
        content: DocumentContent::Source(source),
        title,
        context: None,
    }))
}

fn assistant(fields: &mut Fields<'_>) -> Result<Vec<Part>, InvalidRequest> {
    let mut parts = thoughts(fields)?;
    parts.extend(content(fields)?);
    if let Some(refusal) = fields.value("refusal")? {
        let at = fields.path("refusal");
        parts.push(Part::new(at, PartKind::Refusal(refusal)));
    }
    for item in fields.list("tool_calls")? {
        let mut call = item.fields()?;
        let at = call.at().to_owned();
        let cache = call.json("cache_control");
        let kind: Option<String> = call.value("type")?;
        if kind.is_some_and(|kind| kind != "function") {
            return Err(call.invalid("type", "must be `function` with this model"));
        }
        let (id, signature) = calls::unseal(call.need("id")?);
        let mut function = call
            .object("function")?
            .ok_or_else(|| call.invalid("function", "is missing"))?;
        let kind = PartKind::Call(Call {
            id,
            name: function.need("name")?,
            arguments: function.value("arguments")?.unwrap_or_default(),
            signature,
        });
        parts.push(Part { at, kind, cache });
    }
    Ok(parts)
}

/// Thoughts of the model: blocks with their proofs, or else their plain text.
fn thoughts(fields: &mut Fields<'_>) -> Result<Vec<Part>, InvalidRequest> {
    let blocks = fields.list("thinking_blocks")?;
    let text: Option<String> = fields.value("reasoning_content")?;
    let other: Option<String> = fields.value("reasoning").unwrap_or_default();
    let mut parts = Vec::new();
    for item in blocks {
        let mut block = item.fields()?;
        let kind = match block.value::<String>("type")?.as_deref() {
            Some("redacted_thinking") => PartKind::Redacted(block.need("data")?),
            _ => PartKind::Thinking(Thinking {
                text: block.value("thinking")?.unwrap_or_default(),
                signature: block
                    .value("signature")?
                    .filter(|signature: &String| !signature.is_empty()),
            }),
        };
        parts.push(Part::new(block.at(), kind));
    }
    if let (true, Some(text)) = (parts.is_empty(), text.or(other))
        && !text.is_empty()
    {
        let thinking = Thinking {
            text,
            signature: None,
        };
        let at = fields.path("reasoning_content");
        parts.push(Part::new(at, PartKind::Thinking(thinking)));
    }
    Ok(parts)
}

fn result(fields: &mut Fields<'_>) -> Result<Part, InvalidRequest> {
    let (id, _) = calls::unseal(fields.need("tool_call_id")?);
    let mut content = content(fields)?;
    let cache = content.last_mut().and_then(|part| part.cache.take());
    let result = CallResult {
        id,
        content,
        is_error: false,
    };
    Ok(Part {
        at: fields.at().to_owned(),
        kind: PartKind::CallResult(result),
        cache,
    })
}
