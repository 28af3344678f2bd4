//! What clients ask and the fake upstream answers, word for word.

use std::{sync::LazyLock, time::Duration};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::chunk;

/// The model's name, of the clients and of the upstream.
pub(super) const MODEL: &str = "bench";
/// The clients' key.
pub(crate) const KEY: &str = "sk-bench-3f9c2b7d5a1e4860";

/// Events of a stream that carry a choice: the last one ends it without content.
const EVENTS: usize = 35;
/// The content of an event; it occurs in no other text.
const TOKEN: &str = " steady";
const ANSWER: &str = "Steady as she goes.";
const LARGE_BODY_BYTES: usize = 64 << 10;
const PACED_INTERVAL: Duration = Duration::from_millis(1);
const DRIP_INTERVAL: Duration = Duration::from_secs(1);
/// How far from its ends a body is searched for the fields that matter: only the messages in the middle are long.
const MARGIN_BYTES: usize = 1024;

/// What a client asks for, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
pub(super) enum Work {
    /// A chat of two short messages
    Small,
    /// A chat of 64 kB
    Large,
    /// 35 events as fast as they can be written
    Stream,
    /// 35 events, one a millisecond
    Paced,
    /// An event a second without an end
    #[value(skip)]
    Drip,
}

impl Work {
    /// The request, head and body.
    pub(super) fn request(self) -> Vec<u8> {
        let body = self.body();
        let length = body.len();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\naccept: */*\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// Whether an answer is right.
    pub(super) fn check(self, body: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(body);
        let is_right = match self {
            Self::Small | Self::Large => text.contains(ANSWER) && text.contains("total_tokens"),
            Self::Stream | Self::Paced => {
                text.matches(TOKEN).count() == EVENTS - 1 && text.contains("data: [DONE]")
            }
            Self::Drip => false,
        };
        let beginning: String = text.chars().take(300).collect();
        ensure!(is_right, "a wrong answer to {self:?}: {beginning}");
        Ok(())
    }

    fn body(self) -> String {
        let chat = |content: &str| {
            let messages = json!([
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": content},
            ]);
            json!({"model": MODEL, "messages": messages, "max_tokens": 64, "temperature": 0.7})
        };
        let mut body = chat("Say which way the wind blows today.");
        let pace = match self {
            Self::Small => return body.to_string(),
            Self::Large => {
                let words = "the river runs past the quiet house and \u{201c}on\u{201d}\n";
                let mut content = words.repeat(LARGE_BODY_BYTES / words.len() + 1);
                let excess = chat(&content).to_string().len() - LARGE_BODY_BYTES;
                let kept = content.floor_char_boundary(content.len().saturating_sub(excess));
                content.truncate(kept);
                return chat(&content).to_string();
            }
            Self::Stream => "fast",
            Self::Paced => "paced",
            Self::Drip => "drip",
        };
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        body["user"] = json!(pace);
        body.to_string()
    }
}

/// Whether something begins to be streamed: one event's content.
pub(super) fn has_content(body: &[u8]) -> bool {
    body.windows(TOKEN.len())
        .any(|window| window == TOKEN.as_bytes())
}

/// What the upstream sends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    /// An answer in one piece.
    Whole(&'static str),
    /// Events, with so much time between them; without an end if it is endless.
    Events {
        interval: Option<Duration>,
        is_endless: bool,
    },
}

impl Reply {
    /// The upstream's reply to a request.
    pub(super) fn to(path: &str, body: &[u8]) -> Self {
        match path {
            "/v1/chat/completions" => Self::to_chat(body),
            "/v1/models" => Self::Whole(&MODELS),
            "/health" | "/health_generate" => Self::Whole(&HEALTH),
            "/get_model_info" | "/model_info" | "/get_server_info" | "/server_info" => {
                Self::Whole(&INFO)
            }
            _ => Self::Whole(&NOTHING),
        }
    }

    fn to_chat(body: &[u8]) -> Self {
        let head = &body[..MARGIN_BYTES.min(body.len())];
        let tail = &body[body.len().saturating_sub(MARGIN_BYTES)..];
        let has = |text: &str| {
            let is_in = |part: &[u8]| part.windows(text.len()).any(|w| w == text.as_bytes());
            is_in(head) || is_in(tail)
        };
        if !has("\"stream\":true") && !has("\"stream\": true") {
            return Self::Whole(&CHAT);
        }
        let (is_paced, is_endless) = (has("\"paced\""), has("\"drip\""));
        let interval = match (is_paced, is_endless) {
            (true, _) => Some(PACED_INTERVAL),
            (_, true) => Some(DRIP_INTERVAL),
            _ => None,
        };
        Self::Events {
            interval,
            is_endless,
        }
    }
}

/// The head of a stream.
pub(super) const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
     cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

/// A stream, event by event, each as a chunk; the last one ends the answer.
pub(super) static EVENT_CHUNKS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut chunks = vec![event(&json!({"role": "assistant", "content": TOKEN}), None)];
    chunks.resize(EVENTS - 1, event(&json!({"content": TOKEN}), None));
    chunks.push(event(&json!({}), Some("stop")));
    let usage =
        json!({"prompt_tokens": 24, "completion_tokens": EVENTS, "total_tokens": 24 + EVENTS});
    let usage = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": MODEL,
        "choices": [], "usage": usage,
    });
    chunks.push(chunk(&format!("data: {usage}\n\n")));
    chunks.push(chunk("data: [DONE]\n\n") + "0\r\n\r\n");
    chunks
});

static CHAT: LazyLock<String> = LazyLock::new(|| {
    let choice = json!({
        "index": 0, "message": {"role": "assistant", "content": ANSWER}, "logprobs": null, "finish_reason": "stop",
    });
    let answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": MODEL, "choices": [choice],
        "usage": {"prompt_tokens": 24, "completion_tokens": 5, "total_tokens": 29},
    });
    whole("200 OK", &answer.to_string())
});
static MODELS: LazyLock<String> = LazyLock::new(|| {
    let model =
        json!({"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "vllm"});
    whole(
        "200 OK",
        &json!({"object": "list", "data": [model]}).to_string(),
    )
});
static INFO: LazyLock<String> = LazyLock::new(|| {
    let info = json!({"model_path": MODEL, "served_model_name": MODEL, "is_generation": true});
    whole("200 OK", &info.to_string())
});
static HEALTH: LazyLock<String> = LazyLock::new(|| whole("200 OK", "{}"));
static NOTHING: LazyLock<String> =
    LazyLock::new(|| whole("404 Not Found", "{\"error\":{\"message\":\"not here\"}}"));

fn event(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
    let event = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": MODEL,
        "choices": [choice],
    });
    chunk(&format!("data: {event}\n\n"))
}

fn whole(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::{EVENT_CHUNKS, LARGE_BODY_BYTES, Reply, Work};

    #[test]
    fn bodies_have_the_sizes_that_the_table_names() {
        assert!((170..=210).contains(&Work::Small.body().len()));
        let large = Work::Large.body().len();
        assert!((LARGE_BODY_BYTES - 64..=LARGE_BODY_BYTES).contains(&large));
    }

    #[test]
    fn replies_are_right_by_their_own_check() {
        for work in [Work::Small, Work::Large] {
            let Reply::Whole(answer) = Reply::to("/v1/chat/completions", work.body().as_bytes())
            else {
                panic!("{work:?} is streamed");
            };
            work.check(answer.as_bytes()).unwrap();
            work.check(&answer.as_bytes()[..80]).unwrap_err();
        }
        let events = EVENT_CHUNKS.concat();
        for work in [Work::Stream, Work::Paced] {
            let reply = Reply::to("/v1/chat/completions", work.body().as_bytes());
            assert!(matches!(
                reply,
                Reply::Events {
                    is_endless: false,
                    ..
                }
            ));
            work.check(events.as_bytes()).unwrap();
            work.check(EVENT_CHUNKS[1..].concat().as_bytes())
                .unwrap_err();
        }
    }
}
