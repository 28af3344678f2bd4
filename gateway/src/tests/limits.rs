//! Limits and budgets, as clients meet them.

use protocol::snapshot::{Budget, Limit, Mode, Per, Prices, Rate, RouteEntry};
use serde_json::json;
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, chat, key, route, target};

/// In nano-dollars.
const DOLLAR: u64 = 1_000_000_000;
const COMPLETIONS: &str = "/v1/chat/completions";

fn limit() -> Limit {
    Limit {
        name: "l".to_owned(),
        per: Per::Key,
        requests: None,
        tokens: None,
        concurrency: None,
        mode: Mode::Enforce,
    }
}

#[tokio::test]
async fn a_key_that_is_over_its_rate_is_told_when_to_come_back() {
    let model = ScriptedModel::start(vec!["hello".into()]).await;
    let requests = Rate {
        limit: 2,
        window_millis: 60_000,
    };
    let limited = RouteEntry {
        limits: vec![Limit {
            requests: Some(requests),
            ..limit()
        }],
        ..route("m", vec![target("own", "m", &[&model])])
    };
    let harness = Harness::start(vec![limited], vec![key("a"), key("b")]).await;
    for left in ["1", "0"] {
        let answer = harness
            .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), "2");
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), left);
    }
    let refused = harness
        .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
        .await;
    assert_eq!(refused.fault(), (429, "rate_limit_exceeded".to_owned()));
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    let other = harness
        .post(COMPLETIONS, Some("qd-b"), &chat("m", true))
        .await;
    assert_eq!(other.status, 200);
    assert_eq!(model.requests().len(), 3);
    let metrics = harness.get("/metrics", None).await.text_body();
    let counted = r#"gateway_limits_reached_total{route="ns/m",limit="l",resource="requests"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_place_is_free_again_when_a_stream_ends_or_its_client_goes() {
    let model = ScriptedModel::start(vec![Answer::Stall {
        text: "one two three".to_owned(),
        events: 2,
    }])
    .await;
    let limited = RouteEntry {
        limits: vec![Limit {
            concurrency: Some(1),
            ..limit()
        }],
        ..route("m", vec![target("own", "m", &[&model])])
    };
    let harness = Harness::start(vec![limited], vec![key("a")]).await;
    for _ in 0..3 {
        let stream = harness
            .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
            .await;
        let beside = harness
            .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
            .await;
        assert_eq!(beside.fault(), (429, "rate_limit_exceeded".to_owned()));
        drop(stream);
        harness.idle().await;
    }
}

#[tokio::test]
async fn a_budget_is_spent_once_however_many_ask_at_once_and_is_remembered() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    // Three tokens of an answer, a dollar each; a request reserves as much.
    let prices = Prices {
        input_nanos: 0,
        cached_input_nanos: None,
        output_nanos: 1_000_000 * DOLLAR,
        ..Prices::default()
    };
    let budget = Budget {
        name: "daily".to_owned(),
        per: Per::Route,
        amount_nanos: 10 * DOLLAR,
        window_millis: 86_400_000,
        mode: Mode::Enforce,
    };
    let routes = || {
        let mut priced = target("own", "m", &[&model]);
        priced.prices = Some(prices);
        vec![RouteEntry {
            budgets: vec![budget.clone()],
            ..route("m", vec![priced])
        }]
    };
    let harness = Harness::start(routes(), vec![key("a")]).await;
    let body = json!({"model": "m", "messages": [], "max_tokens": 3}).to_string();
    let asked = (0..64).map(|_| harness.post(COMPLETIONS, Some("qd-a"), &body));
    let answers = futures::future::join_all(asked).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status != 200);
    for answer in refused {
        assert_eq!(answer.fault(), (429, "insufficient_quota".to_owned()));
    }
    let usage = harness.get("/v1/usage", Some("qd-a")).await.json();
    let spent: f64 = usage["data"][0]["cost_usd"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        usage["data"][0]["requests"].as_u64().unwrap(),
        served as u64
    );
    // Three fit; a fourth one alone may have the last dollar. Without reservations all 64 would be served.
    assert!((9.0..=12.0).contains(&spent), "{spent}");
    assert_eq!(spent, 3.0 * served as f64);

    // What was spent counts after a restart.
    let small = Budget {
        amount_nanos: 1,
        ..budget.clone()
    };
    let route = RouteEntry {
        budgets: vec![small],
        ..routes().remove(0)
    };
    let harness = harness.restarted(vec![route], vec![key("a")]).await;
    let answer = harness.post(COMPLETIONS, Some("qd-a"), &body).await;
    assert_eq!(answer.fault(), (429, "insufficient_quota".to_owned()));
}
