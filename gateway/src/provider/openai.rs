//! Upstreams that speak OpenAI's API: the body goes through but for the model's name and the wish for usage.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json, value::RawValue};

use super::Tokens;
use crate::{
    call::Operation,
    decode::{Decoded, Edit, StreamOptions, splice},
};

/// The option by which a stream ends with the usage.
const INCLUDE_USAGE: &str = "include_usage";

/// The body for an upstream that knows the model by this name.
///
/// Streams are always asked for their usage, since the ledger needs it; the client sees it only if it asked.
pub(crate) fn encode_request(decoded: &Decoded, model: &str) -> Bytes {
    let fields = &decoded.fields;
    let mut edits = Vec::new();
    if fields.model != model {
        edits.push(Edit {
            range: fields.model_range.clone(),
            replacement: json!(model).to_string(),
        });
    }
    // The streams of other operations end with their usage in any case.
    if fields.stream && matches!(decoded.operation, Operation::Chat | Operation::Completion) {
        edits.extend(usage_edit(decoded));
    }
    splice(&decoded.body, edits)
}

fn usage_edit(decoded: &Decoded) -> Option<Edit> {
    match &decoded.fields.stream_options {
        Some(StreamOptions {
            include_usage: true,
            ..
        }) => None,
        Some(StreamOptions { range, .. }) => {
            let mut options: Value =
                serde_json::from_slice(&decoded.body[range.clone()]).unwrap_or_default();
            options[INCLUDE_USAGE] = json!(true);
            Some(Edit {
                range: range.clone(),
                replacement: options.to_string(),
            })
        }
        None => {
            let at = decoded.fields.first_field;
            // There is at least the field `model`, so that the comma is right.
            let replacement = format!("\"stream_options\":{{\"{INCLUDE_USAGE}\":true}},");
            Some(Edit {
                range: at..at,
                replacement,
            })
        }
    }
}

/// What a complete answer used.
pub(crate) fn decode_response(body: &[u8]) -> Option<Tokens> {
    let facts: Facts<'_> = serde_json::from_slice(body).ok()?;
    let billed = || facts.meta?.billed_units;
    facts.usage.or_else(billed).map(Into::into)
}

/// What one event of a stream says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EventFacts {
    /// The stream ends here.
    pub(crate) is_done: bool,
    /// A part of the answer is complete: the stream may end or go on with another one.
    pub(crate) may_end: bool,
    /// It carries a piece of the answer.
    pub(crate) is_piece: bool,
    /// It carries nothing but the usage, which clients of chats must ask for.
    pub(crate) is_usage_only: bool,
    /// It carries an error in place of an answer.
    pub(crate) is_error: bool,
    /// What the request used, if the event says so.
    pub(crate) tokens: Option<Tokens>,
}

/// Reads an event's data; of chats and completions only what can say something of interest is parsed.
pub(crate) fn decode_event(data: &[u8], operation: Operation) -> EventFacts {
    if data == b"[DONE]" {
        return EventFacts {
            is_done: true,
            ..EventFacts::default()
        };
    }
    let piece = EventFacts {
        is_piece: true,
        ..EventFacts::default()
    };
    let is_typed = is_typed(operation, data);
    let says = |word: &[u8]| memmem::find(data, word).is_some();
    if !is_typed && !says(b"\"usage\"") && !says(b"\"error\"") {
        return piece;
    }
    let Ok(facts) = serde_json::from_slice::<Facts<'_>>(data) else {
        return piece;
    };
    let kind = facts.kind.as_deref().unwrap_or_default();
    let message = || serde_json::from_str::<Inner>(facts.message?.get()).ok();
    let inner = facts
        .response
        .or_else(message)
        .and_then(|inner| inner.usage);
    let tokens = facts.usage.or(inner).map(Tokens::from);
    let is_error = facts.error.is_some() || kind == "error";
    let is_done = matches!(
        kind,
        "message_stop" | "response.completed" | "response.incomplete" | "response.failed"
    );
    let may_end = matches!(
        kind,
        "image_generation.completed"
            | "image_edit.completed"
            | "speech.audio.done"
            | "transcript.text.done"
    );
    let is_usage_only = tokens.is_some() && facts.choices.is_some_and(|choices| choices.is_empty());
    EventFacts {
        is_done,
        may_end,
        is_error,
        is_usage_only,
        is_piece: match is_typed {
            true => kind.ends_with("delta") && kind != "message_delta",
            false => !is_usage_only && !is_error,
        },
        tokens,
    }
}

/// Whether the events of an operation name their type. Those of transcriptions are OpenAI's or, from vLLM, like those
/// of chats.
fn is_typed(operation: Operation, data: &[u8]) -> bool {
    match operation {
        Operation::Response
        | Operation::Message
        | Operation::ImageGeneration
        | Operation::ImageEdit
        | Operation::Speech => true,
        Operation::Transcription => memmem::find(data, b"\"transcript.").is_some(),
        _ => false,
    }
}

