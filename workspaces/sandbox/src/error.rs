//! Why a sandbox could not be made, joined or ended.

use std::io;

/// Why a sandbox operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The request is wrong; it will fail again.
    #[error("the sandbox's {what} is invalid: {value}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What it was, or what is wrong with it.
        value: String,
    },
    /// This host cannot isolate; the list says what it lacks.
    #[error("this host cannot isolate programs: {}", missing.join("; "))]
    NotIsolated {
        /// What is missing and how to get it.
        missing: Vec<String>,
    },
    /// A sandbox of that id exists.
    #[error("a sandbox with the id {id} exists already")]
    Exists {
        /// Its id.
        id: String,
    },
    /// All ranges of user ids are lent.
    #[error("all {ranges} ranges of user ids are in use")]
    NoIds {
        /// How many there are.
        ranges: u32,
    },
    /// The program inside could not be started (not found, not executable); the user's fault.
    #[error("cannot start the program: {reason}")]
    Program {
        /// What the kernel said.
        reason: String,
    },
    /// The helper process failed; our fault or the host's.
    #[error("the sandbox helper could not {step}: {reason}")]
    Helper {
        /// What it was doing.
        step: String,
        /// What went wrong.
        reason: String,
    },
    /// The operating system refused something to the caller itself.
    #[error("cannot {attempt}")]
    Io {
        /// What was attempted.
        attempt: String,
        /// What the system said.
        source: io::Error,
    },
}

impl SandboxError {
    pub(crate) fn invalid(what: &'static str, value: &str) -> Self {
        Self::Invalid {
            what,
            value: value.chars().take(200).collect(),
        }
    }

    /// For `map_err`: names the attempt.
    pub(crate) fn io<E: Into<io::Error>>(attempt: impl Into<String>) -> impl FnOnce(E) -> Self {
        let attempt = attempt.into();
        move |source| Self::Io {
            attempt,
            source: source.into(),
        }
    }

    /// For `map_err` in the helper: names the step.
    pub(crate) fn step<E: std::fmt::Display>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        let step = step.into();
        move |reason| Self::Helper {
            step,
            reason: reason.to_string(),
        }
    }
}
