//! Answers that gateways share through a Redis, and a Redis that is not there.

use std::time::{Duration, Instant};

use futures::future::join_all;
use protocol::snapshot::{Cache, CacheStore, Per, RouteEntry};
use serde_json::json;
use testkit::scripted_model::{Answer, ScriptedModel};

use super::redis::{PASSWORD, Redis};
use crate::tests::harness::{Harness, chat, completes, key, route, target};

const COMPLETIONS: &str = "/v1/chat/completions";
/// What no test waits for in vain.
const LIMIT: Duration = Duration::from_secs(30);
/// How long an answer takes to the store at most.
const WRITTEN: Duration = Duration::from_secs(5);

async fn gateway(model: &ScriptedModel, name: &str, store: CacheStore) -> Harness {
    let cache = Cache {
        ttl_millis: 60_000,
        bytes_max: 1 << 20,
        per: Per::Key,
        store: Some(store),
    };
    let cached = RouteEntry {
        cache: Some(cache),
        ..route(name, vec![target("own", "real", &[model])])
    };
    Harness::start(vec![cached], vec![key("a"), key("b")]).await
}

/// What key `a` is told, and whether that was given before.
async fn ask(harness: &Harness, control: &str, body: &str) -> (String, String) {
    let mut headers = vec![("authorization", "Bearer qd-a")];
    if !control.is_empty() {
        headers.push(("cache-control", control));
    }
    let answer = harness.post_with(COMPLETIONS, &headers, body).await;
    assert_eq!(answer.status, 200);
    (answer.text(), answer.header("x-gateway-cache"))
}

fn says(text: &str, word: &str) -> (String, String) {
    (text.to_owned(), word.to_owned())
}

/// Waits until the gateway reaches its store, which is left empty.
async fn linked(harness: &Harness, redis: &Redis) {
    linked_beside(harness, redis).await;
    redis.ask::<()>(&["FLUSHDB"]).await;
}

/// Waits until the gateway reaches its store: what it is asked then is kept there.
async fn linked_beside(harness: &Harness, redis: &Redis) {
    let before: u64 = redis.ask(&["DBSIZE"]).await;
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        // A request of its own each time: nobody has asked it before.
        let text = format!("{:?}", Instant::now());
        let messages = json!([{"role": "user", "content": text}]);
        let body = json!({"model": "m", "messages": messages});
        ask(harness, "", &body.to_string()).await;
        // Nothing is on its way to the store when this returns.
        let asked = Instant::now();
        while asked.elapsed() < WRITTEN {
            if before < redis.ask::<u64>(&["DBSIZE"]).await {
                return;
            }
        }
    }
    panic!("the gateway does not reach its store");
}

