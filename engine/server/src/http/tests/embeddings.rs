//! Claims about embeddings, with MiniLM: the weights that `cargo xtask weights` fetches.

use std::path::Path;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::shapes::{OPENAI, check as check_shape, validator};
use super::{chat, with};

const PATH: &str = "/v1/embeddings";

fn minilm() -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/weights/minilm");
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask weights` to fetch it",
        path.display()
    );
    Fixture::start_file(&path, &[])
}

fn numbers(vector: &Value) -> Vec<f32> {
    let numbers = vector.as_array().unwrap().iter();
    numbers
        .map(|number| number.as_f64().unwrap() as f32)
        .collect()
}

#[tokio::test]
async fn texts_become_vectors_in_both_formats() {
    let fixture = minilm();
    let body = json!({"model": "tiny", "input": ["a cat sits on the mat", "a kitten is on the rug", "shares fell on Monday"]});
    let answer = fixture.post_ok(PATH, &body).await;
    check_shape(&validator(OPENAI, "CreateEmbeddingResponse"), &answer);
    let vectors: Vec<_> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| numbers(&entry["embedding"]))
        .collect();
    assert_eq!((vectors.len(), vectors[0].len()), (3, 384));
    let dot = |one: &[f32], other: &[f32]| -> f32 {
        one.iter().zip(other).map(|(one, other)| one * other).sum()
    };
    assert!(0.5 < dot(&vectors[0], &vectors[1]) && dot(&vectors[0], &vectors[2]) < 0.2);
    let body = with(
        body,
        json!({"encoding_format": "base64", "dimensions": 384}),
    );
    let encoded = fixture.post_ok(PATH, &body).await;
    let bytes = STANDARD
        .decode(encoded["data"][1]["embedding"].as_str().unwrap())
        .unwrap();
    let decoded: Vec<_> = bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(decoded, vectors[1]);
    assert_eq!(encoded["usage"], answer["usage"]);
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_by_name() {
    let fixture = minilm();
    for (more, code, parameter) in [
        (json!({"input": []}), "invalid_request", "input"),
        (
            json!({"input": vec!["x"; 2049]}),
            "invalid_request",
            "input",
        ),
        (json!({"input": [99_999_999]}), "invalid_request", "input"),
        (
            json!({"input": "word ".repeat(600)}),
            "context_length_exceeded",
            "input",
        ),
        (
            json!({"input": "x".repeat(1 << 20)}),
            "context_length_exceeded",
            "input",
        ),
        (json!({"dimensions": 8}), "invalid_request", "dimensions"),
        (
            json!({"encoding_format": "xml"}),
            "invalid_request",
            "encoding_format",
        ),
    ] {
        let body = with(json!({"model": "tiny", "input": "x"}), more);
        let (status, _, text) = fixture.post_text(PATH, &body.to_string()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["param"]),
            (&json!(code), &json!(parameter)),
            "{text}"
        );
    }
}

#[tokio::test]
async fn each_kind_of_model_says_what_it_does_not_do() {
    let encoder = minilm();
    let (status, _, text) = encoder
        .post_text("/v1/chat/completions", &chat("hi", 2).to_string())
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("/v1/embeddings"), "{text}");
    assert_eq!(encoder.get("/health/ready").await.0, StatusCode::OK);
    let models: Value = serde_json::from_str(&encoder.get("/v1/models").await.1).unwrap();
    assert_eq!(models["data"][0]["max_model_len"], 256);
    let engine = Fixture::start();
    let body = json!({"model": "tiny", "input": "x"}).to_string();
    let (status, _, text) = engine.post_text(PATH, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("no embeddings"), "{text}");
}
