//! The answer of an upstream that speaks messages.

use serde::Deserialize;

use super::{AnyUsage, finish_of, usage_of};
use crate::wire::{
    InvalidReply,
    conversation::{Call, Thinking},
    json::Json,
    reply::{Reply, ReplyPart},
};

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<String>,
    content: Vec<AnyBlock>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    usage: AnyUsage,
}

/// A block of an answer.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum AnyBlock {
    /// Text.
    Text { text: String },
    /// Thoughts.
    Thinking {
        #[serde(default)]
        thinking: String,
        #[serde(default)]
        signature: Option<String>,
    },
    /// Thoughts that only the maker can read.
    RedactedThinking { data: String },
    /// A call.
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Option<serde_json::Value>,
    },
    /// Something that the API's maker ran, which no other API tells of.
    #[serde(other)]
    Other,
}

/// Reads an answer.
///
/// # Errors
/// [`InvalidReply`] if it is none.
pub(in crate::wire) fn decode_reply(body: &[u8]) -> Result<Reply, InvalidReply> {
    let answer: Answer = serde_json::from_slice(body)?;
    let parts = answer.content.into_iter().filter_map(part).collect();
    let reason = answer.stop_reason.unwrap_or_default();
    Ok(Reply {
        id: answer.id,
        parts,
        finish: finish_of(&reason, answer.stop_sequence),
        usage: usage_of(answer.usage),
        logprobs: None,
    })
}

fn part(block: AnyBlock) -> Option<ReplyPart> {
    Some(match block {
        AnyBlock::Text { text } => ReplyPart::Text(text),
        AnyBlock::Thinking {
            thinking,
            signature,
        } => ReplyPart::Thinking(Thinking {
            text: thinking,
            signature: signature.filter(|signature| !signature.is_empty()),
        }),
        AnyBlock::RedactedThinking { data } => ReplyPart::Redacted(data),
        AnyBlock::ToolUse { id, name, input } => ReplyPart::Call(Call {
            id,
            name,
            arguments: arguments(input),
            signature: None,
        }),
        AnyBlock::Other => return None,
    })
}

/// The arguments of a call as JSON text.
fn arguments(input: Option<serde_json::Value>) -> String {
    input.map_or_else(
        || "{}".to_owned(),
        |input| Json::from(input).text().to_owned(),
    )
}
