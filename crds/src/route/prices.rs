//! Prices of requests that cost more or less than others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::DECIMAL;

/// What tokens of one kind of request cost, in US dollars a million.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Tokens of prompts, as "0.20".
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub input_per_million: String,
    /// Tokens of prompts that the backend had cached; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub cached_input_per_million: Option<String>,
    /// Tokens of answers.
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub output_per_million: String,
}

/// What tokens of requests with long prompts cost, in US dollars a million.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LongPrompts {
    /// Tokens of a prompt beyond which it is a long one, as 200000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub above_tokens: i64,
    /// Tokens of prompts, all of them, as "0.20".
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub input_per_million: String,
    /// Tokens of prompts that the backend had cached; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub cached_input_per_million: Option<String>,
    /// Tokens of answers.
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub output_per_million: String,
}
