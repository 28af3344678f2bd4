//! Replies, byte for byte as Envoy's own definitions encode them.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use serde_json::{Value, json};

use super::{
    End, PIECE_BYTES_MAX, Way, passed, passed_body, passed_trailers, picked, pieces, refused,
};
use crate::endpoint_picker::message::{BodyMode, ProcessingResponse, Told};

#[track_caller]
fn check(name: &str, replies: &[ProcessingResponse]) {
    let messages = include_str!("../../../testdata/ext_proc.json");
    let messages: Value = serde_json::from_str(messages).unwrap();
    let hex = |reply: &ProcessingResponse| {
        let bytes = reply.encode_to_vec();
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let found: Vec<String> = replies.iter().map(hex).collect();
    assert_eq!(json!(found), messages["replies"][name], "{replies:?}");
}

fn way(is_changed: bool) -> Way {
    Way {
        destination: "10.0.0.1:8000".parse().unwrap(),
        body: Bytes::from_static(br#"{"model":"m"}"#),
        is_changed,
    }
}

#[test]
fn replies_are_envoys() {
    let (duplex, buffered) = (BodyMode::FullDuplexStreamed, BodyMode::Buffered);
    check("picked_duplex", &picked(&way(false), duplex, End::Body));
    let trailers = picked(&way(false), duplex, End::Trailers);
    check("picked_duplex_with_trailers", &trailers);
    check("picked_buffered", &picked(&way(false), buffered, End::Body));
    check(
        "picked_buffered_changed",
        &picked(&way(true), buffered, End::Body),
    );
    check("passed", &[passed(Told::RequestHeaders)]);
    check(
        "passed_trailers",
        &[passed_trailers(Told::ResponseTrailers)],
    );
    let piece = Bytes::from_static(b"data: 1\n\n");
    check("passed_body", &passed_body(duplex, &piece, false));
    check(
        "passed_body_buffered",
        &passed_body(buffered, &piece, false),
    );
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("content-length", HeaderValue::from_static("2"));
    check(
        "refused",
        &[refused(503, &headers, Bytes::from_static(b"{}"))],
    );
}

#[test]
fn a_long_body_goes_on_in_pieces() {
    for (bytes, expected) in [
        (0, vec![0]),
        (1, vec![1]),
        (PIECE_BYTES_MAX, vec![PIECE_BYTES_MAX]),
        (PIECE_BYTES_MAX + 1, vec![PIECE_BYTES_MAX, 1]),
    ] {
        let lengths = pieces(&Bytes::from(vec![b'x'; bytes]));
        let lengths: Vec<usize> = lengths.iter().map(Bytes::len).collect();
        assert_eq!(lengths, expected);
    }
}
