//! The messages that an upstream of Anthropic's API gets.

use serde::Serialize;
use serde_json::{Value, json};

use crate::wire::{
    InvalidRequest,
    conversation::{
        Call, CallResult, Document, DocumentContent, Message, Part, PartKind, Role, Source,
    },
    json::Json,
    turns::{by_turns, is_said},
};

/// A message.
#[derive(Debug, Serialize)]
pub(super) struct WireMessage {
    role: &'static str,
    content: Vec<WireBlock>,
}

/// A block, and the mark that the prompt up to here is worth caching.
#[derive(Debug, Serialize)]
struct WireBlock {
    #[serde(flatten)]
    body: Body,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Json>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body {
    Text {
        text: String,
    },
    Image {
        source: Value,
    },
    Document {
        source: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    ToolUse {
        id: String,
        name: String,
        input: Json,
    },
    ToolResult {
        tool_use_id: String,
        content: Vec<WireBlock>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
}

/// The conversation as this API wants it: what the model is told first, apart.
#[derive(Debug)]
pub(super) struct Split {
    /// A text, or blocks if one of them is marked.
    pub(super) system: Option<Value>,
    /// Users and assistants by turns.
    pub(super) messages: Vec<WireMessage>,
}

/// The messages; successive ones of one role become one, and what was said by nobody is told first.
///
/// # Errors
/// [`InvalidRequest`] if messages have no words for something.
pub(super) fn encode_messages(messages: Vec<Message>) -> Result<Split, InvalidRequest> {
    let turns = by_turns(messages, is_said);
    let encode = |message: Message| {
        Ok(WireMessage {
            role: match message.role {
                Role::Assistant => "assistant",
                Role::User | Role::System => "user",
            },
            content: blocks(message.parts)?,
        })
    };
    let messages = turns.messages.into_iter().map(encode);
    Ok(Split {
        system: join(blocks(turns.system)?),
        messages: messages.collect::<Result<_, _>>()?,
    })
}

/// One text stands alone.
fn join(mut system: Vec<WireBlock>) -> Option<Value> {
    if let [
        WireBlock {
            body: Body::Text { text },
            cache_control: None,
        },
    ] = system.as_mut_slice()
    {
        return Some(Value::String(std::mem::take(text)));
    }
    (!system.is_empty()).then(|| serde_json::to_value(&system).unwrap_or_default())
}

fn blocks(parts: Vec<Part>) -> Result<Vec<WireBlock>, InvalidRequest> {
    let blocks = parts.into_iter().map(block);
    blocks.filter_map(Result::transpose).collect()
}

/// The block of a part; `None` for empty texts, which the API refuses, and thoughts of other makers.
fn block(part: Part) -> Result<Option<WireBlock>, InvalidRequest> {
    let Part { at, kind, cache } = part;
    let body = match kind {
        PartKind::Text(text) | PartKind::Refusal(text) if text.is_empty() => return Ok(None),
        PartKind::Text(text) | PartKind::Refusal(text) => Body::Text { text },
        PartKind::Image {
            source: picture, ..
        } => Body::Image {
            source: source(picture),
        },
        PartKind::Document(document) => encode_document(at, document)?,
        PartKind::Audio { .. } => {
            let message = "is sound, which this model does not take: send text";
            return Err(InvalidRequest::new(at, message));
        }
        PartKind::Call(call) => tool_use(at, call)?,
        PartKind::CallResult(result) => tool_result(result)?,
        PartKind::Redacted(data) => Body::RedactedThinking { data },
        PartKind::Thinking(thinking) => match thinking.signature {
            Some(signature) => Body::Thinking {
                thinking: thinking.text,
                signature,
            },
            None => return Ok(None),
        },
    };
    Ok(Some(WireBlock {
        body,
        cache_control: cache,
    }))
}

fn tool_use(at: String, call: Call) -> Result<Body, InvalidRequest> {
    let Some(input) = Json::object(&call.arguments) else {
        let message = "has arguments that are not a JSON object";
        return Err(InvalidRequest::new(at, message));
    };
    Ok(Body::ToolUse {
        id: call.id,
        name: call.name,
        input,
    })
}

fn tool_result(result: CallResult) -> Result<Body, InvalidRequest> {
    Ok(Body::ToolResult {
        tool_use_id: result.id,
        content: blocks(result.content)?,
        is_error: result.is_error,
    })
}

fn source(source: Source) -> Value {
    match source {
        Source::Base64 { media_type, data } => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::File(id) => json!({"type": "file", "file_id": id}),
    }
}

fn encode_document(at: String, document: Document) -> Result<Body, InvalidRequest> {
    let source = match document.content {
        DocumentContent::Text(text) => {
            json!({"type": "text", "media_type": "text/plain", "data": text})
        }
        DocumentContent::Source(Source::Base64 { media_type, data })
            if media_type.starts_with("text/") =>
        {
            let Some(text) = crate::wire::base64::decode_text(&data) else {
                return Err(InvalidRequest::new(at, "is not UTF-8 text in base64"));
            };
            json!({"type": "text", "media_type": "text/plain", "data": text})
        }
        DocumentContent::Source(document) => source(document),
    };
    Ok(Body::Document {
        source,
        title: document.title,
        context: document.context,
    })
}
