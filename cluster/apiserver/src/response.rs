//! Responses: bodies, headers and the one place where failures become HTTP.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY, WARNING,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use crate::negotiate::Format;
use crate::status::{ApiError, quoted};

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// Any response body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Smaller answers are sent as they are: compressing them costs more than it saves on one machine.
const COMPRESS_MIN_BYTES: usize = 128 * 1024;

/// A body that is there already.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that comes in pieces.
pub(crate) fn streamed(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures::StreamExt;
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// A response with the headers that every API answer has.
pub(crate) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = with_type(status, "text/plain; charset=utf-8", full(text));
    response.headers_mut().insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// A JSON document that is bytes already.
pub(crate) fn json_bytes(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "application/json", full(bytes))
}

/// A JSON document.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    json_bytes(status, value.to_string())
}

/// An object in the format that was asked for.
pub(crate) fn object(status: StatusCode, value: &Value, format: Format) -> Response<Body> {
    match format {
        Format::Json => json(status, value),
        Format::Yaml => match serde_norway::to_string(value) {
            Ok(yaml) => with_type(status, "application/yaml", full(yaml)),
            Err(error) => failure(&ApiError::internal(error.to_string())),
        },
    }
}

/// A failure as a `Status` object.
pub(crate) fn failure(error: &ApiError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, &error.to_status());
    let retry_after = error
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}

/// A failure for a client that reads nothing but protobuf: the one message that we write in it.
pub(crate) fn protobuf_failure(error: &ApiError) -> Response<Body> {
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        push_varint(&mut out, bytes.len());
        out.extend_from_slice(bytes);
        out
    };
    let metadata = [field(1, b""), field(2, b""), field(3, b"")].concat();
    let mut code = vec![6 << 3];
    push_varint(&mut code, usize::from(error.code));
    let status = [
        field(1, &metadata),
        field(2, b"Failure"),
        field(3, error.message.as_bytes()),
        field(4, error.reason.as_bytes()),
        code,
    ];
    let kind = [field(1, b"v1"), field(2, b"Status")].concat();
    let unknown = [
        b"k8s\0".to_vec(),
        field(1, &kind),
        field(2, &status.concat()),
        field(3, b""),
        field(4, b""),
    ];
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with_type(
        code,
        "application/vnd.kubernetes.protobuf",
        full(unknown.concat()),
    )
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Adds what the client should be told beside the answer.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {}", quoted(warning))) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// JSON bytes, compressed where that pays and the client can read it.
pub(crate) fn large_json(request: &HeaderMap, bytes: Vec<u8>) -> Response<Body> {
    let accepts = request
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    let gzip =
        accepts.is_some_and(|accepts| accepts.split(',').any(|one| one.trim().starts_with("gzip")));
    if !gzip || bytes.len() < COMPRESS_MIN_BYTES {
        return json_bytes(StatusCode::OK, bytes);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish());
    match compressed {
        Ok(compressed) => {
            let mut response = json_bytes(StatusCode::OK, compressed);
            response
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
                .headers_mut()
                .append(VARY, HeaderValue::from_static("Accept-Encoding"));
            response
        }
        Err(_) => json_bytes(StatusCode::OK, bytes),
    }
}
