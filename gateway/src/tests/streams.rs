//! Streams: passed on as they come, counted, cancelled with the client, honest when they break.

use protocol::snapshot::{RouteEntry, Timeouts};
use serde_json::{Value, json};
use testkit::scripted_model::{Answer, Call, ScriptedModel};

use super::harness::{Harness, Stream, chat, completes, key, route, target};

async fn start(script: Answer) -> (Harness, ScriptedModel) {
    let model = ScriptedModel::start(vec![script]).await;
    let timeouts = Timeouts {
        stream_idle_millis: 100,
        ..Timeouts::default()
    };
    let route = RouteEntry {
        timeouts,
        ..route("m", vec![target("own", "m", &[&model])])
    };
    (Harness::start(vec![route], vec![key("a")]).await, model)
}

async fn ask(harness: &Harness, body: &str) -> Stream {
    harness
        .stream("/v1/chat/completions", Some("qd-a"), body)
        .await
}

#[tokio::test]
async fn usage_is_counted_and_shown_to_those_who_asked() {
    let (harness, model) = start("one two three".into()).await;
    completes(&mut ask(&harness, &chat("m", true)).await, "one two three").await;
    let body = json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "hi"}],
    });
    let mut stream = ask(&harness, &body.to_string()).await;
    let mut usage = Value::Null;
    while let Some(data) = stream.next().await {
        let event: Value = serde_json::from_str(&data).unwrap_or_default();
        if !event["usage"].is_null() {
            usage = event["usage"].clone();
        }
    }
    assert_eq!(usage["completion_tokens"], 3);
    for sent in model.requests() {
        assert_eq!(sent.json()["stream_options"]["include_usage"], true);
    }
    let row = || ("complete".to_owned(), 200, 1, 3);
    assert_eq!(harness.rows().await, [row(), row()]);
}

#[tokio::test]
async fn tool_calls_pass_as_they_are() {
    let call = Call {
        name: "read".to_owned(),
        arguments: json!({"path": "/x"}),
    };
    let (harness, _model) = start(Answer::Calls(vec![call])).await;
    let mut stream = ask(&harness, &chat("m", true)).await;
    let first: Value = serde_json::from_str(&stream.next().await.unwrap()).unwrap();
    assert_eq!(
        first["choices"][0]["delta"]["tool_calls"][0]["function"]["name"],
        "read"
    );
}

#[tokio::test]
async fn events_come_as_they_are_made() {
    let (harness, _model) = start(Answer::Stall {
        text: "one two three".to_owned(),
        events: 2,
    })
    .await;
    let mut stream = ask(&harness, &chat("m", true)).await;
    // Two events are here while the upstream is still silent about the third.
    assert!(stream.next().await.unwrap().contains("assistant"));
    assert!(stream.next().await.unwrap().contains("one"));
}

async fn check_break(script: Answer, code: &str, row: (String, u16, u64, u64)) {
    let (harness, _model) = start(script).await;
    let mut stream = ask(&harness, &chat("m", true)).await;
    let mut last = String::new();
    while let Some(data) = stream.next().await {
        last = data;
    }
    let event: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (
            event["error"]["code"].as_str(),
            event["error"]["type"].as_str()
        ),
        (Some(code), Some("server_error"))
    );
    assert_eq!(harness.rows().await, [row]);
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_an_error_event_and_counts_what_was_seen() {
    let text = || "one two three".to_owned();
    let failed = |status: u16, pieces: u64| ("failed".to_owned(), status, guessed(), pieces);
    check_break(
        Answer::Cut {
            text: text(),
            events: 2,
        },
        "upstream_error",
        failed(502, 2),
    )
    .await;
    check_break(
        Answer::Stall {
            text: text(),
            events: 3,
        },
        "timeout",
        failed(504, 3),
    )
    .await;
}

/// The prompt's tokens while the upstream has not counted them.
fn guessed() -> u64 {
    chat("m", true).len().div_ceil(4) as u64
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_upstream_and_is_accounted() {
    let model = ScriptedModel::start(vec![Answer::Stall {
        text: "one two three".to_owned(),
        events: 2,
    }])
    .await;
    let route = route("m", vec![target("own", "m", &[&model])]);
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let mut stream = ask(&harness, &chat("m", true)).await;
    stream.next().await.unwrap();
    stream.next().await.unwrap();
    drop(stream);
    model.abandoned(1).await;
    while harness.rows().await != [("cancelled".to_owned(), 499, guessed(), 2)] {
        tokio::task::yield_now().await;
    }
    let metrics = harness.get("/metrics", None).await.text_body();
    assert!(
        metrics.contains("gateway_requests_in_flight 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_cancels_the_upstream_too() {
    let model = ScriptedModel::start(vec![Answer::Hang]).await;
    let route = route("m", vec![target("own", "m", &[&model])]);
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let body = chat("m", false);
    let request = harness.post("/v1/chat/completions", Some("qd-a"), &body);
    let asked = async {
        while model.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = request => panic!("nobody answers"),
        () = asked => {}
    }
    model.abandoned(1).await;
    while harness.rows().await != [("cancelled".to_owned(), 499, 0, 0)] {
        tokio::task::yield_now().await;
    }
}
