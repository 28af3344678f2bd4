//! Route: what takes over when a backend gives no answer.

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
