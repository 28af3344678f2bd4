//! Whatever an upstream does wrong ends in another try, another target or an honest error, and nothing stays behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use protocol::{
    provider::Api,
    snapshot::{Action, Guard, GuardRule, Limit, Mode, Per, Phases, RouteEntry, Target, Timeouts},
};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;

use super::{
    harness::{Harness, chat, key, route, target},
    raw::{RawUpstream, Reply, STREAM_HEAD, answer, chunk, stream, whole},
};

const CHAT: &str = "/v1/chat/completions";

/// A route with room for one request at once: a place that is not given back is seen by the next request.
fn narrow(model: &str, targets: Vec<Target>) -> RouteEntry {
    let limit = Limit {
        name: "one".to_owned(),
        per: Per::Route,
        requests: None,
        tokens: None,
        concurrency: Some(1),
        mode: Mode::Enforce,
    };
    RouteEntry {
        limits: vec![limit],
        timeouts: Timeouts {
            first_byte_millis: 100,
            stream_idle_millis: 100,
            ..Timeouts::default()
        },
        ..route(model, targets)
    }
}

/// What a client got of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    words: String,
    is_done: bool,
    /// The code of the error event.
    error: Option<String>,
}

async fn read_stream(harness: &Harness, model: &str) -> Seen {
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat(model, true)).await;
    let mut seen = Seen {
        words: String::new(),
        is_done: false,
        error: None,
    };
    while let Some(data) = stream.next().await {
        if data == "[DONE]" {
            seen.is_done = true;
            continue;
        }
        assert!(!seen.is_done && seen.error.is_none(), "{data} comes late");
        let event: Value = serde_json::from_str(&data).unwrap();
        if event["error"].is_object() {
            let code = event["error"]["code"].as_str().unwrap_or_default();
            seen.error = Some(code.to_owned());
        }
        let word = event["choices"][0]["delta"]["content"].as_str();
        seen.words.push_str(word.unwrap_or_default());
    }
    seen
}

/// Replies of a bad upstream, and whether a spare one answers in its place when a whole answer is asked for.
fn faults() -> Vec<(&'static str, Reply, bool)> {
    let json = "application/json";
    let error = r#"{"error":{"message":"x","type":"server_error"}}"#;
    let busy = r#"{"error":{"message":"x","code":"rate_limit_exceeded"}}"#;
    let huge = format!("x-huge: {}\r\n", "x".repeat(1 << 20));
    let long = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"choices\":[]}";
    let short = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"choices\":[]}";
    let unchunked = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n";
    let bytes = |bytes: &[u8]| Reply::Bytes(bytes.to_vec());
    vec![
        ("nothing", bytes(b""), true),
        ("garbage", bytes(b"\0\x01SSH-2.0 hello\r\n\r\n"), true),
        ("half a head", bytes(b"HTTP/1.1 200 OK\r\ncontent-"), true),
        ("a reset", Reply::Reset(Vec::new()), true),
        ("silence", Reply::Stall(Vec::new()), true),
        (
            "silence after the head",
            Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec()),
            true,
        ),
        ("an error", bytes(&answer("500 Oh", "", json, error)), true),
        (
            "a page",
            bytes(&answer("200 OK", "", json, "<html></html>")),
            true,
        ),
        ("a limit", bytes(&answer("429 No", "", json, busy)), true),
        (
            "a limit with its end",
            bytes(&answer("429 No", "retry-after: 9\r\n", json, busy)),
            true,
        ),
        (
            "a huge header",
            bytes(&answer("200 OK", &huge, json, "{}")),
            true,
        ),
        ("too long a length", bytes(long.as_bytes()), true),
        ("too short a length", bytes(short.as_bytes()), true),
        ("bad chunks", bytes(unchunked.as_bytes()), true),
        ("a slow drip", Reply::Drip(whole("own")), false),
    ]
}

#[tokio::test]
async fn a_spare_answers_whatever_the_first_upstream_does_wrong() {
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    for (place, (name, reply, is_spared)) in faults().into_iter().enumerate() {
        let bad = RawUpstream::start(vec![reply]).await;
        let model = format!("m{place}");
        let targets = vec![bad.target("own"), target("spare", "m", &[&spare])];
        harness.apply(vec![narrow(&model, targets)], vec![key("a")]);
        for streams in [false, true] {
            let asked = bad.asked();
            let answer = harness
                .post(CHAT, Some("qd-a"), &chat(&model, streams))
                .await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text_body());
            let text = answer.text_body();
            let expected = if is_spared { "spare" } else { "own" };
            assert!(text.contains(expected), "{name}: {text}");
            if !streams {
                assert_eq!(bad.asked(), asked + 1, "{name}");
            }
            harness.at_rest().await;
        }
    }
}

