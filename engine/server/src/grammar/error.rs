//! What is wrong with a restriction.

use std::fmt::Display;

use thiserror::Error;

/// Characters of a message: some quote the caller's text, which may be long.
const MESSAGE_LENGTH_MAX: usize = 400;

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
        Self::invalid_at(String::new(), message.into())
    }

    pub(super) fn invalid_at(path: String, mut message: String) -> Self {
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_LENGTH_MAX) {
            message.truncate(end);
            message.push('…');
        }
        Self::Invalid { path, message }
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
