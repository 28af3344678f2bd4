//! Claims about what operators do to an engine, and adapters.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use engine_models::synthetic::{SyntheticAdapter, SyntheticModel};
use engine_models::{Opened, open};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::{chat, with};

async fn post(fixture: &Fixture, path: &str, body: Value) -> (StatusCode, String) {
    let (status, _, text) = fixture.post_text(path, &body.to_string()).await;
    (status, text)
}

async fn is_sleeping(fixture: &Fixture) -> Value {
    serde_json::from_str::<Value>(&fixture.get("/is_sleeping").await.1).unwrap()["is_sleeping"]
        .clone()
}

#[tokio::test]
async fn operators_routes_need_a_flag() {
    let fixture = Fixture::start();
    for path in [
        "/sleep",
        "/wake_up",
        "/reset_prefix_cache",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
    ] {
        let (status, text) = post(&fixture, path, json!({})).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
        assert!(text.contains("--admin"), "{text}");
    }
    assert_eq!(is_sleeping(&fixture).await, false);
}

#[tokio::test]
async fn an_engine_sleeps_and_wakes_and_answers_as_before() {
    let fixture = Fixture::start_with(&["--admin"]);
    let body = chat("sleepy", 6);
    let before = fixture.post_ok("/v1/chat/completions", &body).await;
    assert_eq!(
        post(&fixture, "/sleep?level=1", json!({})).await.0,
        StatusCode::OK
    );
    assert_eq!(is_sleeping(&fixture).await, true);
    let (status, text) = post(&fixture, "/v1/chat/completions", body.clone()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert_eq!(
        post(&fixture, "/wake_up", json!({})).await.0,
        StatusCode::OK
    );
    assert_eq!(is_sleeping(&fixture).await, false);
    let after = fixture.post_ok("/v1/chat/completions", &body).await;
    assert_eq!(after["choices"], before["choices"]);
    let (status, text) = post(&fixture, "/sleep?level=7", json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
}

#[tokio::test]
async fn a_reset_cache_is_empty() {
    let fixture = Fixture::start_with(&["--admin"]);
    let body = chat("a prompt of some length", 2);
    let cached = async || {
        let answer = fixture.post_ok("/v1/chat/completions", &body).await;
        answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached().await, 0);
    assert!(0 < cached().await);
    assert_eq!(
        post(&fixture, "/reset_prefix_cache", json!({})).await.0,
        StatusCode::OK
    );
    assert_eq!(cached().await, 0);
}

#[tokio::test]
async fn adapters_are_loaded_named_listed_and_unloaded() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    SyntheticModel::default().write(&model).unwrap();
    let Opened::Generative(loaded) = open(&model).unwrap() else {
        panic!("a generative model")
    };
    let adapter = folder.path().join("adapter");
    std::fs::create_dir(&adapter).unwrap();
    SyntheticAdapter::default()
        .write(&adapter, loaded.model.config())
        .unwrap();
    let fixture = Fixture::start_with(&["--admin"]);
    let load = json!({"lora_name": "pirate", "lora_path": adapter});
    let (status, text) = post(&fixture, "/v1/load_lora_adapter", load.clone()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(
        post(&fixture, "/v1/load_lora_adapter", load).await.0,
        StatusCode::BAD_REQUEST
    );
    let models: Value = serde_json::from_str(&fixture.get("/v1/models").await.1).unwrap();
    assert_eq!(models["data"][2]["id"], "pirate");
    assert_eq!(models["data"][2]["parent"], "tiny");
    let text = async |name: &str| {
        let body = with(chat("who are you", 12), json!({"model": name}));
        fixture.post_ok("/v1/chat/completions", &body).await["choices"][0]["message"]["content"]
            .clone()
    };
    let (plain, adapted) = (text("tiny").await, text("pirate").await);
    assert_ne!(plain, adapted);
    assert_eq!(text("small:pirate").await, adapted);
    assert_eq!(text("tiny").await, plain);
    let unload = json!({"lora_name": "pirate"});
    assert_eq!(
        post(&fixture, "/v1/unload_lora_adapter", unload.clone())
            .await
            .0,
        StatusCode::OK
    );
    assert_eq!(
        post(&fixture, "/v1/unload_lora_adapter", unload).await.0,
        StatusCode::NOT_FOUND
    );
    let body = with(chat("hi", 2), json!({"model": "pirate"}));
    assert_eq!(
        post(&fixture, "/v1/chat/completions", body).await.0,
        StatusCode::NOT_FOUND
    );
    let nowhere = json!({"lora_name": "x", "lora_path": "/nowhere"});
    assert_eq!(
        post(&fixture, "/v1/load_lora_adapter", nowhere).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn changes_of_the_cache_are_streamed_and_replayed() {
    assert_eq!(
        Fixture::start().get("/kv_events").await.0,
        StatusCode::NOT_FOUND
    );
    let fixture = Fixture::start_with(&["--kv-events"]);
    fixture
        .post_ok("/v1/chat/completions", &chat("a prompt of some length", 2))
        .await;
    let request = Request::get("/kv_events")
        .header("last-event-id", "0")
        .body(Body::empty())
        .unwrap();
    let mut response = fixture.send(request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let frame = response
        .body_mut()
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    assert!(
        text.starts_with("id: 1\n") && text.contains("BlockStored"),
        "{text}"
    );
    let request = Request::get("/kv_events")
        .header("last-event-id", "x")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        fixture.send(request).await.status(),
        StatusCode::BAD_REQUEST
    );
}
