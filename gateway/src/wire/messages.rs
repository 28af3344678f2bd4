//! Anthropic's messages: requests and answers to and from the neutral form.

mod decode_content;
mod decode_event;
mod decode_reply;
mod decode_request;
mod encode_content;
mod encode_event;
mod encode_reply;
mod encode_request;
mod generation;
mod thoughts;

pub(super) use self::{
    decode_event::Decoder,
    decode_reply::decode_reply,
    decode_request::{decode_request, thinking},
    encode_event::Encoder,
    encode_reply::encode_reply,
    encode_request::{encode_request, tool_choice},
    generation::knows_formats,
    thoughts::{ThinkingRoom, Thoughts},
};

use protocol::anthropic::{MessageUsage, StopReason};
use serde::Deserialize;

use super::reply::{Finish, Usage};

/// What Anthropic calls a reason to stop.
const fn stop_reason(finish: &Finish) -> StopReason {
    match finish {
        Finish::Stop | Finish::StopSequence(None) => StopReason::EndTurn,
        Finish::StopSequence(Some(_)) => StopReason::StopSequence,
        Finish::Length => StopReason::MaxTokens,
        Finish::ContextFull => StopReason::ModelContextWindowExceeded,
        Finish::Calls => StopReason::ToolUse,
        Finish::Refused => StopReason::Refusal,
        Finish::Paused => StopReason::PauseTurn,
    }
}

/// The stop sequence that was met.
fn stop_sequence(finish: Finish) -> Option<String> {
    match finish {
        Finish::StopSequence(sequence) => sequence,
        Finish::Stop
        | Finish::Length
        | Finish::ContextFull
        | Finish::Calls
        | Finish::Refused
        | Finish::Paused => None,
    }
}

/// What a reason to stop means; words from the future count as an ordinary end.
fn finish_of(reason: &str, sequence: Option<String>) -> Finish {
    match reason {
        "max_tokens" => Finish::Length,
        "stop_sequence" => Finish::StopSequence(sequence),
        "tool_use" => Finish::Calls,
        "refusal" => Finish::Refused,
        "pause_turn" => Finish::Paused,
        "model_context_window_exceeded" => Finish::ContextFull,
        _ => Finish::Stop,
    }
}

/// The usage in Anthropic's words, whose input leaves out what a cache was read or written for.
const fn usage(usage: Usage) -> MessageUsage {
    MessageUsage {
        input_tokens: usage
            .input
            .saturating_sub(usage.cached)
            .saturating_sub(usage.cache_written),
        cache_creation_input_tokens: usage.cache_written,
        cache_read_input_tokens: usage.cached,
        output_tokens: usage.output,
    }
}

/// The usage as servers of Anthropic's API give it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct AnyUsage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<AnyDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct AnyDetails {
    thinking_tokens: Option<u64>,
}

/// The usage from Anthropic's words.
fn usage_of(usage: AnyUsage) -> Usage {
    let cached = usage.cache_read_input_tokens.unwrap_or(0);
    let cache_written = usage.cache_creation_input_tokens.unwrap_or(0);
    let details = usage.output_tokens_details.unwrap_or_default();
    Usage {
        input: usage
            .input_tokens
            .unwrap_or(0)
            .saturating_add(cached)
            .saturating_add(cache_written),
        cached,
        cache_written,
        output: usage.output_tokens.unwrap_or(0),
        reasoning: details.thinking_tokens.unwrap_or(0),
    }
}
