//! gRPC over HTTP/2: messages behind their length, and a status in the trailers.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame};
use prost::Message;
use tokio::time::timeout;

/// The content type of gRPC, of which others are variants.
const CONTENT_TYPE: &str = "application/grpc";
/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The body of answers.
pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Why a call ends, by gRPC's number and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    code: u16,
    message: &'static str,
}

impl Status {
    /// All is well.
    pub(super) const OK: Self = Self::new(0, "");
    /// A message that is none, or that does not belong here.
    pub(super) const INVALID: Self = Self::new(3, "this message does not belong here");
    /// The client took too long.
    pub(super) const LATE: Self = Self::new(4, "the next message did not come in time");
    /// No such service is known.
    pub(super) const NOT_FOUND: Self = Self::new(5, "no such service is known");
    /// More than is taken on.
    pub(super) const EXHAUSTED: Self = Self::new(8, "the message is larger than is accepted");
    /// The connection broke.
    pub(super) const CANCELLED: Self = Self::new(1, "the call was broken off");
    /// No such method, or no such encoding.
    pub(super) const UNIMPLEMENTED: Self = Self::new(12, "there is no such method or encoding");

    const fn new(code: u16, message: &'static str) -> Self {
        Self { code, message }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from(self.code));
        if !self.message.is_empty() {
            headers.insert("grpc-message", HeaderValue::from_static(self.message));
        }
        headers
    }

    /// The trailers that end a call.
    pub(super) fn trailers(&self) -> Frame<Bytes> {
        Frame::trailers(self.headers())
    }

    /// The answer to a call that ends before it has begun.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = respond(Empty::new().boxed_unsync());
        response.headers_mut().extend(self.headers());
        response
    }
}

/// Whether a request is one of gRPC's, uncompressed messages in Protocol Buffers.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let rest =
        content_type.and_then(|value| value.as_bytes().strip_prefix(CONTENT_TYPE.as_bytes()));
    rest.is_some_and(|rest| rest.is_empty() || rest == b"+proto" || rest.starts_with(b";"))
}

/// An answer with this body.
pub(super) fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let content_type = HeaderValue::from_static(CONTENT_TYPE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    response
}

/// An answer of one message.
pub(super) fn one(message: &impl Message) -> Response<Body> {
    let frames = [Frame::data(encode(message)), Status::OK.trailers()];
    let frames = futures::stream::iter(frames.map(Ok));
    respond(StreamBody::new(frames).boxed_unsync())
}

/// A message behind its length.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut encoded = BytesMut::with_capacity(PREFIX_BYTES + length);
    encoded.put_u8(0);
    // A message is as long as a body that was accepted, at most, and those are far below this limit.
    encoded.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows, so that encoding cannot fail.
    let _ = message.encode(&mut encoded);
    encoded.freeze()
}

/// The messages of a call, as they come.
pub(super) struct Messages<B> {
    body: B,
    buffer: BytesMut,
    bytes_max: usize,
}

impl<B> Messages<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    /// The messages in this body, each of so many bytes at most.
    pub(super) fn new(body: B, bytes_max: usize) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            bytes_max,
        }
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// The call was broken off, is not what it should be, or is silent for longer than `limit`.
    pub(super) async fn next<M: Message + Default>(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<Option<M>, Status> {
        let next = self.frame();
        let frame = match limit {
            None => next.await?,
            Some(limit) => timeout(limit, next).await.map_err(|_| Status::LATE)??,
        };
        let Some(frame) = frame else {
            return Ok(None);
        };
        M::decode(frame).map(Some).map_err(|_| Status::INVALID)
    }

    /// The bytes of the next message.
    async fn frame(&mut self) -> Result<Option<Bytes>, Status> {
        if !self.fill(PREFIX_BYTES).await? {
            return match self.buffer.is_empty() {
                true => Ok(None),
                false => Err(Status::INVALID),
            };
        }
        let mut prefix = self.buffer.split_to(PREFIX_BYTES);
        if prefix.get_u8() != 0 {
            return Err(Status::UNIMPLEMENTED);
        }
        let length = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
        if self.bytes_max < length {
            return Err(Status::EXHAUSTED);
        }
        if !self.fill(length).await? {
            return Err(Status::INVALID);
        }
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Reads on until so many bytes are there; `false` at the end.
    async fn fill(&mut self, bytes: usize) -> Result<bool, Status> {
        while self.buffer.len() < bytes {
            let Some(frame) = self.body.frame().await else {
                return Ok(false);
            };
            let frame = frame.map_err(|_| Status::CANCELLED)?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
