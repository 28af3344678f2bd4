//! Answers that are given again, and equal requests at once.

use futures::future::join_all;
use protocol::snapshot::{Cache, Per, Prices, Retries, RouteEntry};
use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, chat, completes, key, route, target};

const COMPLETIONS: &str = "/v1/chat/completions";

async fn start(per: Per, script: Vec<Answer>) -> (Harness, ScriptedModel) {
    let model = ScriptedModel::start(script).await;
    let mut own = target("own", "m", &[&model]);
    own.prices = Some(Prices {
        input_nanos: 1_000_000_000,
        cached_input_nanos: None,
        output_nanos: 1_000_000_000,
        ..Prices::default()
    });
    let cache = Cache {
        ttl_millis: 60_000,
        bytes_max: 1 << 20,
        per,
        store: None,
    };
    let cached = RouteEntry {
        cache: Some(cache),
        retries: Retries {
            attempts: 0,
            backoff_millis: 1,
        },
        ..route("m", vec![own])
    };
    let harness = Harness::start(vec![cached], vec![key("a"), key("b")]).await;
    (harness, model)
}

/// What `key` is told, and whether that was given before.
async fn ask(harness: &Harness, key: &str, control: &str, body: &str) -> (String, String) {
    let key = format!("Bearer {key}");
    let mut headers = vec![("authorization", key.as_str())];
    if !control.is_empty() {
        headers.push(("cache-control", control));
    }
    let answer = harness.post_with(COMPLETIONS, &headers, body).await;
    assert_eq!(answer.status, 200);
    let word = answer.header("x-gateway-cache");
    assert_eq!(!answer.header("age").is_empty(), word == "hit");
    (answer.text(), word)
}

fn says(text: &str, word: &str) -> (String, String) {
    (text.to_owned(), word.to_owned())
}

