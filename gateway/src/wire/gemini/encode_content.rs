//! The contents that an upstream of Google's API gets.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::generation::needs_signatures;
use crate::wire::{
    InvalidRequest,
    conversation::{
        Call, CallResult, Document, DocumentContent, Message, Part, PartKind, Role, Source,
    },
    json::Json,
    media,
    turns::{Turns, by_turns, is_said, names_of_calls},
};

/// What Google's API takes in place of a proof for calls that another model made.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// What one side says.
#[derive(Debug, Serialize)]
pub(super) struct Content {
    role: &'static str,
    parts: Vec<GeminiPart>,
}

/// A part, and the proof of the thoughts before it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GeminiPart {
    #[serde(flatten)]
    body: Body,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Body {
    Text(String),
    #[serde(rename_all = "camelCase")]
    InlineData {
        mime_type: String,
        data: String,
    },
    #[serde(rename_all = "camelCase")]
    FileData {
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<&'static str>,
        file_uri: String,
    },
    FunctionCall {
        name: String,
        args: Json,
    },
    FunctionResponse {
        name: String,
        response: Value,
    },
}

impl From<Body> for GeminiPart {
    fn from(body: Body) -> Self {
        Self {
            body,
            thought_signature: None,
        }
    }
}

/// What the model is told first, and the conversation.
///
/// # Errors
/// [`InvalidRequest`] if this API has no words for something.
pub(super) fn encode_contents(
    messages: Vec<Message>,
    model: &str,
) -> Result<(Vec<GeminiPart>, Vec<Content>), InvalidRequest> {
    let is_used = |kind: &PartKind| {
        // Thoughts are never sent back: their proof is with the calls.
        is_said(kind) && !matches!(kind, PartKind::Thinking(_) | PartKind::Redacted(_))
    };
    let names = names_of_calls(&messages);
    let Turns { system, messages } = by_turns(messages, is_used);
    let mut first = Vec::new();
    for part in system {
        encode(part, &names, &mut first)?;
    }
    let needs_signatures = needs_signatures(model);
    let mut contents = Vec::with_capacity(messages.len());
    for message in messages {
        let mut parts = Vec::new();
        for part in message.parts {
            encode(part, &names, &mut parts)?;
        }
        if needs_signatures {
            sign(&mut parts);
        }
        let role = match message.role {
            Role::Assistant => "model",
            Role::User | Role::System => "user",
        };
        contents.push(Content { role, parts });
    }
    Ok((first, contents))
}

/// Marks the first call of a turn, which must have a proof, as one of another model if it has none.
fn sign(parts: &mut [GeminiPart]) {
    let is_call = |part: &&mut GeminiPart| matches!(part.body, Body::FunctionCall { .. });
    if let Some(first) = parts.iter_mut().find(is_call) {
        first
            .thought_signature
            .get_or_insert_with(|| NO_SIGNATURE.to_owned());
    }
}

fn encode(
    part: Part,
    names: &HashMap<String, String>,
    parts: &mut Vec<GeminiPart>,
) -> Result<(), InvalidRequest> {
    let Part { at, kind, .. } = part;
    let body = match kind {
        PartKind::Text(text) | PartKind::Refusal(text) => Body::Text(text),
        PartKind::Image { source, .. } => data(at, source)?,
        PartKind::Document(document) => encode_document(at, document)?,
        PartKind::Audio { format, data } => Body::InlineData {
            mime_type: format!("audio/{format}"),
            data,
        },
        PartKind::Call(call) => {
            parts.push(function_call(at, call)?);
            return Ok(());
        }
        PartKind::CallResult(result) => return function_response(at, result, names, parts),
        PartKind::Thinking(_) | PartKind::Redacted(_) => return Ok(()),
    };
    parts.push(body.into());
    Ok(())
}

fn data(at: String, source: Source) -> Result<Body, InvalidRequest> {
    match source {
        Source::Base64 { media_type, data } => Ok(Body::InlineData {
            mime_type: media_type,
            data,
        }),
        Source::Url(url) => Ok(Body::FileData {
            mime_type: media::type_of_url(&url),
            file_uri: url,
        }),
        Source::File(_) => {
            let message = "is a file of another API: send its bytes or a URL";
            Err(InvalidRequest::new(at, message))
        }
    }
}

fn encode_document(at: String, document: Document) -> Result<Body, InvalidRequest> {
    match document.content {
        DocumentContent::Text(text) => Ok(Body::Text(match document.title {
            Some(title) => format!("{title}\n\n{text}"),
            None => text,
        })),
        DocumentContent::Source(source) => data(at, source),
    }
}

fn function_call(at: String, call: Call) -> Result<GeminiPart, InvalidRequest> {
    let Some(args) = Json::object(&call.arguments) else {
        let message = "has arguments that are not a JSON object";
        return Err(InvalidRequest::new(at, message));
    };
    Ok(GeminiPart {
        body: Body::FunctionCall {
            name: call.name,
            args,
        },
        thought_signature: call.signature,
    })
}

/// The result of a call, which this API knows by the tool's name; pictures follow it.
fn function_response(
    at: String,
    result: CallResult,
    names: &HashMap<String, String>,
    parts: &mut Vec<GeminiPart>,
) -> Result<(), InvalidRequest> {
    let Some(name) = names.get(&result.id) else {
        let message = "answers a call that is not in the conversation";
        return Err(InvalidRequest::new(at, message));
    };
    let mut texts = Vec::new();
    let mut shown = Vec::new();
    for part in result.content {
        match part.kind {
            PartKind::Text(text) => texts.push(text),
            _ => encode(part, names, &mut shown)?,
        }
    }
    let key = if result.is_error { "error" } else { "output" };
    let response = json!({key: texts.join("\n\n")});
    let name = name.clone();
    parts.push(Body::FunctionResponse { name, response }.into());
    parts.append(&mut shown);
    Ok(())
}