#[tokio::test]
async fn alone_every_fault_becomes_an_error_in_the_apis_shape() {
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    for (place, (name, reply, is_fault)) in faults().into_iter().enumerate() {
        let bad = RawUpstream::start(vec![reply]).await;
        let model = format!("m{place}");
        let targets = vec![bad.target("own")];
        harness.apply(vec![narrow(&model, targets)], vec![key("a")]);
        let answer = harness.post(CHAT, Some("qd-a"), &chat(&model, false)).await;
        if is_fault {
            assert!((429..=504).contains(&answer.status), "{name}");
            assert!(answer.json()["error"]["message"].is_string(), "{name}");
        } else {
            assert_eq!(answer.text(), "own", "{name}");
        }
        harness.at_rest().await;
    }
}

/// Cuts a stream after each of its bytes.
async fn cut_everywhere(cut: impl Fn(Vec<u8>) -> Reply, is_exact: bool) {
    let whole = stream(&["one ", "two"]);
    let token_ends = [b"one \"}}]}\n\n".as_slice(), b"two\"}}]}\n\n"].map(|end| {
        let found = whole.windows(end.len()).position(|window| window == end);
        found.unwrap() + end.len()
    });
    let done = b"data: [DONE]\n\n";
    let done = whole.windows(done.len()).position(|window| window == done);
    let done = done.unwrap() + b"data: [DONE]\n\n".len();
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    for length in 0..whole.len() {
        let bad = RawUpstream::start(vec![cut(whole[..length].to_vec())]).await;
        let model = format!("m{length}");
        let targets = vec![bad.target("own"), target("spare", "m", &[&spare])];
        harness.apply(vec![narrow(&model, targets)], vec![key("a")]);
        let seen = read_stream(&harness, &model).await;
        let words = match token_ends.iter().filter(|end| **end <= length).count() {
            0 => "spare",
            1 => "one ",
            _ => "one two",
        };
        let is_done = length < token_ends[0] || done <= length;
        let error = (!is_done).then(|| "upstream_error".to_owned());
        let expected = Seen {
            words: words.to_owned(),
            is_done,
            error,
        };
        if is_exact {
            assert_eq!(seen, expected, "cut after {length} bytes");
        } else {
            // A reset may overtake bytes that were sent before it.
            let is_honest = seen.is_done != seen.error.is_some();
            let is_known = seen.words == "spare" || "one two".starts_with(&seen.words);
            assert!(
                is_honest && is_known,
                "reset after {length} bytes: {seen:?}"
            );
        }
        harness.at_rest().await;
    }
}

#[tokio::test]
async fn a_stream_that_ends_at_any_byte_is_asked_for_elsewhere_or_told_to_be_broken() {
    cut_everywhere(Reply::Bytes, true).await;
}

#[tokio::test]
async fn a_stream_that_is_reset_at_any_byte_is_asked_for_elsewhere_or_told_to_be_broken() {
    cut_everywhere(Reply::Reset, false).await;
}

