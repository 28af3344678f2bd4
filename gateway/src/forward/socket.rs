//! Asks an upstream for a WebSocket.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;

use super::{
    Answer, Failure, Forward,
    attempt::{ask, read_error, request},
};
use crate::{
    call::Operation,
    endpoint::{Endpoint, Lease},
    realtime,
    table::Target,
};

/// A request for a WebSocket, and what the upstream must accept it with.
pub(super) struct Opening {
    request: Request<Full<Bytes>>,
    accept: String,
}

/// The request for a WebSocket.
///
/// # Errors
/// The model's name makes no URL.
pub(super) fn open(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Endpoint,
) -> Result<Opening, Failure> {
    let body = Full::new(Bytes::new());
    let mut request = request(forward, target, endpoint, Operation::Realtime, body)?;
    *request.method_mut() = Method::GET;
    let uri = with_model(request.uri(), &forward.model_at(target)?);
    *request.uri_mut() =
        uri.ok_or_else(|| Failure::Broken("the model's name makes no URL".to_owned()))?;
    let accept = realtime::opening(forward.headers, request.headers_mut());
    Ok(Opening { request, accept })
}

/// The URL of a conversation with a model.
fn with_model(uri: &Uri, model: &str) -> Option<Uri> {
    let sign = if uri.query().is_some() { '&' } else { '?' };
    let model: String = url::form_urlencoded::byte_serialize(model.as_bytes()).collect();
    format!("{uri}{sign}model={model}").parse().ok()
}

/// Waits until the upstream agrees.
///
/// # Errors
/// It does not agree, or not in time.
pub(super) async fn agree(
    forward: &Forward<'_>,
    opening: Opening,
    until: (Instant, Duration),
    lease: Lease,
) -> Result<Answer, Failure> {
    let asking = forward.sockets.request(opening.request);
    let response = ask(forward, asking, until).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        if response.status().is_success() {
            let message = "the upstream answers without a WebSocket";
            return Err(Failure::Broken(message.to_owned()));
        }
        return Err(read_error(response, None).await);
    }
    let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != opening.accept.as_bytes()) {
        let message = "the upstream accepts another WebSocket than was asked for";
        return Err(Failure::Broken(message.to_owned()));
    }
    let upgraded = hyper::upgrade::on(response).await;
    let upstream = upgraded.map_err(|error| Failure::Broken(error.to_string()))?;
    Ok(Answer::Talk { upstream, lease })
}
