//! Model: how many engines serve it while nobody asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::DURATION;

/// How many engines serve a model while nobody asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Engines that serve it while no request comes; the first request brings all of spec.replicas back.
    #[serde(default)]
    #[schemars(range(min = 0, max = 99))]
    pub min: i32,
    /// How long no request must have come, and none be in progress, as 10m; 10m if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub idle: Option<String>,
}
