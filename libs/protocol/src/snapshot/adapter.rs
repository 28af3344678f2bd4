//! Adapters: what a target's engines have beside the model, or can load.

use serde::{Deserialize, Serialize};

/// A LoRA adapter of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adapter {
    /// Its name: what requests name alone, or behind a colon, and what the engine loads it by.
    pub name: String,
    /// The model's name there with this adapter.
    pub model: String,
    /// Where the engine finds it, if it may be told to load it; it is only used where it is already if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}
