//! Requests that wait: for their turn, and for a first replica; each is answered, or refused in time.

use std::{sync::Arc, time::Duration};

use protocol::{
    routing::{Fairness, Queue},
    snapshot::RouteEntry,
};
use serde_json::Value;
use testkit::scripted_model::{Answer, ScriptedModel};
use tokio::task::JoinSet;

use super::harness::{Harness, chat, completes, key, route, target};

const CHAT: &str = "/v1/chat/completions";

fn queued(length: u32, timeout_millis: u64, model: &ScriptedModel) -> RouteEntry {
    RouteEntry {
        queue: Some(Queue {
            concurrency: 1,
            length,
            timeout_millis,
            fairness: Fairness::Key,
            priority_header: None,
        }),
        ..route("m", vec![target("own", "m", &[model])])
    }
}

fn cold(cold_start_millis: u64, models: &[&ScriptedModel]) -> RouteEntry {
    RouteEntry {
        cold_start_millis: Some(cold_start_millis),
        ..route("m", vec![target("own", "m", models)])
    }
}

/// A first answer that goes on for ever, and then quick ones.
async fn stalling() -> ScriptedModel {
    let stall = Answer::Stall {
        text: "first".to_owned(),
        events: 2,
    };
    ScriptedModel::start(vec![stall, "one two".into()]).await
}

/// Waits until so many requests wait at the route.
async fn waiting(harness: &Harness, wait: &str, count: usize) {
    let line = format!("gateway_requests_waiting{{route=\"ns/m\",wait=\"{wait}\"}} {count}");
    let seen = async {
        while !harness.gateway.render_metrics().contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, seen).await.unwrap();
}

#[tokio::test]
async fn a_request_over_the_concurrency_waits_for_its_turn() {
    let model = stalling().await;
    let entry = queued(9, 60_000, &model);
    let harness = Arc::new(Harness::start(vec![entry], vec![key("a")]).await);
    let first = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    let mut clients = JoinSet::new();
    for _ in 0..3 {
        let harness = Arc::clone(&harness);
        clients.spawn(async move {
            let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
            answer.text()
        });
    }
    waiting(&harness, "turn", 3).await;
    assert_eq!(model.requests().len(), 1);
    drop(first);
    while let Some(text) = clients.join_next().await {
        assert_eq!(text.unwrap(), "one two");
    }
    waiting(&harness, "turn", 0).await;
    harness.at_rest().await;
}

#[tokio::test]
async fn a_stream_that_waits_is_kept_alive_and_then_answered() {
    let model = stalling().await;
    let harness = Harness::start(vec![queued(9, 60_000, &model)], vec![key("a")]).await;
    let first = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    // Its head comes while it waits: with the first comment.
    let mut second = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    assert_eq!(model.requests().len(), 1);
    drop(first);
    completes(&mut second, "one two").await;
    harness.at_rest().await;
}

#[tokio::test]
async fn a_turn_that_does_not_come_in_time_is_refused() {
    let model = stalling().await;
    let harness = Harness::start(vec![queued(1, 10, &model)], vec![key("a")]).await;
    let first = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.fault(), (429, "rate_limit_exceeded".to_owned()));
    assert_eq!(answer.header("retry-after"), "1");
    drop(first);
    harness.at_rest().await;
}

#[tokio::test]
async fn a_stream_that_waits_in_vain_is_told_so_in_an_event() {
    let model = stalling().await;
    let harness = Harness::start(vec![queued(1, 100, &model)], vec![key("a")]).await;
    let first = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    let mut second = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    let event: Value = serde_json::from_str(&second.next().await.unwrap()).unwrap();
    assert_eq!(event["error"]["code"], "rate_limit_exceeded");
    assert_eq!(second.next().await, None);
    drop(first);
    harness.at_rest().await;
}

#[tokio::test]
async fn who_goes_away_leaves_the_queue() {
    let model = stalling().await;
    let harness = Harness::start(vec![queued(1, 60_000, &model)], vec![key("a")]).await;
    let first = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    let second = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    waiting(&harness, "turn", 1).await;
    let full = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(full.status, 429);
    drop(second);
    waiting(&harness, "turn", 0).await;
    drop(first);
    harness.at_rest().await;
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn a_request_for_a_cold_model_is_answered_when_it_is_warm() {
    let model = ScriptedModel::start(vec!["one two".into()]).await;
    let entry = cold(60_000, &[]);
    let harness = Arc::new(Harness::start(vec![entry], vec![key("a")]).await);
    let asking = Arc::clone(&harness);
    let mut clients = JoinSet::new();
    clients.spawn(async move {
        let answer = asking.post(CHAT, Some("qd-a"), &chat("m", false)).await;
        answer.text()
    });
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    waiting(&harness, "replica", 2).await;
    // A snapshot that changes nothing for the route.
    harness.apply(vec![cold(60_000, &[])], vec![key("a"), key("b")]);
    harness.apply(vec![cold(60_000, &[&model])], vec![key("a")]);
    completes(&mut stream, "one two").await;
    assert_eq!(clients.join_next().await.unwrap().unwrap(), "one two");
    waiting(&harness, "replica", 0).await;
    harness.at_rest().await;
}

#[tokio::test]
async fn a_model_that_stays_cold_is_told_with_a_time_to_come_back() {
    let harness = Harness::start(vec![cold(10, &[])], vec![key("a")]).await;
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.fault(), (503, "unavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), "10");
    let metrics = harness.get("/metrics", None).await.text_body();
    let line = "gateway_waits_refused_total{route=\"ns/m\",wait=\"replica\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}
