//! The one place where errors become answers.

use std::io;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use protocol::workspace::Fault;
use workspaces_sandbox::SandboxError;

/// Why a request failed, by what its sender can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Unauthorized(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    NoSpace(String),
    #[error("the range lies outside the file")]
    Range,
    #[error("the file is not what If-Match says")]
    Stale,
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Denied(_) => (StatusCode::FORBIDDEN, "denied"),
            Self::NoSpace(_) => (StatusCode::INSUFFICIENT_STORAGE, "no_space"),
            Self::Range => (StatusCode::RANGE_NOT_SATISFIABLE, "invalid"),
            Self::Stale => (StatusCode::PRECONDITION_FAILED, "conflict"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "internal"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// For `map_err` on file operations: names the file.
    pub(crate) fn io(path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::from_io(&path, &error)
    }

    pub(crate) fn from_io(path: &str, error: &io::Error) -> Self {
        use rustix::io::Errno;
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Self::NotFound(format!("there is no {path}")),
            // What openat2 says about a path that leads out of the home.
            Some(Errno::XDEV | Errno::LOOP) => {
                Self::Denied(format!("{path} leads out of the home"))
            }
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                Self::Denied(format!("{path} may not be touched"))
            }
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace(format!(
                "there is no space left for {path}; delete something"
            )),
            Some(Errno::FBIG) => Self::TooLarge(format!("{path} would be too large")),
            Some(Errno::ISDIR) => Self::Invalid(format!("{path} is a directory")),
            Some(Errno::NOTDIR) => Self::Invalid(format!("a part of {path} is not a directory")),
            Some(Errno::NOTEMPTY | Errno::EXIST) => {
                Self::Conflict(format!("{path} is not empty or exists already"))
            }
            Some(Errno::NAMETOOLONG) => Self::Invalid("the path is too long".to_owned()),
            _ => Self::Internal(format!("{path}: {error}")),
        }
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Program { reason } => Self::NotFound(reason),
            SandboxError::Invalid { .. } => Self::Invalid(error.to_string()),
            SandboxError::NotIsolated { .. }
            | SandboxError::Exists { .. }
            | SandboxError::NoIds { .. }
            | SandboxError::Helper { .. }
            | SandboxError::Io { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.parts();
        if matches!(self, Self::Internal(_)) {
            tracing::error!(error = %self, "request failed");
        }
        let fault = Fault {
            code: code.to_owned(),
            message: self.to_string(),
        };
        (status, Json(fault)).into_response()
    }
}
