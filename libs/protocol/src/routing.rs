//! What a route does when its first choice does not answer.

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
