//! What a target may be sent: who takes over, and what is told when nobody is left.

use std::time::Duration;

use protocol::{
    routing::{FailureClass, Fallback, Hedging},
    secret::SecretString,
    snapshot::{OnPartition, Peer, Peers, Rate, Retries, RouteEntry, Target, TargetLimits},
};
use serde_json::json;
use testkit::scripted_model::{Answer, ScriptedModel};

use super::{
    harness::{Harness, chat, key, route, target},
    raw::{RawUpstream, Reply},
};

const CHAT: &str = "/v1/chat/completions";
const HOUR: u64 = 3_600_000;

fn rate(limit: u64, window_millis: u64) -> Option<Rate> {
    Some(Rate {
        limit,
        window_millis,
    })
}

fn requests(limit: u64, window_millis: u64) -> TargetLimits {
    TargetLimits {
        requests: rate(limit, window_millis),
        ..TargetLimits::default()
    }
}

fn at_once(concurrency: u32) -> TargetLimits {
    TargetLimits {
        concurrency: Some(concurrency),
        ..TargetLimits::default()
    }
}

fn limited(target: Target, limits: TargetLimits) -> Target {
    Target {
        limits: Some(limits),
        ..target
    }
}

/// A route that never retries.
fn once(targets: Vec<Target>) -> RouteEntry {
    RouteEntry {
        retries: Retries {
            attempts: 0,
            backoff_millis: 1,
        },
        ..route("m", targets)
    }
}

async fn ask(harness: &Harness) -> String {
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.status, 200);
    answer.header("x-gateway-target")
}

#[tokio::test]
async fn a_request_beyond_what_a_target_may_be_sent_goes_to_the_next_one() {
    let [first, second] = [(); 2].map(|()| ScriptedModel::start(vec!["x".into()]));
    let (first, second) = (first.await, second.await);
    let entry = once(vec![
        limited(target("first", "m", &[&first]), requests(1, HOUR)),
        target("second", "m", &[&second]),
    ]);
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(ask(&harness).await);
    }
    assert_eq!(asked, ["ns/m/first", "ns/m/second", "ns/m/second"]);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 2));
    let metrics = harness.get("/metrics", None).await.text_body();
    for line in [
        r#"gateway_limits_reached_total{route="ns/m",limit="target-first",resource="requests"} 2"#,
        r#"gateway_endpoints{route="ns/m",target="first",state="usable"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("gateway_retries_total{"), "{metrics}");
}

#[tokio::test]
async fn a_client_is_told_who_has_room_soonest_when_nobody_has() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let entry = once(vec![
        limited(target("slow", "m", &[&model]), requests(1, HOUR)),
        limited(target("soon", "m", &[&model]), requests(1, 20_000)),
    ]);
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    for _ in 0..2 {
        ask(&harness).await;
    }
    let refused = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(refused.fault(), (429, "rate_limit_exceeded".to_owned()));
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=20).contains(&seconds), "{seconds}");
    assert_eq!(refused.header("x-ratelimit-limit-requests"), "");
    assert_eq!(model.requests().len(), 2);
    assert_eq!(harness.rows().await[2], ("failed".to_owned(), 429, 0, 0));
}

#[tokio::test]
async fn a_route_that_stays_on_rate_limits_asks_nobody_else() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let other = ScriptedModel::start(vec!["y".into()]).await;
    let stays = Fallback {
        on: vec![FailureClass::Error],
        model: None,
    };
    let elsewhere = Fallback {
        on: vec![FailureClass::RateLimit],
        model: Some("other".to_owned()),
    };
    let entry = RouteEntry {
        fallbacks: vec![stays, elsewhere],
        ..once(vec![
            limited(target("first", "m", &[&model]), requests(1, HOUR)),
            target("second", "m", &[&model]),
        ])
    };
    let second = route("other", vec![target("own", "m", &[&other])]);
    let harness = Harness::start(vec![entry, second], vec![key("a")]).await;
    assert_eq!(ask(&harness).await, "ns/m/first");
    assert_eq!(ask(&harness).await, "ns/other/own");
    assert_eq!((model.requests().len(), other.requests().len()), (1, 1));
}

#[tokio::test]
async fn tokens_are_reserved_before_a_request_and_settled_after_it() {
    let model = ScriptedModel::start(vec![
        "one two".into(),
        Answer::Stall {
            text: "one two three".to_owned(),
            events: 2,
        },
    ])
    .await;
    let tokens = TargetLimits {
        tokens: rate(300, HOUR),
        ..TargetLimits::default()
    };
    let entry = once(vec![limited(target("own", "m", &[&model]), tokens)]);
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let body = |stream: bool| {
        json!({"model": "m", "messages": [], "max_tokens": 200, "stream": stream}).to_string()
    };
    // Each reserves more than half of what there is, and uses three tokens.
    let answered = harness.post(CHAT, Some("qd-a"), &body(false)).await;
    assert_eq!(answered.status, 200);
    let stream = harness.stream(CHAT, Some("qd-a"), &body(true)).await;
    let beside = harness.post(CHAT, Some("qd-a"), &body(false)).await;
    assert_eq!(beside.fault(), (429, "rate_limit_exceeded".to_owned()));
    drop(stream);
    harness.idle().await;
    let after = harness.stream(CHAT, Some("qd-a"), &body(true)).await;
    drop(after);
    assert_eq!(model.requests().len(), 3);
}

