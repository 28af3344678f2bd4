//! Upstreams that are left out for a while: for their failures, or because they say so.

use protocol::snapshot::{Retries, RouteEntry, Timeouts};
use testkit::scripted_model::{Answer, ScriptedModel};

use super::{
    harness::{Harness, chat, completes, key, route, target},
    raw::{RawUpstream, Reply, STREAM_HEAD, answer, chunk},
};

const CHAT: &str = "/v1/chat/completions";

fn busy(retry_after: &str) -> Reply {
    let header = format!("retry-after: {retry_after}\r\n");
    let body = r#"{"error":{"message":"slow down","type":"tokens","code":"rate_limit_exceeded"}}"#;
    Reply::Bytes(answer(
        "429 Too Many Requests",
        &header,
        "application/json",
        body,
    ))
}

#[tokio::test]
async fn who_asks_for_a_pause_gets_it() {
    let first = RawUpstream::start(vec![busy("60")]).await;
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let targets = vec![first.target("own"), target("spare", "m", &[&spare])];
    let harness = Harness::start(vec![route("m", targets)], vec![key("a")]).await;
    for _ in 0..4 {
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
        assert_eq!(answer.text(), "spare");
    }
    assert_eq!(first.asked(), 1);
    let metrics = harness.get("/metrics", None).await.text_body();
    for line in [
        "gateway_endpoints{route=\"ns/m\",target=\"own\",state=\"rate_limited\"} 1",
        "gateway_endpoints{route=\"ns/m\",target=\"spare\",state=\"usable\"} 1",
        "gateway_endpoints_set_aside_total{route=\"ns/m\",reason=\"rate_limit\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn a_pause_without_anybody_else_is_told_with_its_end() {
    let only = RawUpstream::start(vec![busy("60")]).await;
    let targets = vec![only.target("own")];
    let harness = Harness::start(vec![route("m", targets)], vec![key("a")]).await;
    for expected in ["60", "60"] {
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
        assert_eq!(
            answer.fault(),
            (429, "rate_limit_exceeded".to_owned()),
            "{}",
            answer.text_body()
        );
        assert_eq!(answer.header("retry-after"), expected);
    }
    assert_eq!(only.asked(), 1);
}

#[tokio::test]
async fn one_models_pause_is_not_anothers() {
    let both = RawUpstream::start(vec![busy("60")]).await;
    let other = |name: &str| protocol::snapshot::Target {
        model: name.to_owned(),
        ..both.target("own")
    };
    let routes = vec![route("a", vec![other("a")]), route("b", vec![other("b")])];
    let harness = Harness::start(routes, vec![key("a")]).await;
    for model in ["a", "b", "a", "b"] {
        harness.post(CHAT, Some("qd-a"), &chat(model, false)).await;
    }
    assert_eq!(both.asked(), 2);
}

#[tokio::test]
async fn a_refused_credential_is_not_shown_again_while_there_is_another_target() {
    let first = ScriptedModel::start(vec![Answer::Status(401)]).await;
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let targets = vec![
        target("own", "m", &[&first]),
        target("spare", "m", &[&spare]),
    ];
    let harness = Harness::start(vec![route("m", targets)], vec![key("a")]).await;
    for _ in 0..3 {
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
        assert_eq!(answer.text(), "spare");
    }
    assert_eq!(first.requests().len(), 1);
}

/// A stream that says this and then hangs, with a spare beside it: what the client gets.
async fn check(said: &str, first_token_millis: u64) {
    let body = format!("{STREAM_HEAD}{}", chunk(said));
    let first = RawUpstream::start(vec![Reply::Stall(body.into_bytes())]).await;
    let spare = ScriptedModel::start(vec!["one two".into()]).await;
    let targets = vec![first.target("own"), target("spare", "m", &[&spare])];
    let route = RouteEntry {
        timeouts: Timeouts {
            first_byte_millis: first_token_millis,
            ..Timeouts::default()
        },
        retries: Retries {
            attempts: 1,
            backoff_millis: 1,
        },
        ..route("m", targets)
    };
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    completes(&mut stream, "one two").await;
    assert_eq!(first.asked(), 1);
    harness.idle().await;
}

#[tokio::test]
async fn a_stream_without_a_token_is_asked_for_elsewhere() {
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    check(role, 50).await;
    check(": still here\n\n", 50).await;
    let error = "data: {\"error\":{\"message\":\"lost\",\"code\":500}}\n\n";
    check(&format!("{role}{error}"), 60_000).await;
}
