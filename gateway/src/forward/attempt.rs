//! One attempt at one endpoint, up to the first bytes of a stream or the last byte of anything else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::timeout_at;

use super::{Answer, Failure, Forward, UpstreamError};
use crate::{
    call::Operation,
    endpoint::Endpoint,
    table::Target,
    upstream::{connecting_within, is_connect_timeout},
};

/// Bytes of a complete answer that are accepted.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of an error's body that are passed on.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// How long the body of an error may take.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);
/// The content type of answers that name none.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Sends the request to one endpoint.
///
/// # Errors
/// [`Failure`]; nothing has been passed on to the client then.
pub(super) async fn attempt(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Arc<Endpoint>,
    body: Bytes,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let limit = Duration::from_millis(forward.route.timeouts.first_byte_millis);
    let first_byte_by = deadline.min(Instant::now() + limit);
    let lease = endpoint.begin(Instant::now());
    let request = request(forward, target, endpoint, body)?;
    let connect = Duration::from_millis(forward.route.timeouts.connect_millis);
    let asking = connecting_within(connect, forward.upstream.request(request));
    let response = timeout_at(first_byte_by.into(), asking)
        .await
        .map_err(|_| Failure::Timeout("answer", limit))?
        .map_err(|error| {
            if error.is_connect() && is_connect_timeout(&error) {
                return Failure::Timeout("connection", connect);
            }
            Failure::Broken(chain(&error))
        })?;
    let status = response.status();
    if !status.is_success() {
        return Err(read_error(response).await);
    }
    let content_type = content_type_of(&response);
    if content_type
        .as_bytes()
        .starts_with(protocol::sse::CONTENT_TYPE.as_bytes())
    {
        let (first, rest) = begin_stream(response, first_byte_by, limit).await?;
        return Ok(Answer::Stream { first, rest, lease });
    }
    if forward.call.operation == Operation::Speech && !is_json(&content_type) {
        let (first, rest) = begin_stream(response, first_byte_by, limit).await?;
        return Ok(Answer::Raw {
            content_type,
            first,
            rest,
            lease,
        });
    }
    let idle = Duration::from_millis(forward.route.timeouts.stream_idle_millis);
    let body = read_whole(response.into_body(), deadline, limit.max(idle)).await?;
    Ok(Answer::Whole {
        status,
        content_type,
        body,
    })
}

fn request(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Endpoint,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Failure> {
    let operation = forward.call.operation;
    let uri = target
        .provider
        .uri(endpoint, operation, &target.model)
        .ok_or_else(|| Failure::Broken("the model's name makes no URL".to_owned()))?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, JSON)
        // A compressed answer could not be read for its usage, nor passed on event by event.
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(header::USER_AGENT, HeaderValue::from_static(concat!("quarterdeck-gateway/", env!("CARGO_PKG_VERSION"))))
        .header("x-request-id", &forward.call.id)
        .body(Full::new(body))
        .map_err(|error| Failure::Broken(error.to_string()))?;
    target
        .provider
        .authorize(operation, forward.headers, request.headers_mut());
    Ok(request)
}

fn content_type_of(response: &Response<Incoming>) -> HeaderValue {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .cloned()
        .unwrap_or(JSON)
}

fn is_json(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(JSON.as_bytes())
}

/// Waits for the first bytes: a stream that breaks before them can still be tried elsewhere.
async fn begin_stream(
    response: Response<Incoming>,
    first_byte_by: Instant,
    limit: Duration,
) -> Result<(Bytes, Incoming), Failure> {
    let mut rest = response.into_body();
    loop {
        let frame = timeout_at(first_byte_by.into(), rest.frame())
            .await
            .map_err(|_| Failure::Timeout("first event", limit))?
            .ok_or_else(|| Failure::Broken("the stream ended before its first event".to_owned()))?
            .map_err(|error| Failure::Broken(chain(&error)))?;
        if let Ok(first) = frame.into_data()
            && !first.is_empty()
        {
            return Ok((first, rest));
        }
    }
}

async fn read_whole(
    mut body: Incoming,
    deadline: Instant,
    idle: Duration,
) -> Result<Bytes, Failure> {
    let mut collected = BytesMut::new();
    loop {
        let next_by = deadline.min(Instant::now() + idle);
        let frame = timeout_at(next_by.into(), body.frame())
            .await
            .map_err(|_| Failure::Timeout("more", idle))?;
        let Some(frame) = frame else {
            return Ok(collected.freeze());
        };
        let frame = frame.map_err(|error| Failure::Broken(chain(&error)))?;
        if let Ok(data) = frame.into_data() {
            if ANSWER_BYTES_MAX < collected.len() + data.len() {
                return Err(Failure::TooLong);
            }
            collected.extend_from_slice(&data);
        }
    }
}

async fn read_error(response: Response<Incoming>) -> Failure {
    let status = response.status();
    let content_type = content_type_of(&response);
    let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
    let body = http_body_util::Limited::new(response.into_body(), ERROR_BYTES_MAX);
    let body = match tokio::time::timeout(ERROR_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    // Anything but an error or a success, as a redirect, is nothing that a client of this API can use.
    let status = if status.as_u16() < 400 {
        StatusCode::BAD_GATEWAY
    } else {
        status
    };
    Failure::Status(UpstreamError {
        status,
        content_type,
        retry_after,
        body,
    })
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
