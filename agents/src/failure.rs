//! Why a step, a model call or a tool call did not succeed, by what can be done about it.

use std::time::Duration;

use thiserror::Error;

/// Why something that a step asked for did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Failure {
    /// The other side could not be reached or said "later": nothing was done, waiting costs no attempt.
    #[error("{message}")]
    Unavailable {
        message: String,
        retry_after: Option<Duration>,
    },
    /// The other side does not know us, or what we ask for. What the operator tells us and what it tells the other side
    /// do not arrive at the same moment, so this may change within seconds.
    #[error("{message}")]
    Unsettled { message: String },
    /// It was tried and went wrong; another attempt may go better.
    #[error("{message}")]
    Transient { message: String },
    /// Another attempt would go wrong in the same way.
    #[error("{message}")]
    Permanent { message: String },
    /// The run is no longer ours or the log is gone: stop at once, write nothing.
    #[error("the run was taken away")]
    Lost,
}

impl Failure {
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable {
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn transient(message: impl Into<String>) -> Self {
        Self::Transient {
            message: message.into(),
        }
    }

    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self::Permanent {
            message: message.into(),
        }
    }
}

/// An error and its sources in one line, for the run's record.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat the source in their own message.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
