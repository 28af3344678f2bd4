//! Why a tool server gave no answer, in words for the client that never hold what is secret.

use std::time::Duration;

use http::StatusCode;

use super::message::quoted;

/// JSON-RPC: the text is no JSON.
pub(super) const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: not a request.
pub(super) const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: no such method.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: wrong parameters.
pub(super) const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: a fault behind the interface.
pub(super) const INTERNAL_ERROR: i64 = -32603;
/// MCP: headers and body do not say the same.
pub(super) const HEADER_MISMATCH: i64 = -32020;
/// MCP: a revision that the gateway does not speak.
pub(super) const UNSUPPORTED_VERSION: i64 = -32022;
/// Ours, outside of what JSON-RPC reserves: a limit of the route is reached.
pub(super) const LIMIT_REACHED: i64 = -31429;

/// Why a tool server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or it broke before the answer was complete.
    Broken(String),
    /// Silence.
    Timeout(Duration),
    /// An HTTP status without an answer.
    Status(StatusCode),
    /// The session is over; a new one may do better.
    SessionLost,
    /// An answer over the limit.
    TooLong,
    /// Something else than the protocol asks for.
    Garbage(&'static str),
    /// No token for the server.
    Token(String),
    /// The client has cancelled what it asked.
    Cancelled,
    /// What the server says of a request that the gateway made by itself.
    Refused(String),
}

impl Failure {
    /// The label in metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::Timeout(_) => "timeout",
            Self::Status(_) => "status",
            Self::SessionLost => "session_lost",
            Self::TooLong => "too_long",
            Self::Garbage(_) => "garbage",
            Self::Token(_) => "token",
            Self::Cancelled => "cancelled",
            Self::Refused(_) => "refused",
        }
    }

    /// For the log.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Broken(reason) => reason.clone(),
            Self::Timeout(limit) => format!("silence for {limit:?}"),
            Self::Status(status) => format!("status {status}"),
            Self::SessionLost => "the session is over".to_owned(),
            Self::TooLong => "the answer is over the limit".to_owned(),
            Self::Garbage(what) => (*what).to_owned(),
            Self::Token(reason) => format!("no token: {reason}"),
            Self::Cancelled => "cancelled".to_owned(),
            Self::Refused(error) => error.clone(),
        }
    }

    /// What the client is told.
    pub(super) fn message(&self, server: &str) -> String {
        match self {
            Self::Broken(_) => format!("The tool server `{server}` could not be reached."),
            Self::Timeout(limit) => {
                format!("The tool server `{server}` said nothing for {limit:?}.")
            }
            Self::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) | Self::Token(_) => {
                format!("The tool server `{server}` refused the gateway's credential.")
            }
            Self::Status(status) => {
                format!("The tool server `{server}` answered with status {status}.")
            }
            Self::SessionLost => format!("The tool server `{server}` ended the session twice."),
            Self::TooLong => format!("The answer of the tool server `{server}` is too large."),
            Self::Garbage(_) => {
                format!("The tool server `{server}` did not answer in the protocol's form.")
            }
            Self::Cancelled => "The request was cancelled.".to_owned(),
            Self::Refused(_) => format!("The tool server `{server}` refused the gateway."),
        }
    }
}

/// The text of a JSON-RPC error.
pub(super) fn error(code: i64, message: &str) -> String {
    format!(r#"{{"code":{code},"message":{}}}"#, quoted(message))
}

/// The text of a JSON-RPC error with data.
pub(super) fn error_with(code: i64, message: &str, data: &str) -> String {
    format!(
        r#"{{"code":{code},"message":{},"data":{data}}}"#,
        quoted(message)
    )
}
