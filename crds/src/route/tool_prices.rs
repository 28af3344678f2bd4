//! What calls of a tool server's tools cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tools::TOOL_PATTERN;
use crate::schema::DECIMAL;

/// What calls of tools cost, in US dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolPrices {
    /// A call, as "0.002".
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub per_call: String,
    /// What calls of some tools cost in its place; the first that names the tool decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub tools: Vec<ToolPrice>,
}

/// What calls of some tools cost, in US dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolPrice {
    /// The tool's name at the server, exact or with one leading or trailing *.
    #[schemars(length(min = 1, max = 128), regex(pattern = TOOL_PATTERN))]
    pub name: String,
    /// A call, as "0.05".
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub per_call: String,
}
