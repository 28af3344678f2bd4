//! Messages however they are cut, and calls that are none.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{executor::block_on, stream};
use http::{HeaderMap, HeaderValue};
use http_body_util::StreamBody;
use hyper::body::Frame;
use proptest::prelude::{any, proptest};

use super::{Messages, Status, encode, is_grpc};
use crate::endpoint_picker::message::{HealthCheckRequest, HttpBody};

const BYTES_MAX: usize = 100;

/// The messages in bytes that come in pieces of this size, and how they end.
fn read(bytes: &[u8], size: usize) -> (Vec<HttpBody>, Result<(), Status>) {
    let pieces: Vec<Result<Frame<Bytes>, ()>> = bytes
        .chunks(size)
        .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let mut messages = Messages::new(StreamBody::new(stream::iter(pieces)), BYTES_MAX);
    let mut read = Vec::new();
    loop {
        match block_on(messages.next(None)) {
            Ok(Some(message)) => read.push(message),
            Ok(None) => return (read, Ok(())),
            Err(status) => return (read, Err(status)),
        }
    }
}

fn body(bytes: usize) -> HttpBody {
    HttpBody {
        body: vec![b'x'; bytes].into(),
        end_of_stream: true,
    }
}

#[test]
fn messages_are_read_however_they_are_cut() {
    let sent = [body(0), body(3), body(90)];
    let bytes: Vec<u8> = sent.iter().flat_map(encode).collect();
    for size in 1..=bytes.len() {
        assert_eq!(
            read(&bytes, size),
            (sent.to_vec(), Ok(())),
            "pieces of {size}"
        );
    }
}

#[test]
fn what_is_no_message_ends_the_call() {
    let check = |bytes: &[u8], expected: Status| {
        for size in [1, 7, 1000] {
            assert_eq!(
                read(bytes, size),
                (Vec::new(), Err(expected.clone())),
                "{bytes:?}"
            );
        }
    };
    let framed = |flag: u8, length: u32, bytes: &[u8]| {
        let mut framed = BytesMut::new();
        framed.put_u8(flag);
        framed.put_u32(length);
        framed.extend_from_slice(bytes);
        framed
    };
    check(&[0, 0, 0], Status::INVALID);
    check(&framed(0, 5, b"abc"), Status::INVALID);
    check(&framed(1, 2, b"ab"), Status::UNIMPLEMENTED);
    check(&framed(0, 101, b""), Status::EXHAUSTED);
    check(&framed(0, u32::MAX, b""), Status::EXHAUSTED);
    // A field whose length goes beyond the message.
    check(&framed(0, 2, &[0x0a, 9]), Status::INVALID);
    let longest = framed(0, 100, &encode(&body(96))[5..]);
    assert_eq!(read(&longest, 9), (vec![body(96)], Ok(())));
}

#[test]
fn only_plain_messages_are_grpc() {
    let check = |content_type: &'static str, expected: bool| {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(content_type));
        assert_eq!(is_grpc(&headers), expected, "{content_type}");
    };
    check("application/grpc", true);
    check("application/grpc+proto", true);
    check("application/grpc;charset=utf-8", true);
    check("application/grpc+json", false);
    check("application/grpc-web", false);
    check("application/json", false);
    assert!(!is_grpc(&HeaderMap::new()));
}

#[test]
fn one_message_is_one_frame_and_its_status() {
    let answer = super::one(&HealthCheckRequest {
        service: "a".to_owned(),
    });
    let body = block_on(http_body_util::BodyExt::collect(answer.into_body())).unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), b"\0\0\0\0\x03\x0a\x01a"[..]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), size in 1..50_usize) {
        let (whole, cut) = (read(&bytes, bytes.len().max(1)), read(&bytes, size));
        assert_eq!(whole, cut);
    }
}