#[tokio::test]
async fn a_place_is_free_again_when_a_try_fails_and_when_a_stream_ends() {
    let failing = ScriptedModel::start(vec![
        Answer::Status(500),
        Answer::Stall {
            text: "one two three".to_owned(),
            events: 2,
        },
    ])
    .await;
    let backup = ScriptedModel::start(vec!["x".into()]).await;
    let entry = route(
        "m",
        vec![
            limited(target("failing", "m", &[&failing]), at_once(1)),
            target("backup", "m", &[&backup]),
        ],
    );
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    assert_eq!(ask(&harness).await, "ns/m/backup");
    for _ in 0..2 {
        let stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
        assert_eq!(ask(&harness).await, "ns/m/backup");
        drop(stream);
        harness.idle().await;
    }
    assert_eq!((failing.requests().len(), backup.requests().len()), (3, 3));
}

#[tokio::test]
async fn what_went_out_counts_as_a_request_whatever_became_of_it() {
    let failing = ScriptedModel::start(vec![Answer::Status(500)]).await;
    let backup = ScriptedModel::start(vec!["x".into()]).await;
    let entry = route(
        "m",
        vec![
            limited(target("failing", "m", &[&failing]), requests(2, HOUR)),
            target("backup", "m", &[&backup]),
        ],
    );
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    for _ in 0..4 {
        assert_eq!(ask(&harness).await, "ns/m/backup");
    }
    assert_eq!((failing.requests().len(), backup.requests().len()), (2, 4));
}

#[tokio::test]
async fn a_retry_goes_back_to_who_failed_when_the_others_have_no_room() {
    let script = vec![Answer::Status(500), Answer::Status(500), "x".into()];
    let failing = ScriptedModel::start(script).await;
    let backup = ScriptedModel::start(vec!["y".into()]).await;
    let entry = route(
        "m",
        vec![
            target("failing", "m", &[&failing]),
            limited(target("backup", "m", &[&backup]), requests(1, HOUR)),
        ],
    );
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    assert_eq!(ask(&harness).await, "ns/m/backup");
    assert_eq!(ask(&harness).await, "ns/m/failing");
    assert_eq!((failing.requests().len(), backup.requests().len()), (3, 1));
}

/// A late target and a quick one that may be sent so many requests at once; the route hedges after 20 ms.
async fn hedged(late: TargetLimits, quick: TargetLimits) -> (Harness, RawUpstream, ScriptedModel) {
    let stalling = RawUpstream::start(vec![Reply::Stall(Vec::new())]).await;
    let model = ScriptedModel::start(vec!["quick".into()]).await;
    let targets = vec![
        limited(stalling.target("late"), late),
        limited(target("quick", "m", &[&model]), quick),
    ];
    let entry = RouteEntry {
        hedging: Some(Hedging {
            after_millis: Some(20),
            permille: 1000,
        }),
        ..once(targets)
    };
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    (harness, stalling, model)
}

#[tokio::test]
async fn who_loses_a_race_gives_back_its_place_and_who_wins_holds_one() {
    let (harness, late, _quick) = hedged(at_once(1), at_once(1)).await;
    for count in 1..4 {
        assert_eq!(ask(&harness).await, "ns/m/quick");
        harness.at_rest().await;
        assert_eq!(late.asked(), count);
    }
}

#[tokio::test]
async fn nobody_is_asked_beside_a_late_one_who_has_no_room() {
    let (harness, late, _quick) = hedged(requests(1, HOUR), requests(1, HOUR)).await;
    assert_eq!(ask(&harness).await, "ns/m/quick");
    let refused = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!((refused.status, late.asked()), (429, 1));

    let (harness, late, _quick) = hedged(requests(9, HOUR), requests(1, HOUR)).await;
    assert_eq!(ask(&harness).await, "ns/m/quick");
    let alone = tokio::time::timeout(Duration::from_millis(200), ask(&harness)).await;
    assert!(alone.is_err());
    assert_eq!(late.asked(), 2);
}

#[tokio::test]
async fn replicas_share_what_a_target_may_be_sent() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let backup = ScriptedModel::start(vec!["y".into()]).await;
    let entry = once(vec![
        limited(target("own", "m", &[&model]), requests(7, 24 * HOUR)),
        target("backup", "m", &[&backup]),
    ]);
    let mut replicas = Vec::new();
    for name in ["a", "b", "c"] {
        let replica = Harness::replica(name, tempfile::tempdir().unwrap()).await;
        replicas.push((name, replica));
    }
    let peer = |(name, replica): &(&str, Harness)| Peer {
        name: (*name).to_owned(),
        url: replica.url(""),
    };
    let peers = Peers {
        token: SecretString::new("f3a95c07d1e84b62a0c7495e8d16fb23".to_owned()),
        on_partition: OnPartition::Refuse,
        replicas: replicas.iter().map(peer).collect(),
    };
    for (_, replica) in &replicas {
        replica.share(vec![entry.clone()], vec![key("a")], peers.clone());
    }
    for _ in 0..5 {
        for (_, replica) in &replicas {
            ask(replica).await;
        }
    }
    assert_eq!((model.requests().len(), backup.requests().len()), (7, 8));
}
