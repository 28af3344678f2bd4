//! Mirrors: who gets copies, and who neither waits for them nor pays.

use protocol::snapshot::{Budget, Mirror, Mode, Per, Prices, RouteEntry, Target};
use testkit::scripted_model::ScriptedModel;

use super::{
    harness::{Harness, chat, completes, key, route, target},
    raw::{RawUpstream, Reply},
};

const CHAT: &str = "/v1/chat/completions";

fn mirrored(model: &ScriptedModel, mirror: Target, timeout_millis: u64) -> RouteEntry {
    RouteEntry {
        mirror: Some(Box::new(Mirror {
            target: mirror,
            percent: 100,
            timeout_millis,
        })),
        ..route("m", vec![target("own", "m", &[model])])
    }
}

/// Waits until so many copies have ended, as the metrics count them by status.
async fn copied(harness: &Harness, status: u16, count: usize) {
    let labels = format!("route=\"ns/m#mirror\",status=\"{status}\"}} {count}\n");
    let is_there = |metrics: String| {
        let mut lines = metrics.split_inclusive('\n');
        lines.any(|line| line.contains("request_duration_count") && line.ends_with(&labels))
    };
    let ended = async {
        while !is_there(harness.gateway.render_metrics()) {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, ended).await.unwrap();
}

/// Key, target, outcome, tokens of the answer and nano-dollars of a route's last row.
async fn row(harness: &Harness, route: &str) -> (String, String, String, i64, i64) {
    let query = format!(
        "SELECT key, target, outcome, completion_tokens, cost_nanos FROM requests WHERE route = '{route}' ORDER BY id DESC"
    );
    let read = |row: &rusqlite::Row<'_>| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
        ))
    };
    harness.query(&query, read).await
}

#[tokio::test]
async fn copies_go_to_the_mirror_whose_cost_is_told_apart_and_billed_to_nobody() {
    let own = ScriptedModel::start(vec!["own".into()]).await;
    let other = ScriptedModel::start(vec!["other".into()]).await;
    let dear = Target {
        prices: Some(Prices {
            input_nanos: 0,
            output_nanos: 9_000_000_000_000_000,
            ..Prices::default()
        }),
        ..target("mirror", "next", &[&other])
    };
    let budget = Budget {
        name: "small".to_owned(),
        per: Per::Route,
        amount_nanos: 1_000_000,
        window_millis: 3_600_000_000,
        mode: Mode::Enforce,
    };
    let entry = RouteEntry {
        budgets: vec![budget],
        ..mirrored(&own, dear, 5_000)
    };
    let harness = Harness::start(vec![entry.clone()], vec![key("a")]).await;
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.text(), "own");
    copied(&harness, 200, 1).await;
    let copy = &other.requests()[0];
    assert_eq!(copy.json()["model"], "next");
    assert!(copy.headers.get("authorization").is_none());
    let expected = |key: &str, target: &str, cost| {
        let texts = [key, target, "complete"].map(ToOwned::to_owned);
        let [key, target, outcome] = texts;
        (key, target, outcome, 1, cost)
    };
    assert_eq!(row(&harness, "ns/m").await, expected("ns/a", "own", 0));
    let cost = 9_000_000_000;
    assert_eq!(
        row(&harness, "ns/m#mirror").await,
        expected("", "mirror", cost)
    );
    // A thousand times the budget was spent on copies, and neither this process nor the next one counts it.
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.text(), "own");
    copied(&harness, 200, 2).await;
    let harness = harness.restarted(vec![entry], vec![key("a")]).await;
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.text(), "own");
}

#[tokio::test]
async fn copies_of_streams_are_read_to_their_end() {
    let own = ScriptedModel::start(vec!["a b c".into()]).await;
    let other = ScriptedModel::start(vec!["one two three four".into()]).await;
    let entry = mirrored(&own, target("mirror", "next", &[&other]), 5_000);
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    completes(&mut stream, "a b c").await;
    copied(&harness, 200, 1).await;
    let (.., outcome, tokens, _) = row(&harness, "ns/m#mirror").await;
    assert_eq!((outcome.as_str(), tokens), ("complete", 4));
}

#[tokio::test]
async fn a_mirror_that_hangs_delays_nobody_and_ends_in_time() {
    let own = ScriptedModel::start(vec!["own".into()]).await;
    let hanging = RawUpstream::start(vec![Reply::Stall(Vec::new())]).await;
    let entry = |millis| mirrored(&own, hanging.target("mirror"), millis);
    let harness = Harness::start(vec![entry(50)], vec![key("a")]).await;
    for _ in 0..5 {
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
        assert_eq!(answer.text(), "own");
    }
    copied(&harness, 504, 5).await;
    let (.., outcome, _, _) = row(&harness, "ns/m#mirror").await;
    assert_eq!(outcome, "failed");
    // An hour is nothing that a gateway waits for that ends.
    harness.apply(vec![entry(3_600_000)], vec![key("a")]);
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.text(), "own");
    harness.shutdown.cancel();
    harness.ended().await;
}

#[tokio::test]
async fn what_does_more_than_compute_is_not_copied() {
    let own = ScriptedModel::start(vec!["own".into()]).await;
    let other = ScriptedModel::start(vec!["other".into()]).await;
    let entry = mirrored(&own, target("mirror", "next", &[&other]), 5_000);
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let body = r#"{"model":"m","input":"hi"}"#;
    harness.post("/v1/responses", Some("qd-a"), body).await;
    let line = "gateway_mirror_copies_total{route=\"ns/m\",result=\"unrepeatable\"} 1";
    assert!(harness.gateway.render_metrics().contains(line));
    assert!(other.requests().is_empty());
}
