//! What is wrong with a restriction.

use std::fmt::Display;

use thiserror::Error;

/// Why an answer cannot be restricted as wished.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrammarError {
    /// The caller's fault: the wish makes no sense, or cannot be followed.
    #[error("{}{message}", place(path))]
    Invalid {
        /// Where in the schema, as `$.properties.name`; empty if it is not about one place.
        path: String,
        /// What is wrong there.
        message: String,
    },
    /// The caller's fault: the wish is larger than it may be.
    #[error("{what} is {value}, and at most {limit} is allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        value: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The server's fault: this model's answers cannot be restricted.
    #[error("answers of this model cannot be restricted: {0}")]
    Unavailable(String),
}

impl GrammarError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            path: String::new(),
            message: message.into(),
        }
    }

    /// Whether the caller can do something about it.
    pub const fn is_callers_fault(&self) -> bool {
        match self {
            Self::Invalid { .. } | Self::TooLarge { .. } => true,
            Self::Unavailable(_) => false,
        }
    }
}

fn place(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("at {path}: ")
    }
}

/// The message of an error without the state of the parser behind it.
pub(super) fn first_line(error: &impl Display) -> String {
    let text = error.to_string();
    let lines: Vec<_> = text
        .lines()
        .take_while(|line| !line.starts_with('<'))
        .collect();
    lines.join(" ").trim().to_owned()
}
