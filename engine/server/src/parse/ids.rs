//! Identifiers of calls.

use uuid::Uuid;

/// Templates of Mistral refuse identifiers of any other length.
const SHORT_LENGTH: usize = 9;

/// How a model's template wants identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// `call_` and something random.
    Prefixed,
    /// Nine letters and digits.
    Short,
}

impl Ids {
    pub(super) fn next(self) -> String {
        // The first half of a newer kind of identifier is the time, which is equal for calls of one answer.
        let random = Uuid::new_v4().simple().to_string();
        match self {
            Self::Prefixed => format!("call_{random}"),
            Self::Short => random[..SHORT_LENGTH].to_owned(),
        }
    }
}
