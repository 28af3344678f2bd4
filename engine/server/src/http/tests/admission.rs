//! Claims about what is let in, counted and given up.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::{chat, with};

async fn load(fixture: &Fixture) -> u64 {
    let report: Value = serde_json::from_str(&fixture.get("/load").await.1).unwrap();
    report["server_load"].as_u64().unwrap()
}

#[tokio::test]
async fn a_request_counts_until_its_client_has_gone() {
    let fixture = Fixture::roomy();
    assert_eq!(load(&fixture).await, 0);
    let body = with(chat("long", 2000), json!({"stream": true}));
    let request = Request::post("/v1/chat/completions")
        .body(Body::from(body.to_string()))
        .unwrap();
    let mut response = fixture.send(request).await;
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(load(&fixture).await, 1);
    drop(response);
    assert_eq!(load(&fixture).await, 0);
    // The sequence has left the engine once another request is answered alone.
    fixture
        .post_ok("/v1/chat/completions", &chat("next", 2))
        .await;
    let metrics = fixture.get("/metrics").await.1;
    assert!(metrics.contains("finished_reason=\"abort\""), "{metrics}");
}

#[tokio::test]
async fn a_body_that_is_said_to_be_too_large_is_not_read() {
    let fixture = Fixture::start();
    let request = Request::post("/v1/completions")
        .header("content-length", "10000000")
        .body(Body::from("x"))
        .unwrap();
    assert_eq!(
        fixture.send(request).await.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn invalid_utf8_is_refused() {
    let fixture = Fixture::start();
    let request = Request::post("/v1/completions")
        .body(Body::from(vec![b'{', b'"', 0xFF, b'"']))
        .unwrap();
    assert_eq!(
        fixture.send(request).await.status(),
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn each_answer_has_the_id_of_its_request() {
    let fixture = Fixture::start();
    let request = Request::get("/v1/models")
        .header("x-request-id", "mine")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        fixture.send(request).await.headers()["x-request-id"],
        "mine"
    );
    let request = Request::get("/v1/models").body(Body::empty()).unwrap();
    let response = fixture.send(request).await;
    assert!(
        response.headers()["request-id"]
            .to_str()
            .unwrap()
            .starts_with("req_")
    );
}

#[tokio::test]
async fn probes_answer_without_a_model() {
    let fixture = Fixture::loading();
    for path in [
        "/health",
        "/ping",
        "/version",
        "/load",
        "/metrics",
        "/v1/models",
    ] {
        assert_eq!(fixture.get(path).await.0, StatusCode::OK, "{path}");
    }
}
