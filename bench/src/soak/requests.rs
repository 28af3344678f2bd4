//! The mix of requests: what to ask and what must come of it.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

const WORDS: [&str; 12] = [
    "river", "stone", "apple", "quiet", "house", "engine", "paper", "winter", "garden", "light",
    "größe", "水",
];
const LONG_WORDS: usize = 500;
/// More than the model's longest context.
const ENDLESS_WORDS: usize = 20_000;
const NESTED: usize = 10_000;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Short,
    Whole,
    Long,
    Cancelled,
    Invalid,
    Grammar,
    Several,
    Priority,
    Logprobs,
}

/// Each kind as often as it stands here.
const MIX: [Kind; 20] = [
    Kind::Short,
    Kind::Short,
    Kind::Short,
    Kind::Short,
    Kind::Whole,
    Kind::Whole,
    Kind::Long,
    Kind::Long,
    Kind::Cancelled,
    Kind::Cancelled,
    Kind::Cancelled,
    Kind::Invalid,
    Kind::Invalid,
    Kind::Invalid,
    Kind::Grammar,
    Kind::Grammar,
    Kind::Several,
    Kind::Several,
    Kind::Priority,
    Kind::Logprobs,
];

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Short => "short, streamed",
            Self::Whole => "short, in one piece",
            Self::Long => "long prompts",
            Self::Cancelled => "cancelled",
            Self::Invalid => "invalid",
            Self::Grammar => "with a JSON schema",
            Self::Several => "n = 2",
            Self::Priority => "with a priority",
            Self::Logprobs => "with log probabilities",
        }
    }
}

/// What must come of a request, apart from a refusal because of a full queue.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    /// Events, with so many answers of at most so many tokens each.
    Streamed { answers: u64, tokens_max: u64 },
    /// One JSON body of the same.
    Whole { answers: u64, tokens_max: u64 },
    /// Nothing: the client goes away after so many pieces.
    GoneAfter { pieces: usize },
    /// An error in OpenAI's shape.
    Error,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) path: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) expected: Expected,
}

/// The next request of the mix.
pub(super) fn draw(random: &mut StdRng) -> Request {
    let kind = MIX.choose(random).copied().unwrap_or(Kind::Short);
    let tokens_max = random.random_range(1..=48);
    let streamed = Expected::Streamed {
        answers: 1,
        tokens_max,
    };
    let mut body = json!({
        "model": "bench", "messages": [{"role": "user", "content": words(random, 12)}],
        "max_tokens": tokens_max, "stream": true, "stream_options": {"include_usage": true},
        "temperature": random.random_range(0.0..1.5), "seed": random.random_range(0..1000),
    });
    let expected = match kind {
        Kind::Invalid => return invalid(random),
        Kind::Short => streamed,
        Kind::Whole => {
            set(&mut body, "stream", false);
            set(&mut body, "stream_options", Value::Null);
            Expected::Whole {
                answers: 1,
                tokens_max,
            }
        }
        Kind::Long => {
            let length = random.random_range(100..LONG_WORDS);
            let text = words(random, length);
            set(
                &mut body,
                "messages",
                json!([{"role": "user", "content": text}]),
            );
            streamed
        }
        Kind::Cancelled => {
            set(&mut body, "max_tokens", 200);
            set(&mut body, "ignore_eos", true);
            Expected::GoneAfter {
                pieces: random.random_range(0..8),
            }
        }
        Kind::Grammar => {
            set(&mut body, "max_tokens", 96);
            set(&mut body, "response_format", schema());
            Expected::Streamed {
                answers: 1,
                tokens_max: 96,
            }
        }
        Kind::Several => {
            set(&mut body, "n", 2);
            Expected::Streamed {
                answers: 2,
                tokens_max,
            }
        }
        Kind::Priority => {
            set(&mut body, "priority", random.random_range(-2..=2));
            streamed
        }
        Kind::Logprobs => {
            set(&mut body, "logprobs", true);
            set(&mut body, "top_logprobs", 3);
            streamed
        }
    };
    Request {
        kind,
        path: "/v1/chat/completions",
        body: body.to_string().into_bytes(),
        expected,
    }
}