/// Waits until so many answers are in the store.
async fn holds(redis: &Redis, count: u64) {
    let until = Instant::now() + LIMIT;
    while redis.ask::<u64>(&["DBSIZE"]).await < count {
        assert!(
            Instant::now() < until,
            "the store holds less than {count} answers"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_one_gateway_keeps_another_one_gives() {
    let redis = Redis::start();
    let model = ScriptedModel::start(vec!["one two".into()]).await;
    let first = gateway(&model, "m", redis.store(10_000)).await;
    let second = gateway(&model, "m", redis.store(10_000)).await;
    linked(&first, &redis).await;
    linked(&second, &redis).await;
    let asked = model.requests().len();
    assert_eq!(
        ask(&first, "", &chat("m", false)).await,
        says("one two", "miss")
    );
    holds(&redis, 1).await;
    assert_eq!(
        ask(&second, "", &chat("m", false)).await,
        says("one two", "hit")
    );
    assert_eq!(model.requests().len(), asked + 1);
    // In the other form too, and by another gateway than those two.
    let third = gateway(&model, "m", redis.store(10_000)).await;
    linked(&third, &redis).await;
    let asked_until_now = model.requests().len();
    ask(&first, "no-cache", &chat("m", false)).await;
    holds(&redis, 1).await;
    let mut stream = third
        .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
        .await;
    completes(&mut stream, "one two").await;
    assert_eq!(model.requests().len(), asked_until_now + 1);
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]).await;
    assert!(keys[0].starts_with("quarterdeck:cache:ns/m:"), "{keys:?}");
    let left: i64 = redis.ask(&["PTTL", &keys[0]]).await;
    assert!((1..=60_000).contains(&left), "{left}");
    // Other keys and other routes have answers of their own.
    let other = third
        .post(COMPLETIONS, Some("qd-b"), &chat("m", false))
        .await;
    assert_eq!(other.header("x-gateway-cache"), "miss");
    for harness in [first, second, third] {
        assert!(!harness.holds_on_disk(PASSWORD));
        assert!(
            !harness
                .get("/metrics", None)
                .await
                .text_body()
                .contains(PASSWORD)
        );
    }
}

#[tokio::test]
async fn a_stream_goes_through_the_store_and_comes_again() {
    let redis = Redis::start();
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let first = gateway(&model, "m", redis.store(10_000)).await;
    let second = gateway(&model, "m", redis.store(10_000)).await;
    linked(&first, &redis).await;
    linked(&second, &redis).await;
    let asked = model.requests().len();
    let mut stream = first
        .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
        .await;
    completes(&mut stream, "one two three").await;
    holds(&redis, 1).await;
    let mut again = second
        .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
        .await;
    completes(&mut again, "one two three").await;
    let whole = ask(&second, "", &chat("m", false)).await;
    assert_eq!(whole, says("one two three", "hit"));
    assert_eq!(model.requests().len(), asked + 1);
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_not_in_the_store() {
    let redis = Redis::start();
    let model = ScriptedModel::start(vec!["same".into()]).await;
    let first = gateway(&model, "m", redis.store(10_000)).await;
    let second = gateway(&model, "m", redis.store(10_000)).await;
    linked(&first, &redis).await;
    linked(&second, &redis).await;
    let body = chat("m", false);
    assert_eq!(ask(&first, "no-store", &body).await, says("same", "bypass"));
    assert_eq!(
        ask(&first, "no-cache, no-store", &body).await,
        says("same", "bypass")
    );
    assert_eq!(redis.ask::<u64>(&["DBSIZE"]).await, 0);
    ask(&first, "", &body).await;
    holds(&redis, 1).await;
    assert_eq!(ask(&second, "max-age=0", &body).await, says("same", "miss"));
    assert_eq!(ask(&second, "no-cache", &body).await, says("same", "miss"));
}

#[tokio::test]
async fn what_is_no_answer_of_ours_is_a_miss() {
    let redis = Redis::start();
    let model = ScriptedModel::start(vec!["same".into()]).await;
    let first = gateway(&model, "m", redis.store(10_000)).await;
    linked(&first, &redis).await;
    ask(&first, "", &chat("m", false)).await;
    holds(&redis, 1).await;
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]).await;
    let huge = "x".repeat(8 << 20);
    for value in ["", "junk", "qdc1\u{1}\0\0\0{", &huge] {
        redis.ask::<()>(&["SET", &keys[0], value]).await;
        let second = gateway(&model, "m", redis.store(10_000)).await;
        linked_beside(&second, &redis).await;
        assert_eq!(
            ask(&second, "", &chat("m", false)).await,
            says("same", "miss")
        );
    }
    redis.ask::<()>(&["DEL", &keys[0]]).await;
    redis.ask::<()>(&["LPUSH", &keys[0], "x"]).await;
    let second = gateway(&model, "m", redis.store(10_000)).await;
    linked_beside(&second, &redis).await;
    assert_eq!(
        ask(&second, "", &chat("m", false)).await,
        says("same", "miss")
    );
}

#[tokio::test]
async fn equal_requests_at_once_ask_the_store_once() {
    let redis = Redis::start();
    let model = ScriptedModel::start(vec!["same".into()]).await;
    let harness = gateway(&model, "m", redis.store(10_000)).await;
    linked(&harness, &redis).await;
    let asked = model.requests().len();
    redis.ask::<()>(&["CONFIG", "RESETSTAT"]).await;
    let body = chat("m", false);
    join_all((0..16).map(|_| ask(&harness, "", &body))).await;
    assert_eq!(model.requests().len(), asked + 1);
    let told: String = redis.ask(&["INFO", "commandstats"]).await;
    // One lookup, of both forms.
    assert!(told.contains("cmdstat_getrange:calls=2,"), "{told}");
}

#[tokio::test]
async fn a_store_that_hangs_or_is_gone_is_a_miss_within_its_limit() {
    let mut redis = Redis::start();
    let model = ScriptedModel::start(vec![Answer::from("same")]).await;
    let harness = gateway(&model, "m", redis.store(300)).await;
    linked(&harness, &redis).await;
    let asking = async |seed: u64, most: Duration| {
        let body = json!({"model": "m", "user": "u", "top_k": seed, "messages": []}).to_string();
        let begun = Instant::now();
        assert_eq!(ask(&harness, "", &body).await, says("same", "miss"));
        assert!(begun.elapsed() < most, "{:?}", begun.elapsed());
    };
    redis.hang(true);
    for seed in 0..8 {
        asking(seed, Duration::from_secs(3)).await;
    }
    redis.hang(false);
    redis.kill();
    for seed in 10..18 {
        asking(seed, Duration::from_secs(3)).await;
    }
    redis.start_again();
    linked(&harness, &redis).await;
    ask(&harness, "", &chat("m", false)).await;
    holds(&redis, 1).await;
}

#[tokio::test]
async fn a_store_that_never_was_costs_nothing() {
    let redis = {
        let mut redis = Redis::start();
        redis.kill();
        redis
    };
    let model = ScriptedModel::start(vec!["same".into()]).await;
    let harness = gateway(&model, "m", redis.store(10_000)).await;
    let begun = Instant::now();
    assert_eq!(
        ask(&harness, "", &chat("m", false)).await,
        says("same", "miss")
    );
    assert_eq!(
        ask(&harness, "", &chat("m", false)).await,
        says("same", "hit")
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}
