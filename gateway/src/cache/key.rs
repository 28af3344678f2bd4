//! Keys: which requests are equal. Two that differ only in white space, in the order of their fields, in how the answer
//! is sent, or in who asks are; everything else counts, fields that the gateway does not know included.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::{call::Operation, decode::Decoded, scan::Scanner};

/// The hash of a request.
pub(super) type Key = [u8; 32];

/// Fields that say how the answer is sent or who asks, not what it says; the model is hashed by its name.
const BESIDES: [&str; 6] = [
    "model",
    "stream",
    "stream_options",
    "user",
    "safety_identifier",
    "prompt_cache_key",
];
/// Labels of the client's own; answers of `/v1/responses` repeat them.
const LABELS: &str = "metadata";
/// Fields of `/v1/responses` by which an answer depends on more than the request; `null` stands for their absence.
const STATEFUL: [&str; 3] = ["background", "conversation", "previous_response_id"];

/// The key of a request of one scope; `None` if its answer cannot be given again.
pub(super) fn key(decoded: &Decoded, scope: &str) -> Option<Key> {
    let operation = decoded.operation;
    let is_response = match operation {
        Operation::Response => true,
        Operation::Chat
        | Operation::Completion
        | Operation::Embedding
        | Operation::Message
        | Operation::TokenCount
        | Operation::Rerank
        | Operation::Moderation
        | Operation::Tokenization
        | Operation::Detokenization => false,
        // They depend on what the upstream has stored, or are not meant to come out the same twice.
        Operation::ResponseTokenCount
        | Operation::ResponseCompaction
        | Operation::ImageGeneration
        | Operation::ImageEdit
        | Operation::ImageVariation
        | Operation::Speech
        | Operation::Transcription
        | Operation::Realtime
        | Operation::Translation
        | Operation::ToolCall => return None,
    };
    let mut fields = fields(&decoded.body)?;
    fields.retain(|(name, _)| !BESIDES.contains(&&**name) && (is_response || name != LABELS));
    let is_stateful = |(name, value): &(Cow<'_, str>, &[u8])| {
        STATEFUL.contains(&&**name) && !matches!(*value, b"null" | b"false")
    };
    if is_response && fields.iter().any(is_stateful) {
        return None;
    }
    // Stable, so that fields of one name, if there are any, keep their order.
    fields.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut hash = Sha256::new();
    for text in [scope, operation.path(), &decoded.fields.model] {
        add(&mut hash, text.as_bytes());
    }
    for (name, value) in fields {
        add(&mut hash, name.as_bytes());
        add_value(&mut hash, value);
    }
    Some(hash.finalize().into())
}

/// The top-level fields of a body that is known to be an object.
fn fields(body: &[u8]) -> Option<Vec<(Cow<'_, str>, &[u8])>> {
    let mut fields = Vec::new();
    let mut scanner = Scanner::new(body);
    if !scanner.pass_if(b'{') {
        return None;
    }
    while scanner.peek()? == b'"' {
        let name = serde_json::from_slice::<Name<'_>>(scanner.string()).ok()?;
        if !scanner.pass_if(b':') {
            return None;
        }
        fields.push((name.0, scanner.value()));
        scanner.pass_if(b',');
    }
    Some(fields)
}

/// A field's name, borrowed unless it holds an escape.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Adds a text with its length, so that no two lists of texts look alike.
fn add(hash: &mut Sha256, text: &[u8]) {
    hash.update(text.len().to_le_bytes());
    hash.update(text);
}

/// Adds a value without its white space; it ends where it is closed, so its length need not be known.
fn add_value(hash: &mut Sha256, value: &[u8]) {
    let mut scanner = Scanner::new(value);
    while let Some(byte) = scanner.peek() {
        hash.update(if byte == b'"' {
            scanner.string()
        } else {
            scanner.run()
        });
    }
    // No value ends so, and no name begins so.
    hash.update([0]);
}

#[cfg(test)]
mod tests {
    use super::key;
    use crate::{call::Operation, decode::Decoded};

    #[track_caller]
    fn check(operation: Operation, left: &'static str, right: &'static str, are_equal: bool) {
        let of = |body| key(&Decoded::of(operation, body), "s").unwrap();
        assert_eq!(of(left) == of(right), are_equal, "{left} and {right}");
    }

    #[test]
    fn requests_are_equal_if_they_ask_for_the_same() {
        let check = |left, right, are_equal| check(Operation::Chat, left, right, are_equal);
        let plain = r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"x":1}"#;
        check(
            plain,
            r#" { "x": 1, "messages": [ {"role" : "user","content":"a b"} ], "m\u006fdel": "m" }"#,
            true,
        );
        let sent = r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"x":1,"stream":true,
            "stream_options":{"include_usage":true},"user":"u","metadata":{"a":"b"}}"#;
        check(plain, sent, true);
        for other in [
            r#"{"model":"n","messages":[{"role":"user","content":"a b"}],"x":1}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"ab"}],"x":1}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"x":2}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"y":1}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}]}"#,
        ] {
            check(plain, other, false);
        }
        check(
            r#"{"model":"m","a":"b\"","c":"d"}"#,
            r#"{"model":"m","a":"b\",\"c\":\"d"}"#,
            false,
        );
    }

    #[test]
    fn scopes_and_operations_have_answers_of_their_own() {
        let chat = Decoded::of(Operation::Chat, r#"{"model":"m"}"#);
        let completion = Decoded::of(Operation::Completion, r#"{"model":"m"}"#);
        assert_ne!(key(&chat, "a"), key(&chat, "b"));
        assert_ne!(key(&chat, "a"), key(&completion, "a"));
    }

    #[test]
    fn what_depends_on_more_than_the_request_has_no_key() {
        let has_key = |body| key(&Decoded::of(Operation::Response, body), "").is_some();
        assert!(has_key(
            r#"{"model":"m","previous_response_id":null,"background":false}"#
        ));
        assert!(!has_key(r#"{"model":"m","previous_response_id":"r"}"#));
        assert!(!has_key(r#"{"model":"m","background":true}"#));
        let labelled = r#"{"model":"m","metadata":{"a":"b"}}"#;
        check(Operation::Response, r#"{"model":"m"}"#, labelled, false);
    }
}
