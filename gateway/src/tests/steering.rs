//! Who is chosen: by load, price, headroom, session and condition; and who is asked beside a late one.

use protocol::{
    routing::{Hedging, Session},
    snapshot::{Prices, RouteEntry, Strategy, Target},
};
use testkit::scripted_model::{Answer, ScriptedModel};

use super::{
    harness::{Harness, chat, key, route, target},
    raw::{RawUpstream, Reply, answer},
};

const CHAT: &str = "/v1/chat/completions";

fn with(strategy: Strategy, targets: Vec<Target>) -> RouteEntry {
    RouteEntry {
        strategy,
        ..route("m", targets)
    }
}

async fn ask(harness: &Harness, body: &str) -> String {
    let answer = harness.post(CHAT, Some("qd-a"), body).await;
    answer.header("x-gateway-target")
}

#[tokio::test]
async fn the_cheapest_target_answers_while_it_can() {
    let cheap = ScriptedModel::start(vec!["x".into(), Answer::Status(500)]).await;
    let dear = ScriptedModel::start(vec!["x".into()]).await;
    let priced = |name: &str, model: &ScriptedModel, output_nanos: u64| Target {
        prices: Some(Prices {
            output_nanos,
            ..Prices::default()
        }),
        ..target(name, "m", &[model])
    };
    let targets = vec![
        priced("dear", &dear, 9_000_000_000),
        priced("cheap", &cheap, 2_000_000_000),
    ];
    let harness = Harness::start(vec![with(Strategy::Cost, targets)], vec![key("a")]).await;
    let body = chat("m", false);
    assert_eq!(ask(&harness, &body).await, "ns/m/cheap");
    assert_eq!(ask(&harness, &body).await, "ns/m/dear");
}

#[tokio::test]
async fn the_less_busy_target_answers() {
    let busy = ScriptedModel::start(vec![Answer::Stall {
        text: "one two".to_owned(),
        events: 2,
    }])
    .await;
    let free = ScriptedModel::start(vec!["x".into()]).await;
    let targets = vec![target("busy", "m", &[&busy]), target("free", "m", &[&free])];
    let entry = |targets| with(Strategy::LeastBusy, targets);
    let only_busy = entry(vec![target("busy", "m", &[&busy])]);
    let harness = Harness::start(vec![only_busy], vec![key("a")]).await;
    let stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    harness.apply(vec![entry(targets)], vec![key("a")]);
    for _ in 0..10 {
        assert_eq!(ask(&harness, &chat("m", false)).await, "ns/m/free");
    }
    drop(stream);
    harness.at_rest().await;
}

#[tokio::test]
async fn who_says_that_its_limits_are_spent_is_spared() {
    let headers = "x-ratelimit-limit-requests: 100\r\nx-ratelimit-remaining-requests: 0\r\n";
    let body = r#"{"choices":[{"message":{"content":"spent"}}]}"#;
    let spent = answer("200 OK", headers, "application/json", body);
    let spent = RawUpstream::start(vec![Reply::Bytes(spent)]).await;
    let free = ScriptedModel::start(vec!["x".into()]).await;
    let targets = vec![spent.target("spent"), target("free", "m", &[&free])];
    let harness = Harness::start(vec![with(Strategy::Headroom, targets)], vec![key("a")]).await;
    let body = chat("m", false);
    while ask(&harness, &body).await != "ns/m/spent" {}
    for _ in 0..20 {
        assert_eq!(ask(&harness, &body).await, "ns/m/free");
    }
    assert_eq!(spent.asked(), 1);
}

