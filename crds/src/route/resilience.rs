//! Route: who is chosen by more than weight, and what takes over when a backend gives no answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a backend gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailureClass {
    /// It could not be reached, broke off, or failed by its own fault.
    Error,
    /// It did not answer in time.
    Timeout,
    /// It takes no more requests for now.
    RateLimit,
    /// The request is longer than its model's context.
    ContextWindow,
    /// It refused the content.
    ContentPolicy,
    /// None of its replicas is ready.
    ColdStart,
}

/// What takes over when a backend gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// For which classes of failure.
    #[schemars(length(min = 1, max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub on: Vec<FailureClass>,
    /// The model that is asked instead, of any Route that the caller may use; this Route's next backends if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._:/-]+$"))]
    pub model: Option<String>,
}

/// What names the session of a request: requests of one session go to the same backend under Weighted, and to the same
/// replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.name) == (self.by in ['Header', 'Cookie'])",
    "message": "a header or a cookie needs a name, and nothing else has one",
    "fieldPath": ".name"
}]))]
pub struct Session {
    /// What names it.
    pub by: SessionSource,
    /// The header's or the cookie's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub name: Option<String>,
}

/// What names a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionSource {
    /// The value of a header.
    Header,
    /// The value of a cookie.
    Cookie,
    /// The user that the body names.
    User,
    /// The body's prompt_cache_key.
    PromptCacheKey,
    /// The caller's key.
    Key,
}

/// When a second replica is asked beside a first one that is late with its first token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hedging {
    /// How late: p95 of the Route's own times, or a duration; p95 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 32),
        regex(pattern = r"^(p95|([0-9]+(ms|s|m|h))+)$")
    )]
    pub after: Option<String>,
    /// Of how many requests in a hundred, at most; 2 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub percent: Option<u32>,
}
