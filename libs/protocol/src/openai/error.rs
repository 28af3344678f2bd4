//! The error shape of the OpenAI API, and the kinds of faults we answer with.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A sentence that says what to do.
    pub message: String,
    /// The class of error, as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter at fault.
    pub param: Option<String>,
    /// A word for programs, as `model_not_found`.
    pub code: Option<String>,
}

/// A fault as the API's users know it; each has one HTTP status, `type` and `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 400: the request is malformed or asks for something that is not served.
    InvalidRequest,
    /// 400: the prompt and the answer do not fit the context.
    ContextLengthExceeded,
    /// 400: a rule of the operator's forbids what is asked for or answered.
    ContentPolicy,
    /// 401: no key, or a wrong one.
    InvalidApiKey,
    /// 403: the key may not do this.
    PermissionDenied,
    /// 404: no such model, or the key may not see it.
    ModelNotFound,
    /// 404: no such path.
    NotFound,
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 413: the body is over the limit.
    RequestTooLarge,
    /// 429: over a limit; retry later.
    RateLimited,
    /// 429: a budget is spent.
    QuotaExceeded,
    /// 500: our fault.
    Internal,
    /// 502: the upstream failed.
    UpstreamFailed,
    /// 503: nothing can serve this now; retry later.
    Unavailable,
    /// 504: the upstream did not answer in time.
    Timeout,
}

impl ErrorKind {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::ContextLengthExceeded | Self::ContentPolicy => 400,
            Self::InvalidApiKey => 401,
            Self::PermissionDenied => 403,
            Self::ModelNotFound | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTooLarge => 413,
            Self::RateLimited | Self::QuotaExceeded => 429,
            Self::Internal => 500,
            Self::UpstreamFailed => 502,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// The `type` of the error object.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limit_error",
            Self::QuotaExceeded => "insufficient_quota",
            Self::Internal | Self::UpstreamFailed | Self::Unavailable | Self::Timeout => {
                "server_error"
            }
            Self::PermissionDenied => "permission_error",
            Self::InvalidRequest
            | Self::ContextLengthExceeded
            | Self::ContentPolicy
            | Self::InvalidApiKey
            | Self::ModelNotFound
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::RequestTooLarge => "invalid_request_error",
        }
    }

    /// The `code` of the error object; also the bounded label of metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::ContentPolicy => "content_policy_violation",
            Self::InvalidApiKey => "invalid_api_key",
            Self::PermissionDenied => "permission_denied",
            Self::ModelNotFound => "model_not_found",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTooLarge => "request_too_large",
            Self::RateLimited => "rate_limit_exceeded",
            Self::QuotaExceeded => "insufficient_quota",
            Self::Internal => "internal_error",
            Self::UpstreamFailed => "upstream_error",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
        }
    }

    /// The body for this fault.
    pub fn body(self, message: impl Into<String>) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: message.into(),
                kind: self.kind().to_owned(),
                param: None,
                code: Some(self.code().to_owned()),
            },
        }
    }

    /// The body for this fault, naming the parameter at fault.
    pub fn body_for(self, message: impl Into<String>, param: impl Into<String>) -> ErrorBody {
        let mut body = self.body(message);
        body.error.param = Some(param.into());
        body
    }
}
