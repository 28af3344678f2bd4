//! Upstreams that fail: who is asked next, and what the client sees when nobody helps.

use std::time::Duration;

use protocol::snapshot::{RouteEntry, Target, Timeouts};
use serde_json::json;
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, chat, key, route, target};

#[tokio::test]
async fn a_dead_upstream_is_passed_over_and_used_again_when_it_is_back() {
    let first = ScriptedModel::start(vec!["first".into()]).await;
    let address = first.address();
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let targets = vec![
        target("own", "m", &[&first]),
        target("spare", "m", &[&spare]),
    ];
    let harness = Harness::start(vec![route("m", targets)], vec![key("a")]).await;
    let ask = || async {
        harness
            .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
            .await
            .text()
    };
    assert_eq!(ask().await, "first");
    drop(first);
    for _ in 0..5 {
        assert_eq!(ask().await, "spare");
    }
    let _first = ScriptedModel::start_at(address, vec!["first".into()]).await;
    // Ejected after its failures, it is probed when the ejection is over.
    let back = async { while ask().await != "first" {} };
    tokio::time::timeout(Duration::from_secs(8), back)
        .await
        .unwrap();
}

#[track_caller]
fn check_retried(answer: &super::harness::Answer, spare: &ScriptedModel) {
    assert_eq!(
        (answer.status, answer.text(), spare.requests().len()),
        (200, "spare".to_owned(), 1)
    );
}

#[tokio::test]
async fn errors_and_silence_before_the_first_byte_are_tried_elsewhere() {
    for answer in [
        Answer::Status(500),
        Answer::Status(503),
        Answer::Status(429),
        Answer::Hang,
        Answer::Cut {
            text: "never".to_owned(),
            events: 0,
        },
    ] {
        let first = ScriptedModel::start(vec![answer]).await;
        let spare = ScriptedModel::start(vec!["spare".into()]).await;
        let targets = vec![
            target("own", "m", &[&first]),
            target("spare", "m", &[&spare]),
        ];
        let timeouts = Timeouts {
            first_byte_millis: 100,
            ..Timeouts::default()
        };
        let route = RouteEntry {
            timeouts,
            ..route("m", targets)
        };
        let harness = Harness::start(vec![route], vec![key("a")]).await;
        let answer = harness
            .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
            .await;
        check_retried(&answer, &spare);
        assert_eq!(harness.rows().await, [("complete".to_owned(), 200, 1, 1)]);
    }
}

#[tokio::test]
async fn what_the_client_did_wrong_is_not_tried_again() {
    let own_words = json!({"error": {"message": "temperature", "type": "invalid_request_error", "code": "own"}});
    let first = ScriptedModel::start(vec![Answer::Body(400, own_words.clone())]).await;
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let targets = vec![
        target("own", "m", &[&first]),
        target("spare", "m", &[&spare]),
    ];
    let harness = Harness::start(vec![route("m", targets)], vec![key("a")]).await;
    let answer = harness
        .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
        .await;
    assert_eq!((answer.status, answer.json()), (400, own_words));
    assert!(spare.requests().is_empty());
    assert_eq!(harness.rows().await, [("failed".to_owned(), 400, 0, 0)]);
}

/// What a client sees when all tries fail the same way.
async fn check(script: Answer, expected: (u16, &str), tries: usize) {
    let model = ScriptedModel::start(vec![script.clone()]).await;
    let timeouts = Timeouts {
        first_byte_millis: 50,
        ..Timeouts::default()
    };
    let route = RouteEntry {
        timeouts,
        ..route("m", vec![target("own", "m", &[&model])])
    };
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let answer = harness
        .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
        .await;
    assert_eq!(
        answer.fault(),
        (expected.0, expected.1.to_owned()),
        "{script:?}"
    );
    assert_eq!(model.requests().len(), tries, "{script:?}");
    assert_eq!(
        harness.rows().await,
        [("failed".to_owned(), expected.0, 0, 0)]
    );
}

#[tokio::test]
async fn a_failure_that_stays_is_told_honestly() {
    check(Answer::Hang, (504, "timeout"), 1).await;
    check(Answer::Status(500), (500, ""), 3).await;
    check(
        Answer::Body(502, json!("not OpenAI's shape")),
        (502, "upstream_error"),
        3,
    )
    .await;
    check(Answer::Status(401), (502, "upstream_error"), 1).await;
    check(Answer::Status(404), (404, ""), 1).await;
}

#[tokio::test]
async fn the_time_for_a_request_covers_all_its_tries() {
    let silent = || ScriptedModel::start(vec![Answer::Hang]);
    let models = [silent().await, silent().await, silent().await];
    let timeouts = Timeouts {
        request_millis: 120,
        first_byte_millis: 80,
        ..Timeouts::default()
    };
    let targets = models.iter().map(|model| target("own", "m", &[model]));
    let route = RouteEntry {
        timeouts,
        ..route("m", targets.collect())
    };
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let answer = harness
        .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
        .await;
    assert_eq!(answer.fault(), (504, "timeout".to_owned()));
    let asked = models.map(|model| model.requests().len());
    assert_eq!(asked, [1, 1, 0]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_accounted_for_is_not_given() {
    let model = ScriptedModel::start(vec!["dear".into()]).await;
    let harness = Harness::start(
        vec![route("m", vec![target("own", "m", &[&model])])],
        vec![key("a")],
    )
    .await;
    harness.fill_disk(true);
    for (stream, asked) in [(false, 1), (true, 1)] {
        let answer = harness
            .post("/v1/chat/completions", Some("qd-a"), &chat("m", stream))
            .await;
        assert_eq!(answer.fault(), (503, "unavailable".to_owned()));
        // Once it is known that rows are not taken, the upstream is spared.
        assert_eq!(model.requests().len(), asked);
    }
    let is_told = async || {
        let metrics = harness.get("/metrics", None).await.text_body();
        metrics.contains("gateway_ledger_healthy 0")
    };
    assert!(is_told().await);
    harness.fill_disk(false);
    assert_eq!(
        harness
            .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
            .await
            .status,
        200
    );
    assert!(!is_told().await);
}

#[tokio::test]
async fn replicas_share_the_load() {
    let (one, two) = (
        ScriptedModel::start(vec!["1".into()]).await,
        ScriptedModel::start(vec!["2".into()]).await,
    );
    let both = Target {
        weight: 1,
        ..target("own", "m", &[&one, &two])
    };
    let harness = Harness::start(vec![route("m", vec![both])], vec![key("a")]).await;
    for _ in 0..40 {
        assert_eq!(
            harness
                .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
                .await
                .status,
            200
        );
    }
    assert!(5 < one.requests().len() && 5 < two.requests().len());
}
