//! The answer of an upstream that speaks chat completions.

use protocol::openai::Logprobs;
use serde::Deserialize;

use super::{finish_of, usage_of};
use crate::wire::{
    InvalidReply,
    conversation::{Call, Thinking},
    reply::{Finish, Reply, ReplyPart},
};

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<super::AnyUsage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
    /// The stop string that was met, or the id of a token (vLLM's extension).
    #[serde(default)]
    stop_reason: Option<serde_json::Value>,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    /// vLLM's and DeepSeek's word.
    #[serde(default)]
    reasoning_content: Option<String>,
    /// OpenRouter's and newer vLLM's word.
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Option<String>,
}

/// Reads an answer.
///
/// # Errors
/// [`InvalidReply`] if it is none.
pub(in crate::wire) fn decode_reply(body: &[u8]) -> Result<Reply, InvalidReply> {
    let answer: Answer = serde_json::from_slice(body)?;
    let choice = answer.choices.into_iter().next();
    let choice = choice.ok_or(InvalidReply::Incomplete("choices"))?;
    let mut parts = Vec::new();
    let message = choice.message;
    let is_said = |text: &String| !text.is_empty();
    let thoughts = message.reasoning_content.or(message.reasoning);
    if let Some(text) = thoughts.filter(is_said) {
        parts.push(ReplyPart::Thinking(Thinking {
            text,
            signature: None,
        }));
    }
    if let Some(text) = message.content.filter(is_said) {
        parts.push(ReplyPart::Text(text));
    }
    if let Some(refusal) = message.refusal.filter(is_said) {
        parts.push(ReplyPart::Refusal(refusal));
    }
    for (index, call) in message.tool_calls.into_iter().flatten().enumerate() {
        parts.push(ReplyPart::Call(Call {
            id: call.id.unwrap_or_else(|| format!("call_{index}")),
            name: call.function.name,
            arguments: call.function.arguments.unwrap_or_default(),
            signature: None,
        }));
    }
    let stop = choice
        .stop_reason
        .and_then(|stop| stop.as_str().map(str::to_owned));
    let mut finish = finish_of(choice.finish_reason.as_deref().unwrap_or_default(), stop);
    let has_calls = parts.iter().any(|part| matches!(part, ReplyPart::Call(_)));
    if finish == Finish::Stop && has_calls {
        // Some servers, and OpenAI's for a forced call, say `stop`.
        finish = Finish::Calls;
    }
    Ok(Reply {
        id: answer.id,
        parts,
        finish,
        usage: answer.usage.map(usage_of).unwrap_or_default(),
        logprobs: choice.logprobs,
    })
}
