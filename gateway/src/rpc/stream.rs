//! Answers on their way to clients: whole messages, and streams of them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response as HttpResponse, StatusCode, header};
use hyper::body::Frame;

use crate::encode::{self, Body, Cut};

/// How often a stream shows that it is alive.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a stream shows then.
pub(crate) const COMMENT: Bytes = Bytes::from_static(b": alive\n\n");

/// A message.
pub(crate) fn whole(status: StatusCode, text: String) -> HttpResponse<Body> {
    encode::whole(
        status,
        HeaderValue::from_static("application/json"),
        Bytes::from(text),
    )
}

/// Bytes as a body carries them.
pub(crate) fn frame(data: Bytes) -> Result<Frame<Bytes>, Cut> {
    Ok(Frame::data(data))
}

/// A stream of events.
pub(crate) fn events(body: Body) -> HttpResponse<Body> {
    let mut response = HttpResponse::new(body);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, protocol::sse::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