fn set(body: &mut Value, name: &str, value: impl Into<Value>) {
    body[name] = value.into();
}

fn words(random: &mut StdRng, count: usize) -> String {
    let words = (0..count).map(|_| *WORDS.choose(random).unwrap_or(&"word"));
    format!("Tell me about {}.", words.collect::<Vec<_>>().join(" "))
}

/// A schema whose every answer is short.
fn schema() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "report", "strict": true, "schema": {
        "type": "object", "additionalProperties": false, "required": ["place", "warm", "degrees"],
        "properties": {
            "place": {"enum": ["river", "house", "garden"]},
            "warm": {"type": "boolean"},
            "degrees": {"type": "integer", "minimum": -50, "maximum": 50},
        },
    }}})
}

/// Whether a text is what the schema asks for.
pub(super) fn satisfies_schema(text: &str) -> bool {
    let Ok(Value::Object(report)) = serde_json::from_str(text) else {
        return false;
    };
    let place = report.get("place").and_then(Value::as_str);
    // `-0` is a whole number, too, in JSON.
    let degrees = report.get("degrees").and_then(Value::as_f64);
    report.len() == 3
        && place.is_some_and(|place| ["river", "house", "garden"].contains(&place))
        && report.get("warm").is_some_and(Value::is_boolean)
        && degrees.is_some_and(|degrees| degrees.fract() == 0.0 && degrees.abs() <= 50.0)
}

fn invalid(random: &mut StdRng) -> Request {
    let hello = json!([{"role": "user", "content": "Hello."}]);
    let chat = |field: &str, value: Value| {
        let mut body = json!({"model": "bench", "messages": hello, "max_tokens": 4});
        body[field] = value;
        body.to_string().into_bytes()
    };
    let body = match random.random_range(0..10) {
        0 => b"{\"model\": \"bench\", \"messages\": [".to_vec(),
        1 => b"{\"model\": \"bench\", \"messages\": \"\xff\xfe\"}".to_vec(),
        2 => chat("model", json!("another")),
        3 => chat("temperature", json!(9)),
        4 => chat("n", json!(0)),
        5 => chat("messages", json!([])),
        6 => chat(
            "messages",
            json!([{"role": "user", "content": words(random, ENDLESS_WORDS)}]),
        ),
        7 => ["[".repeat(NESTED), "]".repeat(NESTED)]
            .concat()
            .into_bytes(),
        8 => chat("logit_bias", json!({"1": 1000})),
        _ => chat(
            "response_format",
            json!({"type": "json_schema", "json_schema": 7}),
        ),
    };
    Request {
        kind: Kind::Invalid,
        path: "/v1/chat/completions",
        body,
        expected: Expected::Error,
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::{Kind, MIX, draw, satisfies_schema};

    #[test]
    fn every_kind_is_drawn() {
        let mut random = StdRng::seed_from_u64(1);
        let mut drawn: Vec<Kind> = (0..500).map(|_| draw(&mut random).kind).collect();
        let mut mix = MIX.to_vec();
        for kinds in [&mut drawn, &mut mix] {
            kinds.sort();
            kinds.dedup();
        }
        assert_eq!(drawn, mix);
    }

    #[test]
    fn the_schema_is_checked_in_every_field() {
        for degrees in ["-7", "-0", "50"] {
            let text = format!(r#"{{"place":"river","warm":true,"degrees":{degrees}}}"#);
            assert!(satisfies_schema(&text), "{text}");
        }
        for text in [
            r#"{"place":"moon","warm":true,"degrees":-7}"#,
            r#"{"place":"river","warm":1,"degrees":-7}"#,
            r#"{"place":"river","warm":true,"degrees":51}"#,
            r#"{"place":"river","warm":true,"degrees":1.5}"#,
            r#"{"place":"river","warm":true}"#,
            r#"{"place":"river","warm":true,"degrees":1,"more":1}"#,
            "river",
        ] {
            assert!(!satisfies_schema(text), "{text}");
        }
    }
}
