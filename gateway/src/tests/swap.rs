//! New snapshots while requests are in progress.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use testkit::scripted_model::ScriptedModel;

use super::harness::{Harness, chat, completes, key, route, target};

#[tokio::test]
async fn a_stream_goes_on_under_the_table_that_it_started_with() {
    let old = ScriptedModel::start(vec!["one two three".into()]).await;
    let new = ScriptedModel::start(vec!["new".into()]).await;
    let harness = Harness::start(
        vec![route("m", vec![target("own", "m", &[&old])])],
        vec![key("a")],
    )
    .await;
    let mut stream = harness
        .stream("/v1/chat/completions", Some("qd-a"), &chat("m", true))
        .await;
    harness.apply(
        vec![route("m", vec![target("own", "m", &[&new])])],
        vec![key("b")],
    );
    assert_eq!(
        harness
            .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
            .await
            .status,
        401
    );
    assert_eq!(
        harness
            .post("/v1/chat/completions", Some("qd-b"), &chat("m", false))
            .await
            .text(),
        "new"
    );
    completes(&mut stream, "one two three").await;
}

/// Snapshots that are applied under load.
const SWAPS: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_no_stream_is_cut_while_snapshots_are_swapped() {
    let one = ScriptedModel::start(vec!["one two three".into()]).await;
    let two = ScriptedModel::start(vec!["one two three".into()]).await;
    let snapshot = |model: &ScriptedModel| vec![route("m", vec![target("own", "m", &[model])])];
    let harness = Arc::new(Harness::start(snapshot(&one), vec![key("a")]).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (harness, is_over, answered) = (
            Arc::clone(&harness),
            Arc::clone(&is_over),
            Arc::clone(&answered),
        );
        clients.spawn(async move {
            let path = "/v1/chat/completions";
            while !is_over.load(Ordering::Relaxed) {
                if number % 2 == 0 {
                    let mut stream = harness.stream(path, Some("qd-a"), &chat("m", true)).await;
                    completes(&mut stream, "one two three").await;
                } else {
                    let answer = harness.post(path, Some("qd-a"), &chat("m", false)).await;
                    assert_eq!(answer.status, 200);
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 0..SWAPS {
        let model = if round % 2 == 0 { &two } else { &one };
        harness.apply(snapshot(model), vec![key("a")]);
        // Every few snapshots wait for an answer, so that requests meet many of them.
        let before = answered.load(Ordering::Relaxed);
        while round % 8 == 0 && before == answered.load(Ordering::Relaxed) && !clients.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(!one.requests().is_empty() && !two.requests().is_empty());
    harness.at_rest().await;
}
