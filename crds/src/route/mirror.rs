//! Route: where copies of a share of its requests go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Prices;
use crate::{
    reference::NameRef,
    schema::{DURATION, ONE_STAR},
};

/// Where copies of a share of the requests go. Nobody gets their answers, and no budget pays for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// The Model that is asked, of the same namespace.
    pub model_ref: NameRef,
    /// The model's name in the copies; the Model's own if not given. A * in it is as in a backend's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = ONE_STAR))]
    pub model_override: Option<String>,
    /// Of how many requests in a hundred a copy is sent.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// How long a copy may take, to the end of its answer; 1m if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// What the copies' tokens cost; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}
