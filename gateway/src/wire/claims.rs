//! What must hold of translations, whatever the bytes.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{
    ClientApi, Exchange, Translation, UpstreamApi, bedrock::frame, translate_error,
    translate_reply, translate_request,
};
use crate::fuzzing::{Cut, byte};

/// What is sent and answered is JSON, and streams do not depend on how they are cut.
pub fn translation(bytes: &[u8]) {
    let (choice, rest) = byte(bytes);
    let clients = [
        ClientApi::Chat,
        ClientApi::Messages,
        ClientApi::Responses,
        ClientApi::Ollama,
        ClientApi::Generate,
        ClientApi::Completions,
    ];
    let upstreams = [
        UpstreamApi::Chat,
        UpstreamApi::Messages,
        UpstreamApi::Gemini,
        UpstreamApi::Bedrock,
        UpstreamApi::Ollama,
    ];
    let cut = Cut::of(rest);
    let exchange = Exchange {
        client: clients[usize::from(choice) % clients.len()],
        upstream: upstreams[usize::from(choice / 16) % upstreams.len()],
        model: "m".to_owned(),
        upstream_model: "anthropic.claude-opus".to_owned(),
        stream: choice.is_multiple_of(2),
        request_id: "req_7".to_owned(),
        created: 7,
        marks_cache: choice.is_multiple_of(3),
        request: Bytes::copy_from_slice(cut.whole),
    };
    if let Ok(sent) = translate_request(&exchange, cut.whole) {
        check_json(&sent);
    }
    if let Ok(reply) = translate_reply(&exchange, cut.whole) {
        check_json(&reply.body);
    }
    check_json(&translate_error(exchange.client, 429, cut.whole));
    if exchange.upstream == UpstreamApi::Bedrock {
        let frames = frames(cut.whole);
        let whole = stream(&exchange, [&frames[..]].into_iter());
        assert_eq!(whole, stream(&exchange, frames.chunks(7)));
    }
    let whole = stream(&exchange, [cut.whole].into_iter());
    assert_eq!(whole, stream(&exchange, cut.chunks()));
}

fn check_json(body: &[u8]) {
    let read = serde_json::from_slice::<IgnoredAny>(body);
    assert!(read.is_ok(), "{}", String::from_utf8_lossy(body));
}

/// Frames of a type and a payload in each line: no bytes that are made up have the right checksums.
fn frames(lines: &[u8]) -> Vec<u8> {
    let framed = lines.split(|byte| *byte == b'\n').map(|line| {
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
        let (kind, payload) = line.split_at(space.min(64));
        frame(&[(":event-type", &String::from_utf8_lossy(kind))], payload)
    });
    framed.collect::<Vec<_>>().concat()
}

/// What a client gets, and how the stream ended.
fn stream<'a>(
    exchange: &Exchange,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (String, Option<String>) {
    let mut translation = Translation::new(exchange);
    let mut seen = Vec::new();
    let mut passed = chunks
        .map(|chunk| translation.push(chunk))
        .try_for_each(|bytes| {
            seen.extend_from_slice(&bytes?);
            Ok(())
        });
    if passed.is_ok() {
        passed = translation
            .finish()
            .map(|bytes| seen.extend_from_slice(&bytes));
    }
    let seen = String::from_utf8(seen);
    assert!(seen.is_ok(), "a client gets no text");
    let ended = passed.err().map(|error| error.to_string());
    (seen.unwrap_or_default(), ended)
}
