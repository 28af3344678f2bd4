//! What tokens cost.

use serde::{Deserialize, Serialize};

/// What tokens cost, in nano-dollars a million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// Tokens of prompts.
    pub input_nanos: u64,
    /// Tokens of prompts that the upstream had cached; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_nanos: Option<u64>,
    /// Tokens of answers.
    pub output_nanos: u64,
    /// What all tokens of a request with a long prompt cost; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_prompts: Option<LongPrompts>,
    /// What tokens of a line of a batch cost; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<Rates>,
    /// What is added to the cost of a request, in percent of it; below zero it is taken off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub margin_percent: i16,
}

/// Prices of one kind of request, in nano-dollars a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Tokens of prompts.
    pub input_nanos: u64,
    /// Tokens of prompts that the upstream had cached; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_nanos: Option<u64>,
    /// Tokens of answers.
    pub output_nanos: u64,
}

/// Prices of requests with long prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LongPrompts {
    /// Tokens of a prompt beyond which it is a long one.
    pub above_tokens: u64,
    /// What its tokens and those of its answer cost.
    pub rates: Rates,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
const fn is_zero(percent: &i16) -> bool {
    *percent == 0
}
