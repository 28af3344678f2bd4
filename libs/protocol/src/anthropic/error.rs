//! The error shape of the Anthropic API.

use serde::{Deserialize, Serialize};

use crate::openai::ErrorKind;

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Always `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// The class of error, as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A sentence that says what to do.
    pub message: String,
}

impl ErrorDetail {
    /// A fault in this API's words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind: word(kind).to_owned(),
            message: message.into(),
        }
    }
}

impl ErrorBody {
    /// The body for a fault.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind: "error".to_owned(),
            error: ErrorDetail::new(kind, message),
        }
    }
}

/// The `type` of a fault.
const fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::ContextLengthExceeded
        | ErrorKind::ContentPolicy
        | ErrorKind::MethodNotAllowed => "invalid_request_error",
        ErrorKind::InvalidApiKey => "authentication_error",
        ErrorKind::PermissionDenied => "permission_error",
        ErrorKind::ModelNotFound | ErrorKind::NotFound => "not_found_error",
        ErrorKind::RequestTooLarge => "request_too_large",
        ErrorKind::RateLimited | ErrorKind::QuotaExceeded => "rate_limit_error",
        ErrorKind::Unavailable => "overloaded_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Internal | ErrorKind::UpstreamFailed => "api_error",
    }
}