/// What clients get of a stream that ends after each of its bytes, while a spare is there: it has an end or an error.
async fn read_every_end(
    whole: &[u8],
    path: &str,
    route_to: impl Fn(&str, Vec<Target>) -> RouteEntry,
    marks: [&str; 2],
    check: impl Fn(&str),
) {
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    for length in 0..whole.len() {
        let bad = RawUpstream::start(vec![Reply::Bytes(whole[..length].to_vec())]).await;
        let model = format!("m{length}");
        let targets = [bad.target("own"), target("spare", "m", &[&spare])];
        let targets = targets.map(|target| Target {
            apis: vec![Api::Chat],
            ..target
        });
        let targets = targets.to_vec();
        harness.apply(vec![route_to(&model, targets)], vec![key("a")]);
        let body = json!({"model": model, "stream": true, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
        let answer = harness.post(path, Some("qd-a"), &body.to_string()).await;
        let text = answer.text_body();
        let is_ended = marks.map(|mark| text.contains(mark));
        assert!(
            is_ended[0] != is_ended[1],
            "cut after {length} bytes: {text}"
        );
        check(&text);
        harness.at_rest().await;
    }
}

#[tokio::test]
async fn a_masked_stream_that_ends_at_any_byte_tells_nothing_of_what_is_masked() {
    let mask = Guard {
        name: "mask".to_owned(),
        on: Phases::Answers,
        action: Action::Mask,
        mode: Mode::Enforce,
        rule: GuardRule::Pii { kinds: Vec::new() },
    };
    let masked = |model: &str, targets| RouteEntry {
        guards: vec![mask.clone()],
        ..narrow(model, targets)
    };
    let whole = stream(&["mail eve@b.exam", "ple.org", " now"]);
    let marks = ["[DONE]", "\"error\""];
    read_every_end(&whole, CHAT, masked, marks, |text| {
        assert!(!text.contains("eve") && !text.contains("ple.org"), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_translated_stream_that_ends_at_any_byte_has_an_end_or_an_error() {
    let whole = stream(&["one ", "two"]);
    let marks = ["message_stop", "\"error\""];
    read_every_end(&whole, "/v1/messages", narrow, marks, |text| {
        let is_own = text.contains("\"one \"");
        assert!(is_own != text.contains("\"spare\""), "{text}");
    })
    .await;
}

#[tokio::test]
async fn what_goes_wrong_after_the_first_token_is_told_in_the_stream() {
    let token = chunk("data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n");
    let head = format!("{STREAM_HEAD}{token}");
    let reply = |tail: &str| format!("{head}{tail}").into_bytes();
    let own = chunk("data: {\"error\":{\"message\":\"own words\",\"code\":\"own\"}}\n\n");
    let harness = Harness::start(Vec::new(), vec![key("a")]).await;
    for (place, (reply, code)) in [
        (Reply::Stall(reply("")), "timeout"),
        (Reply::Bytes(reply("zz\r\nbad\r\n")), "upstream_error"),
        (Reply::Bytes(reply(&format!("{own}0\r\n\r\n"))), "own"),
        (Reply::Bytes(reply("0\r\n\r\n")), "upstream_error"),
    ]
    .into_iter()
    .enumerate()
    {
        let bad = RawUpstream::start(vec![reply]).await;
        let model = format!("m{place}");
        harness.apply(
            vec![narrow(&model, vec![bad.target("own")])],
            vec![key("a")],
        );
        let seen = read_stream(&harness, &model).await;
        let expected = Seen {
            words: "one".to_owned(),
            is_done: false,
            error: Some(code.to_owned()),
        };
        assert_eq!((seen, bad.asked()), (expected, 1));
        harness.at_rest().await;
    }
}

#[tokio::test]
async fn a_slow_drip_is_a_stream_like_any_other() {
    let slow = RawUpstream::start(vec![Reply::Drip(stream(&["one ", "two"]))]).await;
    let route = narrow("m", vec![slow.target("own")]);
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let seen = read_stream(&harness, "m").await;
    let expected = Seen {
        words: "one two".to_owned(),
        is_done: true,
        error: None,
    };
    assert_eq!(seen, expected);
    harness.at_rest().await;
}

/// Bytes that may be on their way to a client that does not read: what the system's sockets hold, and little of ours.
const ON_THEIR_WAY_MAX: usize = 24 << 20;

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_upstream() {
    let event = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(64 << 10)
    );
    let (times, sent) = (2048, Arc::new(AtomicUsize::new(0)));
    let flood = Reply::Flood {
        chunk: chunk(&event).into_bytes(),
        times,
        sent: Arc::clone(&sent),
    };
    let upstream = RawUpstream::start(vec![flood]).await;
    let route = RouteEntry {
        timeouts: Timeouts::default(),
        ..narrow("m", vec![upstream.target("own")])
    };
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    // Until nothing has left for a while.
    let mut before = usize::MAX;
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while before != sent.load(Ordering::SeqCst) || before == 0 {
        before = sent.load(Ordering::SeqCst);
        ticks.tick().await;
        ticks.tick().await;
    }
    assert!(
        before < ON_THEIR_WAY_MAX,
        "{before} bytes of {}",
        times * event.len()
    );
    let mut events = 0;
    while let Some(data) = stream.next().await {
        events += usize::from(data.contains("choices"));
    }
    assert_eq!(events, times);
    harness.at_rest().await;
}
