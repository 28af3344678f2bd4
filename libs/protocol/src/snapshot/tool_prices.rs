//! What calls of a tool server's tools cost.

use serde::{Deserialize, Serialize};

/// What calls of tools cost, in nano-dollars.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolPrices {
    /// A call.
    pub per_call_nanos: u64,
    /// What calls of some tools cost in its place; the first that names the tool decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolPrice>,
}

/// What calls of some tools cost, in nano-dollars.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolPrice {
    /// The tool's name at the server: exact, or with one leading or trailing `*`.
    pub name: String,
    /// A call.
    pub per_call_nanos: u64,
}
