//! The answer of an upstream that speaks `generateContent`.

use serde::Deserialize;

use crate::wire::{
    InvalidReply, calls,
    conversation::{Call, Thinking},
    json::Json,
    reply::{Finish, Reply, ReplyPart, Usage},
};

/// An answer, or a piece of a stream: both look alike.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) candidates: Vec<Candidate>,
    #[serde(default)]
    pub(super) prompt_feedback: Option<Feedback>,
    #[serde(default)]
    pub(super) usage_metadata: Option<AnyUsage>,
    #[serde(default)]
    pub(super) response_id: Option<String>,
    #[serde(default)]
    pub(super) error: Option<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    #[serde(default)]
    pub(super) index: u32,
    #[serde(default)]
    pub(super) content: Content,
    #[serde(default)]
    pub(super) finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct Content {
    #[serde(default)]
    pub(super) parts: Vec<AnyPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Feedback {
    #[serde(default)]
    pub(super) block_reason: Option<String>,
}

/// A part; of the fields that say something there is one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnyPart {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    #[serde(default)]
    thought_signature: Option<String>,
    #[serde(default)]
    function_call: Option<FunctionCall>,
    #[serde(default)]
    inline_data: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct FunctionCall {
    #[serde(default)]
    id: Option<String>,
    name: String,
    #[serde(default)]
    args: Option<Json>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct AnyUsage {
    prompt_token_count: u64,
    cached_content_token_count: u64,
    candidates_token_count: u64,
    thoughts_token_count: u64,
    tool_use_prompt_token_count: u64,
}

impl From<AnyUsage> for Usage {
    fn from(usage: AnyUsage) -> Self {
        Self {
            input: usage
                .prompt_token_count
                .saturating_add(usage.tool_use_prompt_token_count),
            cached: usage.cached_content_token_count,
            cache_written: 0,
            // Here thoughts do not count among the answer's tokens.
            output: usage
                .candidates_token_count
                .saturating_add(usage.thoughts_token_count),
            reasoning: usage.thoughts_token_count,
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// [`InvalidReply`] if it is none.
pub(in crate::wire) fn decode_reply(request_id: &str, body: &[u8]) -> Result<Reply, InvalidReply> {
    let answer: Answer = serde_json::from_slice(body)?;
    let usage = answer.usage_metadata.map(Usage::from).unwrap_or_default();
    let is_blocked = blocks(answer.prompt_feedback.as_ref());
    let Some(candidate) = answer.candidates.into_iter().next() else {
        if !is_blocked {
            return Err(InvalidReply::Incomplete("candidates"));
        }
        return Ok(Reply {
            id: answer.response_id,
            finish: Finish::Refused,
            usage,
            ..Reply::default()
        });
    };
    let mut parts = Vec::new();
    let mut calls = 0;
    for part in candidate.content.parts {
        match piece(part, request_id, &mut calls)? {
            Some(ReplyPart::Text(text)) => match parts.last_mut() {
                Some(ReplyPart::Text(last)) => last.push_str(&text),
                _ => parts.push(ReplyPart::Text(text)),
            },
            part => parts.extend(part),
        }
    }
    let reason = candidate.finish_reason.unwrap_or_default();
    Ok(Reply {
        id: answer.response_id,
        parts,
        finish: finish_of(&reason, 0 < calls)?,
        usage,
        logprobs: None,
    })
}

/// Whether the prompt may not be answered.
pub(super) fn blocks(feedback: Option<&Feedback>) -> bool {
    feedback.is_some_and(|feedback| feedback.block_reason.is_some())
}

/// What a part says; `None` if it says nothing, as a proof alone. `calls` counts calls.
///
/// # Errors
/// [`InvalidReply::Untold`] for pictures and sound.
pub(super) fn piece(
    part: AnyPart,
    request_id: &str,
    calls: &mut u32,
) -> Result<Option<ReplyPart>, InvalidReply> {
    if part.inline_data.is_some() {
        return Err(InvalidReply::Untold("a picture or sound"));
    }
    if let Some(call) = part.function_call {
        let index = *calls;
        *calls = index.saturating_add(1);
        let id = call.id.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| format!("call_{request_id}_{index}"));
        return Ok(Some(ReplyPart::Call(Call {
            id: calls::seal(&id, part.thought_signature.as_deref()),
            name: call.name,
            arguments: call
                .args
                .map_or_else(|| "{}".to_owned(), |args| args.compact()),
            signature: None,
        })));
    }
    let text = part.text.filter(|text| !text.is_empty());
    Ok(text.map(|text| match part.thought {
        true => ReplyPart::Thinking(Thinking {
            text,
            signature: None,
        }),
        false => ReplyPart::Text(text),
    }))
}

/// What a reason to finish means.
///
/// # Errors
/// [`InvalidReply::Unfinished`] if the model went wrong, so that there is no answer.
pub(super) fn finish_of(reason: &str, has_calls: bool) -> Result<Finish, InvalidReply> {
    match reason {
        "MAX_TOKENS" => Ok(Finish::Length),
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR"
        | "ESCALATION" => Ok(Finish::Refused),
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE" => Err(InvalidReply::Unfinished(reason.to_owned())),
        _ if has_calls => Ok(Finish::Calls),
        _ => Ok(Finish::Stop),
    }
}
