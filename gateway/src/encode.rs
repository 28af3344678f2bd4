//! Encode: what goes back to the client: whole answers, streams, lists, and faults in OpenAI's shape.

#[cfg(any(test, fuzzing))]
pub(crate) mod claims;
mod events;
mod patience;
mod raw;
mod stream;
mod unasked;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use protocol::openai::ErrorKind;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

pub(crate) use self::{
    events::{Events, Tally},
    patience::patiently,
    raw::{Raw, raw},
    stream::{Streaming, replay, stream},
};
use crate::{
    call::Surface,
    fault::Fault,
    forward::{Refusal, UpstreamError},
};

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Cut>;

/// Why the connection to a client is cut: the answer is not complete, and nothing in it could say so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the answer was cut off")]
pub(crate) struct Cut;

/// The header that names the request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that tells how many milliseconds the gateway itself took, up to the first bytes of a stream.
pub(crate) const OVERHEAD: HeaderName = HeaderName::from_static("x-gateway-overhead-duration-ms");
/// The header that tells whether the answer is one that was given before.
pub(crate) const CACHE: HeaderName = HeaderName::from_static("x-gateway-cache");
/// The header that names the target that answered.
pub(crate) const TARGET: HeaderName = HeaderName::from_static("x-gateway-target");
/// The content type of JSON.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A complete answer.
pub(crate) fn whole(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// A value as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Our own answers serialise without fail: string keys only, no floats but finite ones.
    whole(
        status,
        JSON,
        Bytes::from(serde_json::to_vec(value).unwrap_or_default()),
    )
}

/// A text.
pub(crate) fn text(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    whole(
        status,
        HeaderValue::from_static(content_type),
        Bytes::from(text),
    )
}

/// A fault in the shape of the API that was called.
pub(crate) fn fault(fault: &Fault, surface: Surface) -> Response<Body> {
    let status =
        StatusCode::from_u16(fault.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match surface {
        Surface::OpenAi => json(status, &fault.body()),
        Surface::Anthropic => json(status, &fault.anthropic_body()),
        Surface::Ollama => json(status, &fault.ollama_body()),
    };
    if let Some(allow) = fault.allow {
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    let is_passing = matches!(fault.kind, ErrorKind::Unavailable | ErrorKind::RateLimited);
    if let Some(seconds) = fault.retry_after.or(is_passing.then_some(1)) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// What a client is told in place of an answer: our fault, or the upstream's own words if they are in an API's shape.
pub(crate) fn refusal(refusal: Refusal, surface: Surface) -> Response<Body> {
    let error = match refusal {
        Refusal::Fault(ours) => return fault(&ours, surface),
        Refusal::Upstream(error) => *error,
    };
    let UpstreamError {
        status,
        content_type,
        retry_after,
        retry_in: _,
        body,
    } = error;
    let parsed = serde_json::from_slice::<Value>(&body).ok();
    let mut response = if parsed.is_some_and(|parsed| parsed["error"].is_object()) {
        whole(status, content_type, body)
    } else {
        unshaped(status, surface)
    };
    if let Some(retry_after) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_after);
    }
    response
}

/// An upstream's error that is in no shape that clients read.
fn unshaped(status: StatusCode, surface: Surface) -> Response<Body> {
    let message = format!("The model's server answered with status {status}.");
    let kind = if status.is_client_error() {
        ErrorKind::InvalidRequest
    } else {
        ErrorKind::UpstreamFailed
    };
    let mut response = fault(&Fault::new(kind, message), surface);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::refusal;
    use crate::{
        call::Surface,
        forward::{Refusal, UpstreamError},
    };

    #[track_caller]
    fn check(status: u16, body: &'static str, kind: &str, message: &str) {
        let response = refusal(
            Refusal::Upstream(Box::new(UpstreamError {
                status: StatusCode::from_u16(status).unwrap(),
                content_type: HeaderValue::from_static("application/json"),
                retry_after: Some(HeaderValue::from_static("7")),
                retry_in: None,
                body: Bytes::from_static(body.as_bytes()),
            })),
            Surface::OpenAi,
        );
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()["retry-after"], "7");
        let body = futures::executor::block_on(response.into_body().collect())
            .unwrap()
            .to_bytes();
        let parsed: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (
                parsed["error"]["type"].as_str(),
                parsed["error"]["message"].as_str()
            ),
            (Some(kind), Some(message))
        );
    }

    #[test]
    fn errors_of_upstreams_reach_clients_in_openai_shape() {
        check(
            400,
            r#"{"error":{"message":"own words","type":"t"}}"#,
            "t",
            "own words",
        );
        let words = "The model's server answered with status 500 Internal Server Error.";
        check(500, "<html>", "server_error", words);
        let words = "The model's server answered with status 422 Unprocessable Entity.";
        check(
            422,
            r#"{"detail":"other shape"}"#,
            "invalid_request_error",
            words,
        );
    }
}