/// The parts of answers and events that the gateway reads.
#[derive(Deserialize)]
struct Facts<'a> {
    /// The type of an event of `/v1/responses` and `/v1/messages`.
    #[serde(rename = "type", default, borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    usage: Option<RawUsage>,
    #[serde(default)]
    choices: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    error: Option<IgnoredAny>,
    /// The whole answer, in the last event of `/v1/responses`.
    #[serde(default)]
    response: Option<Inner>,
    /// The message so far, in the first event of `/v1/messages`; a text in errors of `/v1/responses`.
    #[serde(default, borrow)]
    message: Option<&'a RawValue>,
    /// What Cohere's API says in place of the usage.
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    billed_units: Option<RawUsage>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    usage: Option<RawUsage>,
}

/// The usage, in the words of chats, of responses, and of messages.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RawUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
    /// All that there is of it, in the words of reranking.
    total_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<Details>,
    /// Tokens beside `input_tokens` that were cached.
    cache_read_input_tokens: Option<u64>,
    /// Tokens beside `input_tokens` that are cached now.
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl From<RawUsage> for Tokens {
    fn from(usage: RawUsage) -> Self {
        let beside = [
            usage.cache_read_input_tokens,
            usage.cache_creation_input_tokens,
        ];
        let add = |input: u64| {
            beside
                .into_iter()
                .flatten()
                .fold(input, u64::saturating_add)
        };
        let input = usage.input_tokens.map(add);
        let completion = usage.completion_tokens.or(usage.output_tokens);
        let all = usage.total_tokens.filter(|_| completion.is_none());
        let prompt = usage.prompt_tokens.or(input).or(all);
        let details = usage.prompt_tokens_details.or(usage.input_tokens_details);
        Self {
            prompt: prompt.unwrap_or(0),
            completion: completion.unwrap_or(0),
            cached: details
                .and_then(|details| details.cached_tokens)
                .or(usage.cache_read_input_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::Value;

    use super::{EventFacts, decode_event, decode_response, encode_request};
    use crate::{call::Operation, decode::decode, provider::Tokens};

    async fn check(body: &'static str, model: &str, expected: &str) {
        let body = http_body_util::Full::new(Bytes::from_static(body.as_bytes()));
        let decoded = decode(Operation::Chat, body, 1 << 20).await.unwrap();
        let encoded = encode_request(&decoded, model);
        assert_eq!(
            encoded,
            expected.as_bytes(),
            "{}",
            String::from_utf8_lossy(&encoded)
        );
        serde_json::from_slice::<Value>(&encoded).unwrap();
    }

    #[tokio::test]
    async fn a_body_changes_only_where_it_must() {
        check(
            r#"{"x" : 1.50,"model":"a"}"#,
            "a",
            r#"{"x" : 1.50,"model":"a"}"#,
        )
        .await;
        check(
            r#"{"x" : 1.50, "model": "a" ,"z":"ü"}"#,
            "b\"",
            r#"{"x" : 1.50, "model": "b\"" ,"z":"ü"}"#,
        )
        .await;
        let usage = r#""stream_options":{"include_usage":true}"#;
        check(
            r#" {"model":"a","stream":true}"#,
            "longer",
            &format!(r#" {{{usage},"model":"longer","stream":true}}"#),
        )
        .await;
        check(
            r#"{"stream_options":null,"model":"a","stream":true}"#,
            "a",
            &format!(r#"{{{usage},"model":"a","stream":true}}"#),
        )
        .await;
        check(
            r#"{"stream_options":{"x":[1]},"model":"a","stream":true}"#,
            "a",
            r#"{"stream_options":{"x":[1],"include_usage":true},"model":"a","stream":true}"#,
        )
        .await;
        check(
            r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
            "a",
            r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
        )
        .await;
    }

    #[test]
    fn usage_is_found_in_answers() {
        let tokens = Tokens {
            prompt: 3,
            completion: 4,
            cached: None,
        };
        assert_eq!(
            decode_response(br#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#),
            Some(tokens)
        );
        let embedding = Tokens {
            prompt: 3,
            completion: 0,
            cached: None,
        };
        assert_eq!(
            decode_response(br#"{"usage":{"prompt_tokens":3}}"#),
            Some(embedding)
        );
        let jina = br#"{"results":[],"usage":{"total_tokens":3}}"#;
        assert_eq!(decode_response(jina), Some(embedding));
        let cohere =
            br#"{"results":[],"meta":{"billed_units":{"search_units":1,"input_tokens":3}}}"#;
        assert_eq!(decode_response(cohere), Some(embedding));
        let image = br#"{"data":[],"usage":{"total_tokens":7,"input_tokens":3,"output_tokens":4,"input_tokens_details":{"text_tokens":3,"image_tokens":0}}}"#;
        assert_eq!(decode_response(image), Some(tokens));
        assert_eq!(decode_response(br#"{"usage":null}"#), None);
        assert_eq!(decode_response(b"<html>"), None);
    }

    #[track_caller]
    fn check_event(operation: Operation, data: &str, expected: EventFacts) {
        assert_eq!(decode_event(data.as_bytes(), operation), expected, "{data}");
    }

    const NOTHING: EventFacts = EventFacts {
        is_done: false,
        may_end: false,
        is_piece: false,
        is_usage_only: false,
        is_error: false,
        tokens: None,
    };
    const PIECE: EventFacts = EventFacts {
        is_piece: true,
        ..NOTHING
    };
    const DONE: EventFacts = EventFacts {
        is_done: true,
        ..NOTHING
    };
    const ERROR: EventFacts = EventFacts {
        is_error: true,
        ..NOTHING
    };

    const fn tokens(prompt: u64, completion: u64, cached: Option<u64>) -> Option<Tokens> {
        Some(Tokens {
            prompt,
            completion,
            cached,
        })
    }

    #[test]
    fn events_of_chats_say_when_they_end_fail_or_count() {
        let check = |data: &str, expected| check_event(Operation::Chat, data, expected);
        check("[DONE]", DONE);
        check(r#"{"choices":[{"delta":{"content":"x"}}]}"#, PIECE);
        check(
            r#"{"choices":[{"delta":{"content":"\"usage\""}}],"usage":null}"#,
            PIECE,
        );
        let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2}"#;
        let counted = EventFacts {
            tokens: tokens(1, 2, None),
            ..NOTHING
        };
        let only = EventFacts {
            is_usage_only: true,
            ..counted
        };
        check(&format!(r#"{{"choices":[],{usage}}}"#), only);
        let piece = EventFacts {
            is_piece: true,
            ..counted
        };
        check(&format!(r#"{{"choices":[{{}}],{usage}}}"#), piece);
        check(r#"{"error":{"message":"x"}}"#, ERROR);
    }

    #[test]
    fn events_of_messages_say_when_they_end_fail_or_count() {
        let check = |data: &str, expected| check_event(Operation::Message, data, expected);
        let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#;
        let counted = |tokens| EventFacts { tokens, ..NOTHING };
        check(start, counted(tokens(7, 1, Some(4))));
        check(
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}"#,
            PIECE,
        );
        check(r#"{"type":"ping"}"#, NOTHING);
        check(
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
            counted(tokens(0, 9, None)),
        );
        check(r#"{"type":"message_stop"}"#, DONE);
        check(
            r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#,
            ERROR,
        );
    }

    #[test]
    fn events_of_images_and_sounds_say_when_they_may_end_and_count() {
        let usage = r#""usage":{"input_tokens":5,"output_tokens":6}"#;
        let end = EventFacts {
            may_end: true,
            tokens: tokens(5, 6, None),
            ..NOTHING
        };
        for (operation, piece, done) in [
            (
                Operation::ImageGeneration,
                "image_generation.partial_image",
                "image_generation.completed",
            ),
            (
                Operation::ImageEdit,
                "image_edit.partial_image",
                "image_edit.completed",
            ),
            (Operation::Speech, "speech.audio.delta", "speech.audio.done"),
            (
                Operation::Transcription,
                "transcript.text.delta",
                "transcript.text.done",
            ),
        ] {
            let is_piece = piece.ends_with("delta");
            let data = format!(r#"{{"type":"{piece}"}}"#);
            let expected = EventFacts {
                is_piece,
                ..NOTHING
            };
            check_event(operation, &data, expected);
            let data = format!(r#"{{"type":"{done}",{usage}}}"#);
            check_event(operation, &data, end);
        }
        let vllm = r#"{"object":"transcription.chunk","choices":[{"delta":{"content":"x"}}]}"#;
        check_event(Operation::Transcription, vllm, PIECE);
    }

    #[test]
    fn events_of_responses_say_when_they_end_fail_or_count() {
        let check = |data: &str, expected| check_event(Operation::Response, data, expected);
        check(
            r#"{"type":"response.created","response":{"usage":null,"error":null}}"#,
            NOTHING,
        );
        check(
            r#"{"type":"response.output_text.delta","delta":"x"}"#,
            PIECE,
        );
        let usage =
            r#"{"input_tokens":5,"input_tokens_details":{"cached_tokens":2},"output_tokens":6}"#;
        let done = EventFacts {
            tokens: tokens(5, 6, Some(2)),
            ..DONE
        };
        for end in ["completed", "incomplete", "failed"] {
            let data = format!(r#"{{"type":"response.{end}","response":{{"usage":{usage}}}}}"#);
            check(&data, done);
        }
        check(r#"{"type":"error","code":"x","message":"y"}"#, ERROR);
    }
}
