//! What a backend of a Route may be sent in a time, and at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rate;

/// What a backend may be sent, whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.requests) || has(self.tokens) || has(self.concurrency)",
    "message": "the limits of a backend need requests, tokens or concurrency"
}]))]
pub struct BackendLimits {
    /// Requests in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Rate>,
    /// Tokens of prompts and answers in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Rate>,
    /// Requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u32>,
}
