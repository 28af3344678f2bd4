//! Whole requests against scripted upstreams: what clients see, what upstreams get, what the ledger holds.

mod a2a;
mod adapters;
mod affinity;
mod anthropic;
mod batches;
mod cache;
mod collecting;
mod demand;
mod failures;
mod fallbacks;
mod faults;
mod files;
mod guards;
pub(crate) mod harness;
mod keys;
mod kv_events;
mod limits;
mod litellm;
mod mcp;
mod mirror;
mod observing;
mod openapi;
mod outage;
mod people;
mod pools;
mod prompts;
mod provider_batches;
mod providers;
mod raw;
mod realtime;
mod replicas;
mod robustness;
mod smuggling;
mod steering;
mod stores;
mod streams;
mod surfaces;
mod swap;
mod target_limits;
mod telling;
mod uploads;
mod waiting;
mod webhooks;
mod wildcards;

use serde_json::json;
use testkit::scripted_model::ScriptedModel;

use self::harness::{Harness, chat, completes, key, route, target};

#[tokio::test]
async fn an_answer_passes_through_and_is_in_the_ledger_before_it_ends() {
    let model = ScriptedModel::start(vec!["hello there".into()]).await;
    let harness = Harness::start(
        vec![route("small", vec![target("own", "real", &[&model])])],
        vec![key("a")],
    )
    .await;
    let body = r#"{ "model" : "small", "messages":[{"role":"user","content":"hi"}], "x":1.50 }"#;
    let answer = harness
        .post("/v1/chat/completions", Some("qd-a"), body)
        .await;
    assert_eq!(
        (answer.status, answer.text()),
        (200, "hello there".to_owned())
    );
    assert!(answer.header("x-request-id").starts_with("req_"));
    let sent = &model.requests()[0];
    assert_eq!(sent.body, body.replace("\"small\"", "\"real\""));
    assert_eq!(sent.headers.get("authorization"), None);
    let usage = harness.get("/v1/usage", Some("qd-a")).await;
    let row = json!({"model": "small", "requests": 1, "prompt_tokens": 1, "completion_tokens": 2, "cached_tokens": 0, "cost_usd": "0"});
    assert_eq!(usage.json()["data"], json!([row]));
    assert_eq!(harness.rows().await, [("complete".to_owned(), 200, 1, 2)]);
}

#[tokio::test]
async fn all_operations_reach_the_upstream() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = Harness::start(
        vec![route("m", vec![target("own", "m", &[&model])])],
        vec![key("a")],
    )
    .await;
    for (path, body) in [
        ("/v1/chat/completions", chat("m", false)),
        (
            "/v1/completions",
            json!({"model": "m", "prompt": "p"}).to_string(),
        ),
        (
            "/v1/embeddings",
            json!({"model": "m", "input": ["a b", "c"], "stream": true}).to_string(),
        ),
        (
            "/v1/responses",
            json!({"model": "m", "input": "p"}).to_string(),
        ),
        ("/v1/messages", chat("m", false)),
        ("/v1/messages/count_tokens", chat("m", false)),
    ] {
        assert_eq!(
            harness.post(path, Some("qd-a"), &body).await.status,
            200,
            "{path}"
        );
        assert_eq!(model.requests().last().unwrap().path, path);
    }
    let metrics = harness.get("/metrics", None).await.text_body();
    for line in [
        "gen_ai_client_token_usage_sum{gen_ai_operation_name=\"embeddings\"",
        "gen_ai_server_request_duration_count{gen_ai_operation_name=\"chat\"",
        "gateway_requests_in_flight 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_in_openai_shape() {
    let harness = Harness::start(vec![route("m", Vec::new())], vec![key("a")]).await;
    let post = |path: &'static str, body: String| {
        let harness = &harness;
        async move { harness.post(path, Some("qd-a"), &body).await.fault() }
    };
    let fault = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(
        post("/v1/chat/completions", "{\"model\": ".to_owned()).await,
        fault(400, "invalid_request")
    );
    assert_eq!(
        post("/v1/chat/completions", chat("nobody", false)).await,
        fault(404, "model_not_found")
    );
    assert_eq!(
        post("/v1/chat/completions", chat("m", false)).await,
        fault(503, "unavailable")
    );
    assert_eq!(
        post("/v1/chat/completions", "x".repeat((1 << 20) + 1)).await,
        fault(413, "request_too_large")
    );
    assert_eq!(
        post("/v1/nothing", String::new()).await,
        fault(404, "not_found")
    );
    assert_eq!(
        post("/v1/models", String::new()).await,
        fault(405, "method_not_allowed")
    );
    let get = harness.get("/v1/chat/completions", Some("qd-a")).await;
    assert_eq!(
        (get.fault(), get.header("allow")),
        (fault(405, "method_not_allowed"), "POST".to_owned())
    );
}

#[tokio::test]
async fn probes_tell_whether_requests_can_be_served() {
    let harness = Harness::empty().await;
    assert_eq!(harness.get("/healthz", None).await.status, 200);
    assert_eq!(harness.get("/readyz", None).await.status, 503);
    assert_eq!(
        harness
            .post("/v1/chat/completions", None, "{}")
            .await
            .fault(),
        (503, "unavailable".to_owned())
    );
    harness.apply(Vec::new(), Vec::new());
    assert_eq!(harness.get("/readyz", None).await.status, 200);
}

#[tokio::test]
async fn a_shutdown_lets_requests_in_progress_end() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = Harness::start(
        vec![route("m", vec![target("own", "m", &[&model])])],
        vec![key("a")],
    )
    .await;
    let mut stream = harness
        .stream("/v1/chat/completions", Some("qd-a"), &chat("m", true))
        .await;
    harness.shutdown.cancel();
    completes(&mut stream, "one two three").await;
    let folder = harness.ended().await;
    assert_eq!(
        harness::rows_of(folder.path()),
        [("complete".to_owned(), 200, 1, 3)]
    );
}