#[tokio::test]
async fn an_equal_request_gets_the_same_answer_for_nothing() {
    let (harness, model) = start(Per::Key, vec!["one two".into(), "other".into()]).await;
    let plain = chat("m", false);
    assert_eq!(
        ask(&harness, "qd-a", "", &plain).await,
        says("one two", "miss")
    );
    let same = r#"{"stream": false, "messages": [ {"role":"user","content":"hi"} ], "model":"m", "user":"x"}"#;
    assert_eq!(
        ask(&harness, "qd-a", "", same).await,
        says("one two", "hit")
    );
    assert_eq!(model.requests().len(), 1);
    let usage = harness.get("/v1/usage", Some("qd-a")).await;
    // Both are counted, and only the first one is paid for.
    let row = json!({"model": "m", "requests": 2, "prompt_tokens": 2, "completion_tokens": 4, "cached_tokens": 0, "cost_usd": "0.000003"});
    assert_eq!(usage.json()["data"], json!([row]));
    let metrics = harness.get("/metrics", None).await.text_body();
    for result in ["hit", "miss"] {
        let line = format!(r#"gateway_cache_requests_total{{route="ns/m",result="{result}"}} 1"#);
        assert!(metrics.contains(&line), "{metrics}");
    }
    harness.rows().await;
    let folder = harness.restarted(Vec::new(), Vec::new()).await;
    let connection = Connection::open(folder.folder().join("ledger.sqlite")).unwrap();
    let kept: Vec<bool> = connection
        .prepare("SELECT is_kept FROM requests ORDER BY id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(kept, [false, true]);
}

#[tokio::test]
async fn a_stream_is_given_again_as_a_stream_and_as_a_whole() {
    let (harness, model) = start(Per::Key, vec!["one two three".into()]).await;
    for _ in 0..2 {
        let mut stream = harness
            .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
            .await;
        completes(&mut stream, "one two three").await;
    }
    let whole = ask(&harness, "qd-a", "", &chat("m", false)).await;
    assert_eq!(whole, says("one two three", "hit"));
    let mut with_usage: Value = serde_json::from_str(&chat("m", true)).unwrap();
    with_usage["stream_options"] = json!({"include_usage": true});
    let mut stream = harness
        .stream(COMPLETIONS, Some("qd-a"), &with_usage.to_string())
        .await;
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    assert!(
        events
            .iter()
            .any(|event| event.contains("\"completion_tokens\":3")),
        "{events:?}"
    );
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn a_whole_answer_is_given_again_as_a_stream() {
    let (harness, model) = start(Per::Key, vec!["one two three".into()]).await;
    ask(&harness, "qd-a", "", &chat("m", false)).await;
    let mut stream = harness
        .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
        .await;
    completes(&mut stream, "one two three").await;
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn only_those_who_share_a_scope_share_answers() {
    for (per, word, sent) in [(Per::Key, "miss", 2), (Per::Route, "hit", 1)] {
        let (harness, model) = start(per, vec!["same".into()]).await;
        ask(&harness, "qd-a", "", &chat("m", false)).await;
        assert_eq!(
            ask(&harness, "qd-b", "", &chat("m", false)).await,
            says("same", word)
        );
        assert_eq!(model.requests().len(), sent);
    }
}

#[tokio::test]
async fn clients_say_what_is_kept_and_given() {
    let script = ["1", "2", "3", "4"].map(Answer::from).to_vec();
    let (harness, _model) = start(Per::Key, script).await;
    let body = chat("m", false);
    assert_eq!(
        ask(&harness, "qd-a", "no-store", &body).await,
        says("1", "bypass")
    );
    assert_eq!(ask(&harness, "qd-a", "", &body).await, says("2", "miss"));
    assert_eq!(
        ask(&harness, "qd-a", "no-store", &body).await,
        says("2", "hit")
    );
    assert_eq!(
        ask(&harness, "qd-a", "no-cache", &body).await,
        says("3", "miss")
    );
    assert_eq!(ask(&harness, "qd-a", "", &body).await, says("3", "hit"));
    assert_eq!(
        ask(&harness, "qd-a", "max-age=0", &body).await,
        says("4", "miss")
    );
}

#[tokio::test]
async fn equal_requests_at_once_are_sent_once() {
    let (harness, model) = start(Per::Key, vec!["same".into()]).await;
    let body = chat("m", false);
    let answers = join_all((0..16).map(|_| ask(&harness, "qd-a", "", &body))).await;
    let hits = answers.iter().filter(|(_, word)| word == "hit").count();
    assert_eq!((hits, model.requests().len()), (15, 1));
    assert!(answers.iter().all(|(text, _)| text == "same"));
}

#[tokio::test]
async fn the_failure_of_the_first_is_not_that_of_the_others() {
    let (harness, model) = start(Per::Key, vec![Answer::Status(500), "fine".into()]).await;
    let body = chat("m", false);
    let asking = (0..8).map(|_| harness.post(COMPLETIONS, Some("qd-a"), &body));
    let answers = join_all(asking).await;
    let failed = answers.iter().filter(|answer| answer.status == 500).count();
    assert_eq!((failed, model.requests().len()), (1, 2));
}

#[tokio::test]
async fn who_waits_for_a_client_that_goes_away_is_served() {
    let stall = Answer::Stall {
        text: "one two".to_owned(),
        events: 2,
    };
    let (harness, model) = start(Per::Key, vec![stall, "three four".into()]).await;
    let body = chat("m", true);
    let mut leading = harness.stream(COMPLETIONS, Some("qd-a"), &body).await;
    leading.next().await.unwrap();
    let waiting = async {
        let mut stream = harness.stream(COMPLETIONS, Some("qd-a"), &body).await;
        completes(&mut stream, "three four").await;
    };
    let leaving = async {
        // Both are in the gateway before the first one goes.
        harness.in_flight(2).await;
        drop(leading);
    };
    futures::join!(waiting, leaving);
    assert_eq!(model.requests().len(), 2);
}

#[tokio::test]
async fn what_is_no_complete_answer_is_not_kept() {
    let cut = Answer::Cut {
        text: "one two".to_owned(),
        events: 2,
    };
    let error = Answer::Body(200, json!({"error": {"message": "x", "type": "t"}}));
    let (harness, model) = start(Per::Key, vec![cut, error, "fine".into()]).await;
    let mut stream = harness
        .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
        .await;
    while stream.next().await.is_some() {}
    harness
        .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
        .await;
    assert_eq!(
        ask(&harness, "qd-a", "", &chat("m", false)).await,
        says("fine", "miss")
    );
    assert_eq!(model.requests().len(), 3);
}