#[tokio::test]
async fn a_session_keeps_its_variant_and_its_replica() {
    let models = [
        ScriptedModel::start(vec!["x".into()]).await,
        ScriptedModel::start(vec!["x".into()]).await,
        ScriptedModel::start(vec!["x".into()]).await,
    ];
    let [one, two, three] = &models;
    let targets = vec![target("a", "m", &[one, two]), target("b", "m", &[three])];
    let entry = RouteEntry {
        session: Some(Session::User),
        ..with(Strategy::Weighted, targets)
    };
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let asked = || [one, two, three].map(|model| model.requests().len());
    let mut seen = [0; 3];
    for user in 0..20 {
        let body = format!(r#"{{"model":"m","user":"u{user}","messages":[]}}"#);
        let before = asked();
        for _ in 0..3 {
            ask(&harness, &body).await;
        }
        let after = asked();
        let gained: Vec<usize> = (0..3).filter(|at| before[*at] != after[*at]).collect();
        assert_eq!(gained.len(), 1, "user {user}");
        seen[gained[0]] += 1;
    }
    assert!(seen.iter().all(|count| 0 < *count), "{seen:?}");
}

#[tokio::test]
async fn conditions_choose_the_route_and_the_target() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let when = |when: &str, name: &str| Target {
        when: Some(when.to_owned()),
        ..target(name, "m", &[&model])
    };
    let tools = RouteEntry {
        name: "tools".to_owned(),
        when: Some("tools > 0".to_owned()),
        ..route("m", vec![target("own", "m", &[&model])])
    };
    let plain = vec![
        when("promptBytes > 1000", "long"),
        when("headers['x-none'] == 'a'", "broken"),
        when("stream == false", "short"),
    ];
    let routes = vec![tools, route("m", plain)];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let with_tools = r#"{"model":"m","messages":[],"tools":[{"type":"function"}]}"#;
    assert_eq!(ask(&harness, with_tools).await, "ns/tools/own");
    assert_eq!(ask(&harness, &chat("m", false)).await, "ns/m/short");
    let long = format!(
        r#"{{"model":"m","messages":[],"x":"{}"}}"#,
        "y".repeat(1000)
    );
    assert_eq!(ask(&harness, &long).await, "ns/m/long");
    let nobody = harness.post(CHAT, Some("qd-a"), &chat("m", true)).await;
    assert_eq!(nobody.fault(), (503, "unavailable".to_owned()));
    let metrics = harness.get("/metrics", None).await.text_body();
    assert!(
        metrics.contains("gateway_conditions_failed_total 3"),
        "{metrics}"
    );
}

/// A late replica and a quick one, and a route that hedges after 20 ms.
async fn hedged(late: Reply, permille: u32) -> (Harness, RawUpstream, ScriptedModel) {
    let late = RawUpstream::start(vec![late]).await;
    let quick = ScriptedModel::start(vec!["quick".into()]).await;
    let targets = vec![late.target("late"), target("quick", "m", &[&quick])];
    let entry = RouteEntry {
        hedging: Some(Hedging {
            after_millis: Some(20),
            permille,
        }),
        ..route("m", targets)
    };
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    (harness, late, quick)
}

#[tokio::test]
async fn a_second_replica_answers_for_a_late_one_which_is_left_at_once() {
    let (harness, late, quick) = hedged(Reply::Stall(Vec::new()), 1000).await;
    assert_eq!(ask(&harness, &chat("m", false)).await, "ns/m/quick");
    assert_eq!((late.asked(), quick.requests().len()), (1, 1));
    harness.at_rest().await;
    let metrics = harness.get("/metrics", None).await.text_body();
    let line = "gateway_hedges_total{route=\"ns/m\",won=\"second\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    assert_eq!(harness.rows().await, [("complete".to_owned(), 200, 1, 1)]);
}

#[tokio::test]
async fn hedging_ends_with_its_budget() {
    let (harness, late, quick) = hedged(Reply::Stall(Vec::new()), 500).await;
    let body = chat("m", false);
    let wait = std::time::Duration::from_millis(200);
    // The first request has saved up half of what a second one costs.
    let first = tokio::time::timeout(wait, ask(&harness, &body)).await;
    assert!(first.is_err() && quick.requests().is_empty());
    assert_eq!(ask(&harness, &body).await, "ns/m/quick");
    assert_eq!(late.asked(), 2);
}
