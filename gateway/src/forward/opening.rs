//! The opening of a stream: what comes before its first token is held back, since until then another can answer. Pure.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use protocol::sse::{Event, Parser};
use serde::Deserialize;
use serde_json::Value;

use super::UpstreamError;
use crate::call::Operation;

/// Bytes that are held back; a stream that says more before its first token is passed on as it is.
const OPENING_BYTES_MAX: usize = 64 << 10;

/// What is known of a stream so far.
#[derive(Debug)]
pub(super) enum Opening {
    /// No token yet.
    Silent,
    /// It has begun, or it is something that only the client can judge.
    Begun,
    /// It says that it failed.
    Failed(UpstreamError),
}

/// The bytes of a stream up to its first token.
#[derive(Debug)]
pub(super) struct Head {
    operation: Operation,
    parser: Parser,
    bytes: BytesMut,
}

impl Head {
    /// A stream of this operation that has sent nothing.
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            parser: Parser::new(OPENING_BYTES_MAX),
            bytes: BytesMut::new(),
        }
    }

    /// Takes bytes; those of a stream that has not begun are held back.
    pub(super) fn push(&mut self, bytes: &Bytes) -> Opening {
        let known = self.judge(bytes);
        if matches!(known, Opening::Silent) {
            self.bytes.extend_from_slice(bytes);
        }
        known
    }

    fn judge(&mut self, bytes: &Bytes) -> Opening {
        let Ok(events) = self.parser.push(bytes) else {
            return Opening::Begun;
        };
        for event in events {
            match judge(&event, self.operation) {
                Opening::Silent => {}
                known => return known,
            }
        }
        if OPENING_BYTES_MAX < self.bytes.len() + bytes.len() {
            return Opening::Begun;
        }
        Opening::Silent
    }

    /// All bytes so far, those included that made it begin.
    pub(super) fn with(mut self, last: Bytes) -> Bytes {
        if self.bytes.is_empty() {
            return last;
        }
        self.bytes.extend_from_slice(&last);
        self.bytes.freeze()
    }
}

/// What an event says of its stream.
fn judge(event: &Event, operation: Operation) -> Opening {
    if event.data.is_empty() {
        return Opening::Silent;
    }
    let Ok(says) = serde_json::from_str::<Says<'_>>(&event.data) else {
        return Opening::Begun;
    };
    let kind = says.kind.unwrap_or(&event.event);
    if says.error.as_ref().is_some_and(|error| !error.is_null()) || kind == "error" {
        return Opening::Failed(failure(&event.data, says.error.as_ref()));
    }
    let has_begun = match operation {
        Operation::Message => !matches!(kind, "message_start" | "content_block_start" | "ping"),
        Operation::Response => !matches!(
            kind,
            "response.created"
                | "response.queued"
                | "response.in_progress"
                | "response.output_item.added"
                | "response.content_part.added"
                | "response.reasoning_summary_part.added"
                | "keepalive"
        ),
        Operation::Chat | Operation::Completion => match says.choices {
            Some(choices) => choices.iter().any(Choice::is_token),
            None => says.usage.is_none(),
        },
        _ => true,
    };
    if has_begun {
        Opening::Begun
    } else {
        Opening::Silent
    }
}

/// The parts of an event that tell whether a stream has begun.
#[derive(Deserialize)]
struct Says<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Option<&'a str>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    finish_reason: Option<String>,
}

impl Choice {
    /// Whether it is more than the role that every answer begins with.
    fn is_token(&self) -> bool {
        let is_said = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
        };
        let mut parts = self.delta.iter().flatten();
        self.finish_reason.is_some()
            || self.text.as_ref().is_some_and(|text| !text.is_empty())
            || parts.any(|(name, value)| name != "role" && is_said(value))
    }
}

