//! Mirrors: where copies of a share of a route's requests go.

use serde::{Deserialize, Serialize};

use super::Target;

/// Where copies of a share of a route's requests go; nobody gets their answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Who is asked.
    pub target: Target,
    /// Of how many requests in a hundred a copy is sent.
    pub percent: u32,
    /// How long a copy may take, to the end of its answer, in milliseconds.
    #[serde(default = "timeout_default")]
    pub timeout_millis: u64,
}

/// How long a copy may take, in milliseconds, if nothing else is said.
pub const MIRROR_TIMEOUT_MILLIS: u64 = 60_000;

const fn timeout_default() -> u64 {
    MIRROR_TIMEOUT_MILLIS
}
