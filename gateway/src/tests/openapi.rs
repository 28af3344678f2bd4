//! What the gateway answers itself and what it sends is valid by OpenAI's document.

use jsonschema::Validator;
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;

use super::{
    files::upload,
    harness::{Harness, chat, key, route, target},
};

/// The schemas, as `cargo xtask openapi` takes them out of the document.
const SCHEMAS: &str = include_str!("../../testdata/openapi/schemas.json");

fn validator(schemas: &Value, name: &str) -> Validator {
    let reference = format!("#/components/schemas/{name}");
    let document = json!({"components": {"schemas": schemas}, "$ref": reference});
    jsonschema::validator_for(&document).unwrap()
}

#[track_caller]
fn check(schema: &str, value: &Value) {
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap();
    assert!(schemas[schema].is_object(), "there is no schema {schema}");
    let validator = validator(&schemas, schema);
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    assert!(errors.is_empty(), "{schema}: {errors:#?}\n{value:#}");
}

async fn start() -> (Harness, ScriptedModel) {
    let model = ScriptedModel::start(vec!["hello".into()]).await;
    let routes = vec![route("m", vec![target("own", "real", &[&model])])];
    (Harness::start(routes, vec![key("a")]).await, model)
}

#[test]
fn a_value_that_is_not_valid_is_found_out() {
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap();
    let wrong = json!({"id": 7, "object": "file"});
    assert!(!validator(&schemas, "OpenAIFile").is_valid(&wrong));
    assert!(!validator(&schemas, "CreateResponse").is_valid(&json!({"tools": 7})));
}

#[tokio::test]
async fn errors_and_models_are_valid() {
    let (harness, _model) = start().await;
    let models = harness.get("/v1/models", Some("qd-a")).await.json();
    check("ListModelsResponse", &models);
    check("Model", &models["data"][0]);
    let body = chat("m", false);
    for (method, path, key, body, status) in [
        ("POST", "/v1/chat/completions", "qd-no", body.as_str(), 401),
        ("POST", "/v1/chat/completions", "qd-a", "{", 400),
        ("POST", "/v1/chat/completions", "qd-a", "{}", 400),
        ("POST", "/v1/responses", "qd-a", r#"{"model":"no"}"#, 404),
        ("POST", "/v1/audio/transcriptions", "qd-a", "{}", 400),
        ("GET", "/v1/models/no", "qd-a", "", 404),
        ("GET", "/v1/chat/completions", "qd-a", "", 405),
        ("GET", "/v1/nothing", "qd-a", "", 404),
        ("GET", "/v1/files/no", "qd-a", "", 404),
        ("POST", "/v1/files", "qd-a", "{}", 400),
        ("POST", "/v1/batches", "qd-a", "{}", 400),
        ("GET", "/v1/batches/no", "qd-a", "", 404),
    ] {
        let answer = match method {
            "GET" => harness.get(path, Some(key)).await,
            _ => harness.post(path, Some(key), body).await,
        };
        assert_eq!(answer.status, status, "{method} {path}");
        check("ErrorResponse", &answer.json());
    }
}

#[tokio::test]
async fn files_and_batches_are_valid() {
    let (harness, _model) = start().await;
    check(
        "ListFilesResponse",
        &harness.get("/v1/files", Some("qd-a")).await.json(),
    );
    check(
        "ListBatchesResponse",
        &harness.get("/v1/batches", Some("qd-a")).await.json(),
    );
    let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}});
    for (input, end) in [(line.to_string(), "completed"), ("{".to_owned(), "failed")] {
        let file = harness.upload("qd-a", upload("batch", &input)).await.json();
        check("OpenAIFile", &file);
        let body = json!({"input_file_id": file["id"], "endpoint": "/v1/embeddings", "completion_window": "24h", "metadata": {"a": "b"}});
        let mut batch = harness
            .post("/v1/batches", Some("qd-a"), &body.to_string())
            .await
            .json();
        let path = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
        while batch["status"] != end {
            check("Batch", &batch);
            batch = harness.get(&path, Some("qd-a")).await.json();
        }
        check("Batch", &batch);
        let file = format!("/v1/files/{}", file["id"].as_str().unwrap());
        check(
            "DeleteFileResponse",
            &harness.delete(&file, Some("qd-a")).await.json(),
        );
    }
    check(
        "ListFilesResponse",
        &harness.get("/v1/files", Some("qd-a")).await.json(),
    );
    check(
        "ListBatchesResponse",
        &harness.get("/v1/batches", Some("qd-a")).await.json(),
    );
}

#[tokio::test]
async fn requests_that_reach_upstreams_are_valid() {
    let (harness, model) = start().await;
    let message = json!([{"role": "user", "content": "hi"}]);
    for (path, schema, body) in [
        (
            "/v1/chat/completions",
            "CreateChatCompletionRequest",
            json!({"messages": message}),
        ),
        (
            "/v1/chat/completions",
            "CreateChatCompletionRequest",
            json!({"messages": message, "stream": true}),
        ),
        (
            "/v1/chat/completions",
            "CreateChatCompletionRequest",
            json!({"messages": message, "stream": true, "stream_options": {"include_obfuscation": false}}),
        ),
        (
            "/v1/completions",
            "CreateCompletionRequest",
            json!({"prompt": "x", "stream": true}),
        ),
        (
            "/v1/embeddings",
            "CreateEmbeddingRequest",
            json!({"input": ["x"]}),
        ),
        (
            "/v1/responses",
            "CreateResponse",
            json!({"input": "x", "stream": true}),
        ),
        (
            "/v1/moderations",
            "CreateModerationRequest",
            json!({"input": "x"}),
        ),
        (
            "/v1/images/generations",
            "CreateImageRequest",
            json!({"prompt": "x", "n": 1}),
        ),
        (
            "/v1/audio/speech",
            "CreateSpeechRequest",
            json!({"input": "x", "voice": "alloy"}),
        ),
    ] {
        let mut sent = body;
        sent["model"] = json!("m");
        check(schema, &sent);
        let answer = harness.post(path, Some("qd-a"), &sent.to_string()).await;
        assert_eq!(answer.status, 200, "{path}");
        let received = model.requests().pop().unwrap().json();
        assert_eq!(received["model"], "real");
        check(schema, &received);
    }
}