/// An error in place of a stream, with the status that the upstream would have given it.
fn failure(data: &str, error: Option<&Value>) -> UpstreamError {
    let error = error.unwrap_or(&Value::Null);
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let given = number(&error["code"]).or_else(|| number(&error["status"]));
    let words = [&error["code"], &error["type"], &error["status"]];
    let mut words = words.into_iter().filter_map(Value::as_str);
    let said = words.find_map(|word| match word {
        "rate_limit_exceeded" | "rate_limit_error" | "RESOURCE_EXHAUSTED" => Some(429),
        "overloaded_error" => Some(529),
        "UNAVAILABLE" => Some(503),
        "invalid_request_error" | "INVALID_ARGUMENT" => Some(400),
        _ => None,
    });
    let status = given.filter(|status| (400..600).contains(status)).or(said);
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    UpstreamError {
        status: status.unwrap_or(StatusCode::BAD_GATEWAY),
        content_type: HeaderValue::from_static("application/json"),
        retry_after: None,
        retry_in: None,
        body: Bytes::copy_from_slice(data.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Head, OPENING_BYTES_MAX, Opening};
    use crate::call::Operation;

    /// After how many of the events the stream has begun, in bytes of any size; with the status of its error.
    #[track_caller]
    fn check(operation: Operation, events: &[&str], expected: Option<(usize, u16)>) {
        for size in [1, 7, 4096] {
            let stream: String = events.iter().map(|event| format!("{event}\n\n")).collect();
            let mut head = Head::new(operation);
            let mut found = None;
            for (place, chunk) in stream.as_bytes().chunks(size).enumerate() {
                let status = match head.push(&Bytes::copy_from_slice(chunk)) {
                    Opening::Silent => continue,
                    Opening::Begun => 200,
                    Opening::Failed(error) => error.status.as_u16(),
                };
                let read = stream.len().min((place + 1) * size);
                let whole = stream[..read].matches("\n\n").count();
                found = Some((whole, status));
                let last = Bytes::copy_from_slice(chunk);
                assert_eq!(head.with(last), &stream.as_bytes()[..read]);
                break;
            }
            let status = |(count, status)| {
                if size == 1 {
                    (count, status)
                } else {
                    (0, status)
                }
            };
            let by_size = |found: Option<(usize, u16)>| found.map(status);
            assert_eq!(by_size(found), by_size(expected), "{events:?} by {size}");
        }
    }

    const ROLE: &str = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;

    #[test]
    fn a_chat_begins_with_its_first_token() {
        let content = r#"data: {"choices":[{"delta":{"content":"Hi"}}]}"#;
        let check = |events: &[&str], expected| check(Operation::Chat, events, expected);
        check(&[ROLE, content], Some((2, 200)));
        check(&[": PROCESSING", ROLE, ": PROCESSING"], None);
        // Azure's first chunk has no choice.
        let filter = r#"data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#;
        check(&[filter, ROLE, content], Some((3, 200)));
        for first in [
            r#"data: {"choices":[{"delta":{"reasoning_content":"Hm"}}]}"#,
            r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
            r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            r#"data: {"choices":[{"text":"Hi"}]}"#,
            "data: [DONE]",
            "data: no JSON",
        ] {
            check(&[ROLE, first], Some((2, 200)));
        }
    }

    #[test]
    fn messages_and_responses_begin_with_their_first_token() {
        let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}";
        let block = r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
        let delta =
            r#"data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}"#;
        let ping = r#"data: {"type":"ping"}"#;
        check(
            Operation::Message,
            &[start, block, ping, delta],
            Some((4, 200)),
        );
        let created = r#"data: {"type":"response.created","response":{"error":null}}"#;
        let text = r#"data: {"type":"response.output_text.delta","delta":"x"}"#;
        check(Operation::Response, &[created, text], Some((2, 200)));
    }

    #[test]
    fn an_error_in_place_of_the_first_token_has_a_status() {
        for (operation, error, status) in [
            (
                Operation::Chat,
                r#"data: {"error":{"message":"x","code":400}}"#,
                400,
            ),
            (
                Operation::Chat,
                r#"data: {"error":{"code":"rate_limit_exceeded"}}"#,
                429,
            ),
            (Operation::Chat, r#"data: {"error":{"message":"x"}}"#, 502),
            (
                Operation::Message,
                r#"data: {"type":"error","error":{"type":"overloaded_error"}}"#,
                529,
            ),
            (
                Operation::Response,
                r#"data: {"type":"error","message":"x"}"#,
                502,
            ),
        ] {
            check(operation, &[": hello", error], Some((2, status)));
        }
    }

    #[test]
    fn an_opening_without_end_is_passed_on() {
        let mut head = Head::new(Operation::Chat);
        let comments = Bytes::from(": x\n\n".repeat(OPENING_BYTES_MAX / 5));
        assert!(matches!(head.push(&comments), Opening::Silent));
        assert!(matches!(head.push(&comments), Opening::Begun));
    }
}
