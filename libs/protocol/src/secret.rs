//! A string that must not be printed: credentials on their way between parts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Holds a credential; `Debug` prints `[redacted]`, serialisation carries the value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretString(String);

impl SecretString {
    /// Wraps a credential.
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// Shows the credential to code that has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}
