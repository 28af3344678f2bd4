//! Route: where requests wait.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::DURATION;

/// Where requests over a concurrency wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Requests that each gateway sends at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: u32,
    /// Requests that wait at most, in each gateway; 1000 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub length: Option<u32>,
    /// How long one waits at most; 30s if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// Who takes turns; Key if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Fairness>,
    /// The header in which callers say how urgent a request is: high, normal or low; none may if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub priority_header: Option<String>,
}

/// Who takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Fairness {
    /// Keys.
    Key,
    /// Teams of keys.
    Team,
    /// Nobody: who came first is first.
    None,
}

/// How requests wait for a first replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ColdStart {
    /// How long one waits at most.
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: String,
}
