//! OpenAI's chat completions: requests and answers to and from the neutral form.

mod decode_content;
mod decode_event;
mod decode_reply;
mod decode_request;
mod encode_content;
mod encode_event;
mod encode_reply;
mod encode_request;

pub(super) use self::{
    decode_event::Decoder, decode_reply::decode_reply, decode_request::decode_request,
    encode_event::Encoder, encode_reply::encode_reply, encode_request::encode_request,
};

use serde::Deserialize;

use super::reply::{Finish, Usage};

/// What OpenAI calls a reason to end.
pub(super) const fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Paused => "stop",
        Finish::Length | Finish::ContextFull => "length",
        Finish::Calls => "tool_calls",
        Finish::Refused => "content_filter",
    }
}

/// What a reason to end means; words from the future count as an ordinary end.
fn finish_of(reason: &str, stop: Option<String>) -> Finish {
    match reason {
        "length" => Finish::Length,
        "tool_calls" | "function_call" => Finish::Calls,
        "content_filter" => Finish::Refused,
        _ if stop.is_some() => Finish::StopSequence(stop),
        _ => Finish::Stop,
    }
}

/// The usage in OpenAI's words.
pub(super) fn usage(usage: Usage) -> protocol::openai::Usage {
    let mut words = protocol::openai::Usage::new(usage.input, usage.output);
    words.total_tokens = usage.input.saturating_add(usage.output);
    words.prompt_tokens_details = Some(protocol::openai::PromptTokensDetails {
        cached_tokens: usage.cached,
    });
    words.completion_tokens_details = Some(protocol::openai::CompletionTokensDetails {
        reasoning_tokens: usage.reasoning,
    });
    words
}

/// The usage as servers of OpenAI's API give it, of which some leave out parts or write `null`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct AnyUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<AnyPromptDetails>,
    completion_tokens_details: Option<AnyCompletionDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct AnyPromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct AnyCompletionDetails {
    reasoning_tokens: Option<u64>,
}

/// The usage from OpenAI's words.
fn usage_of(usage: AnyUsage) -> Usage {
    let prompt = usage.prompt_tokens_details.unwrap_or_default();
    let completion = usage.completion_tokens_details.unwrap_or_default();
    Usage {
        input: usage.prompt_tokens.unwrap_or(0),
        cached: prompt.cached_tokens.unwrap_or(0),
        cache_written: prompt.cache_write_tokens.unwrap_or(0),
        output: usage.completion_tokens.unwrap_or(0),
        reasoning: completion.reasoning_tokens.unwrap_or(0),
    }
}
