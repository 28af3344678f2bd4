//! What went wrong with an MCP server, by what can be done about it.

use std::error::Error;

use rmcp::{
    ServiceError, service::ClientInitializeError,
    transport::streamable_http_client::StreamableHttpError,
};

use crate::{
    failure::{Failure, chain},
    outbound::broken,
};

/// Failures of the transport, found below the library's wrappers.
type TransportError = StreamableHttpError<reqwest::Error>;

/// A handshake that failed: no function was called.
pub(super) fn handshake(server: &str, error: &ClientInitializeError) -> Failure {
    let what = format!("connecting to the MCP server {server}");
    match error {
        ClientInitializeError::JsonRpcError(_)
        | ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            Failure::permanent(format!("{what}: {}", chain(error)))
        }
        ClientInitializeError::TransportError { error, .. } => {
            match transport(&what, error.error.as_ref()) {
                // Nothing was called yet, so connecting again costs nothing.
                Failure::Transient { message } => Failure::unavailable(message),
                failure => failure,
            }
        }
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => handshake(server, fallback),
        _ => Failure::unavailable(format!("{what}: {}", chain(error))),
    }
}

/// A request that failed: unless it never left, it may have been served, and repeating it costs an attempt.
pub(super) fn request(server: &str, error: &ServiceError) -> Failure {
    let what = format!("asking the MCP server {server}");
    match error {
        ServiceError::McpError(_) | ServiceError::UnexpectedResponse => {
            Failure::permanent(format!("{what}: {}", chain(error)))
        }
        ServiceError::TransportSend(error) => transport(&what, error.error.as_ref()),
        _ => Failure::transient(format!("{what}: {}", chain(error))),
    }
}

fn transport(what: &str, error: &(dyn Error + Send + Sync + 'static)) -> Failure {
    let Some(error) = find(error) else {
        return Failure::transient(format!("{what}: {}", chain(error)));
    };
    match error {
        TransportError::Client(error) => broken(what, error),
        TransportError::HttpStatus(_) => Failure::unavailable(format!("{what}: {error}")),
        TransportError::UnexpectedServerResponse(_)
        | TransportError::UnexpectedContentType(_)
        | TransportError::AuthRequired(_)
        | TransportError::InsufficientScope(_)
        | TransportError::ReservedHeaderConflict(_)
        | TransportError::ResponseBodyTooLarge { .. } => {
            Failure::permanent(format!("{what}: {error}"))
        }
        _ => Failure::transient(format!("{what}: {error}")),
    }
}

fn find<'a>(error: &'a (dyn Error + Send + Sync + 'static)) -> Option<&'a TransportError> {
    let mut next: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
