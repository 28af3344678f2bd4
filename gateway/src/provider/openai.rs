//! Upstreams that speak OpenAI's API: the body goes through but for the model's name and the wish for usage.

use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::Tokens;
use crate::decode::{Decoded, Edit, StreamOptions, splice};

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
    if fields.stream {
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
    let facts: Facts = serde_json::from_slice(body).ok()?;
    facts.usage.map(Into::into)
}

/// What one event of a stream says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EventFacts {
    /// The stream ends here.
    pub(crate) is_done: bool,
    /// It carries nothing but the usage.
    pub(crate) is_usage_only: bool,
    /// It carries an error in place of an answer.
    pub(crate) is_error: bool,
    /// What the request used, if the event says so.
    pub(crate) tokens: Option<Tokens>,
}

/// Reads an event's data; only events that can say something of interest are parsed.
pub(crate) fn decode_event(data: &[u8]) -> EventFacts {
    if data == b"[DONE]" {
        return EventFacts {
            is_done: true,
            ..EventFacts::default()
        };
    }
    if memmem::find(data, b"\"usage\"").is_none() && memmem::find(data, b"\"error\"").is_none() {
        return EventFacts::default();
    }
    let Ok(facts) = serde_json::from_slice::<Facts>(data) else {
        return EventFacts::default();
    };
    let tokens = facts.usage.map(Into::into);
    let has_choices = facts.choices.is_some_and(|choices| !choices.is_empty());
    EventFacts {
        is_done: false,
        is_usage_only: tokens.is_some() && !has_choices,
        is_error: facts.error.is_some(),
        tokens,
    }
}

/// The parts of answers and events that the gateway reads.
#[derive(Deserialize)]
struct Facts {
    #[serde(default)]
    usage: Option<RawUsage>,
    #[serde(default)]
    choices: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl From<RawUsage> for Tokens {
    fn from(usage: RawUsage) -> Self {
        Self {
            prompt: usage.prompt_tokens,
            completion: usage.completion_tokens,
            cached: usage
                .prompt_tokens_details
                .and_then(|details| details.cached_tokens),
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
        assert_eq!(decode_response(br#"{"usage":null}"#), None);
        assert_eq!(decode_response(b"<html>"), None);
    }

    #[track_caller]
    fn check_event(data: &str, expected: EventFacts) {
        assert_eq!(decode_event(data.as_bytes()), expected);
    }

    #[test]
    fn events_say_when_they_end_fail_or_count() {
        let nothing = EventFacts::default();
        let tokens = Some(Tokens {
            prompt: 1,
            completion: 2,
            cached: None,
        });
        check_event(
            "[DONE]",
            EventFacts {
                is_done: true,
                ..nothing
            },
        );
        check_event(r#"{"choices":[{"delta":{"content":"x"}}]}"#, nothing);
        check_event(
            r#"{"choices":[{"delta":{"content":"\"usage\""}}],"usage":null}"#,
            nothing,
        );
        let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2}"#;
        check_event(
            &format!(r#"{{"choices":[],{usage}}}"#),
            EventFacts {
                is_usage_only: true,
                tokens,
                ..nothing
            },
        );
        check_event(
            &format!(r#"{{"choices":[{{}}],{usage}}}"#),
            EventFacts { tokens, ..nothing },
        );
        check_event(
            r#"{"error":{"message":"x"}}"#,
            EventFacts {
                is_error: true,
                ..nothing
            },
        );
    }
}
