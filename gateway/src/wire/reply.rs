//! What a model answered, in words that belong to no API.

use super::conversation::{Call, Thinking};
use crate::provider::Tokens;

/// A complete answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reply {
    /// The upstream's id of it.
    pub(super) id: Option<String>,
    /// What the model made, in order.
    pub(super) parts: Vec<ReplyPart>,
    /// Why it ended.
    pub(super) finish: Finish,
    /// Tokens used.
    pub(super) usage: Usage,
    /// Of the answer's tokens, if asked for and given.
    pub(super) logprobs: Option<protocol::openai::Logprobs>,
}

/// Something that a model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplyPart {
    /// Text.
    Text(String),
    /// Thoughts.
    Thinking(Thinking),
    /// Thoughts that only the model's maker can read.
    Redacted(String),
    /// Why it did not do what it was asked.
    Refusal(String),
    /// A call of a tool.
    Call(Call),
}

/// Why an answer ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Finish {
    /// The model said so.
    #[default]
    Stop,
    /// A stop sequence was met; which one, if the upstream tells.
    StopSequence(Option<String>),
    /// It has as many tokens as it may have.
    Length,
    /// Prompt and answer fill the context.
    ContextFull,
    /// The model waits for what its calls give.
    Calls,
    /// The upstream, or the model itself, found that it should not be answered.
    Refused,
    /// The upstream paused a long answer, to be sent again as it is.
    Paused,
}

/// Tokens that an answer used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Tokens of the prompt, those of the cache included.
    pub(super) input: u64,
    /// Of these, tokens that were read from a cache.
    pub(super) cached: u64,
    /// Of these, tokens that were written to a cache.
    pub(super) cache_written: u64,
    /// Tokens of the answer, thoughts included.
    pub(super) output: u64,
    /// Of these, tokens of thoughts.
    pub(super) reasoning: u64,
}

impl Usage {
    /// What two events of one stream say together: counts only grow.
    pub(super) fn merge(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached: self.cached.max(other.cached),
            cache_written: self.cache_written.max(other.cache_written),
            output: self.output.max(other.output),
            reasoning: self.reasoning.max(other.reasoning),
        }
    }
}

impl From<Usage> for Tokens {
    fn from(usage: Usage) -> Self {
        Self {
            prompt: usage.input,
            completion: usage.output,
            cached: Some(usage.cached),
        }
    }
}
