//! The messages that an upstream of Bedrock's API gets.

use serde::Serialize;
use serde_json::{Value, json};

use crate::wire::{
    InvalidRequest,
    conversation::{
        Call, CallResult, Document, DocumentContent, Message, Part, PartKind, Role, Source,
    },
    json::Json,
    media,
    turns::{Turns, by_turns, is_said},
};

/// Characters of a document's name.
const NAME_LENGTH_MAX: usize = 200;

/// A message.
#[derive(Debug, Serialize)]
pub(super) struct BedrockMessage {
    role: &'static str,
    content: Vec<Block>,
}

/// A block.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block {
    Text(String),
    Image(Value),
    Document(Value),
    Audio(Value),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: String,
        name: String,
        input: Json,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: String,
        content: Vec<Self>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    ReasoningContent(Value),
    CachePoint(Value),
    /// Something structured, in results of tools.
    Json(Value),
}

/// What the model is told first, and the conversation.
///
/// # Errors
/// [`InvalidRequest`] if this API has no words for something.
pub(super) fn encode_messages(
    messages: Vec<Message>,
) -> Result<(Vec<Block>, Vec<BedrockMessage>), InvalidRequest> {
    let Turns { system, messages } = by_turns(messages, is_said);
    let encode = |message: Message| {
        Ok(BedrockMessage {
            role: match message.role {
                Role::Assistant => "assistant",
                Role::User | Role::System => "user",
            },
            content: blocks(message.parts)?,
        })
    };
    let messages = messages.into_iter().map(encode);
    Ok((blocks(system)?, messages.collect::<Result<_, _>>()?))
}

/// A mark of Anthropic's as Amazon has it.
pub(super) fn cache_point(mark: &Json) -> Value {
    let lasts_an_hour = mark.read::<Value>().is_some_and(|mark| mark["ttl"] == "1h");
    match lasts_an_hour {
        true => json!({"type": "default", "ttl": "1h"}),
        false => json!({"type": "default"}),
    }
}

fn blocks(parts: Vec<Part>) -> Result<Vec<Block>, InvalidRequest> {
    let mut blocks = Vec::with_capacity(parts.len());
    let mut documents = 0;
    for part in parts {
        let mark = part.cache.as_ref().map(cache_point);
        blocks.push(block(part, &mut documents)?);
        blocks.extend(mark.map(Block::CachePoint));
    }
    Ok(blocks)
}

fn block(part: Part, documents: &mut usize) -> Result<Block, InvalidRequest> {
    let Part { at, kind, .. } = part;
    match kind {
        PartKind::Text(text) | PartKind::Refusal(text) => Ok(Block::Text(text)),
        PartKind::Image { source, .. } => image(at, source),
        PartKind::Document(document) => {
            *documents += 1;
            encode_document(at, document, *documents)
        }
        PartKind::Audio { format, data } => Ok(Block::Audio(
            json!({"format": format, "source": {"bytes": data}}),
        )),
        PartKind::Call(call) => tool_use(at, call),
        PartKind::CallResult(result) => tool_result(result),
        PartKind::Thinking(thinking) => Ok(Block::ReasoningContent(json!({
            "reasoningText": {"text": thinking.text, "signature": thinking.signature},
        }))),
        PartKind::Redacted(data) => Ok(Block::ReasoningContent(json!({"redactedContent": data}))),
    }
}

fn image(at: String, source: Source) -> Result<Block, InvalidRequest> {
    let (format, source) = match source {
        Source::Base64 { media_type, data } => {
            (media::ending_of_type(&media_type), json!({"bytes": data}))
        }
        source => stored(&at, source)?,
    };
    match format {
        Some(format) => Ok(Block::Image(json!({"format": format, "source": source}))),
        None => Err(InvalidRequest::new(
            at,
            "is a picture of a type that this model does not take: send PNG, JPEG, GIF or WebP",
        )),
    }
}

/// A file in Amazon's store, the only place that this API fetches from.
fn stored(at: &str, source: Source) -> Result<(Option<&'static str>, Value), InvalidRequest> {
    match source {
        Source::Url(url) if url.starts_with("s3://") => {
            let format = media::type_of_url(&url).and_then(media::ending_of_type);
            Ok((format, json!({"s3Location": {"uri": url}})))
        }
        Source::Url(_) | Source::File(_) | Source::Base64 { .. } => Err(InvalidRequest::new(
            at,
            "is not fetched by this model: send its bytes",
        )),
    }
}

fn encode_document(at: String, document: Document, number: usize) -> Result<Block, InvalidRequest> {
    let (format, source) = match document.content {
        DocumentContent::Text(text) => (Some("txt"), json!({"text": text})),
        DocumentContent::Source(Source::Base64 { media_type, data }) => {
            (media::ending_of_type(&media_type), json!({"bytes": data}))
        }
        DocumentContent::Source(source) => stored(&at, source)?,
    };
    let Some(format) = format else {
        let message = "is a document of a type that this model does not take";
        return Err(InvalidRequest::new(at, message));
    };
    let name = document.title.as_deref().map(name).unwrap_or_default();
    let mut block = json!({
        "format": format,
        "name": match name.is_empty() {
            true => format!("document {number}"),
            false => name,
        },
        "source": source,
    });
    if let Some(context) = document.context {
        block["context"] = json!(context);
    }
    Ok(Block::Document(block))
}

/// A name of the letters that Amazon takes: single spaces, and no dots.
fn name(title: &str) -> String {
    let is_taken = |letter: char| letter.is_ascii_alphanumeric() || "-()[]".contains(letter);
    let letters = title.chars().take(NAME_LENGTH_MAX);
    let letters: String = letters
        .map(|letter| if is_taken(letter) { letter } else { ' ' })
        .collect();
    letters
        .split_ascii_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn tool_use(at: String, call: Call) -> Result<Block, InvalidRequest> {
    let Some(input) = Json::object(&call.arguments) else {
        let message = "has arguments that are not a JSON object";
        return Err(InvalidRequest::new(at, message));
    };
    Ok(Block::ToolUse {
        tool_use_id: call.id,
        name: call.name,
        input,
    })
}

fn tool_result(result: CallResult) -> Result<Block, InvalidRequest> {
    let mut parts = result.content;
    parts.retain(|part| is_said(&part.kind));
    let mut content = blocks(parts)?;
    if content.is_empty() {
        // A result without content is refused, and so is an empty text.
        content.push(Block::Json(json!({})));
    }
    Ok(Block::ToolResult {
        tool_use_id: result.id,
        content,
        status: result.is_error.then_some("error"),
    })
}
