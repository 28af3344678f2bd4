//! Providers: how a request becomes one of an upstream's API, and what its answers say.
//!
//! One file each; OpenAI's API, which our engines, vLLM, SGLang and most vendors speak, is the only one so far.

pub(crate) mod openai;

use serde::{Deserialize, Serialize};

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// Tokens of the prompt.
    pub(crate) prompt: u64,
    /// Tokens of the answer.
    pub(crate) completion: u64,
    /// Tokens of the prompt that the upstream had cached, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cached: Option<u64>,
}

impl Tokens {
    /// Those of the prompt and those of the answer.
    pub(crate) fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// What two events of one stream say together: counts only grow.
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.max(other.prompt),
            completion: self.completion.max(other.completion),
            cached: self.cached.max(other.cached),
        }
    }
}
