//! The answer of an upstream that speaks `Converse`.

use serde::Deserialize;

use crate::wire::{
    InvalidReply,
    conversation::{Call, Thinking},
    json::Json,
    reply::{Finish, Reply, ReplyPart, Usage},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    output: Output,
    #[serde(default)]
    stop_reason: String,
    #[serde(default)]
    usage: AnyUsage,
}

#[derive(Deserialize)]
struct Output {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Vec<AnyBlock>,
}

/// A block; of the fields there is one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyBlock {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    tool_use: Option<ToolUse>,
    #[serde(default)]
    reasoning_content: Option<Reasoning>,
    #[serde(default)]
    citations_content: Option<Citations>,
    #[serde(default)]
    image: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse {
    tool_use_id: String,
    name: String,
    #[serde(default)]
    input: Option<Json>,
    /// Set for tools that Amazon ran itself.
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning {
    #[serde(default)]
    reasoning_text: Option<ReasoningText>,
    #[serde(default)]
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    #[serde(default)]
    text: String,
    #[serde(default)]
    signature: Option<String>,
}

/// Text with its sources, which no other API tells of in these words.
#[derive(Deserialize)]
struct Citations {
    #[serde(default)]
    content: Vec<Cited>,
}

#[derive(Deserialize)]
struct Cited {
    #[serde(default)]
    text: String,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AnyUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_write_input_tokens: u64,
}

impl From<AnyUsage> for Usage {
    fn from(usage: AnyUsage) -> Self {
        Self {
            // Here the input leaves out what a cache was read or written for.
            input: usage
                .input_tokens
                .saturating_add(usage.cache_read_input_tokens)
                .saturating_add(usage.cache_write_input_tokens),
            cached: usage.cache_read_input_tokens,
            cache_written: usage.cache_write_input_tokens,
            output: usage.output_tokens,
            reasoning: 0,
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// [`InvalidReply`] if it is none.
pub(in crate::wire) fn decode_reply(body: &[u8]) -> Result<Reply, InvalidReply> {
    let answer: Answer = serde_json::from_slice(body)?;
    let mut parts = Vec::new();
    for block in answer.output.message.content {
        parts.extend(part(block)?);
    }
    Ok(Reply {
        id: None,
        parts,
        finish: finish_of(&answer.stop_reason)?,
        usage: answer.usage.into(),
        logprobs: None,
    })
}

fn part(block: AnyBlock) -> Result<Option<ReplyPart>, InvalidReply> {
    if block.image.is_some() {
        return Err(InvalidReply::Untold("a picture or sound"));
    }
    if let Some(call) = block.tool_use {
        if call.kind.is_some() {
            return Ok(None);
        }
        return Ok(Some(ReplyPart::Call(Call {
            id: call.tool_use_id,
            name: call.name,
            arguments: call
                .input
                .map_or_else(|| "{}".to_owned(), |input| input.compact()),
            signature: None,
        })));
    }
    if let Some(reasoning) = block.reasoning_content {
        let thinking = reasoning.reasoning_text.map(|thinking| {
            ReplyPart::Thinking(Thinking {
                text: thinking.text,
                signature: thinking.signature,
            })
        });
        return Ok(thinking.or(reasoning.redacted_content.map(ReplyPart::Redacted)));
    }
    let cited = block
        .citations_content
        .map(|cited| cited.content.into_iter().map(|cited| cited.text).collect());
    Ok(block.text.or(cited).map(ReplyPart::Text))
}

/// What a reason to stop means.
///
/// # Errors
/// [`InvalidReply::Unfinished`] if the model went wrong, so that there is no answer.
pub(super) fn finish_of(reason: &str) -> Result<Finish, InvalidReply> {
    match reason {
        "tool_use" => Ok(Finish::Calls),
        "max_tokens" => Ok(Finish::Length),
        // Which one is not told.
        "stop_sequence" => Ok(Finish::StopSequence(None)),
        "guardrail_intervened" | "content_filtered" => Ok(Finish::Refused),
        "model_context_window_exceeded" => Ok(Finish::ContextFull),
        "malformed_model_output" | "malformed_tool_use" => {
            Err(InvalidReply::Unfinished(reason.to_owned()))
        }
        _ => Ok(Finish::Stop),
    }
}
