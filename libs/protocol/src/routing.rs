//! How a route chooses who answers, and what it does when its first choice does not.

use serde::{Deserialize, Serialize};

/// Why a target gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// What takes over for a target that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// For which classes of failure.
    pub on: Vec<FailureClass>,
    /// The model that is asked in place of the route's; the route's next targets if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What names the session that a request belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Session {
    /// The value of this header.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The user that the body names.
    User,
    /// The body's `prompt_cache_key`.
    PromptCacheKey,
    /// The key of the caller.
    Key,
}

/// When a second replica is asked beside the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hedging {
    /// After so many milliseconds without a token; after the 95th percentile of the route's own times if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_millis: Option<u64>,
    /// Of how many requests in a thousand, at most.
    pub permille: u32,
}

/// Requests that wait for their turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Requests that are sent at once.
    pub concurrency: u32,
    /// Requests that wait at most.
    pub length: u32,
    /// How long one waits at most, in milliseconds.
    pub timeout_millis: u64,
    /// Who takes turns.
    #[serde(default)]
    pub fairness: Fairness,
    /// The header in which callers say how urgent a request is; none may if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_header: Option<String>,
}

/// Who takes turns in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fairness {
    /// Keys.
    #[default]
    Key,
    /// The teams of keys; keys without one are one team.
    Team,
    /// Nobody: who came first is first.
    None,
}
