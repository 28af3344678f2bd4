//! The surfaces beside chats: what reaches the upstream, what clients get, what the ledger holds.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, Row, chat, key, route, target};
use crate::upstream;

async fn start(answer: Answer, name: &str) -> (Harness, ScriptedModel) {
    let model = ScriptedModel::start(vec![answer]).await;
    let route = route(name, vec![target("own", "real", &[&model])]);
    (Harness::start(vec![route], vec![key("a")]).await, model)
}

/// A request that reaches the upstream at `there` with `sent`, and whose row is `row`.
struct Passing {
    path: &'static str,
    body: Value,
    there: &'static str,
    sent: Value,
    tokens: (u64, u64),
}

async fn check(model: &str, passing: Passing) {
    let (harness, upstream) = start("hello there".into(), model).await;
    let answer = harness
        .post(passing.path, Some("qd-a"), &passing.body.to_string())
        .await;
    assert_eq!(answer.status, 200, "{}", passing.path);
    assert!(answer.json().is_object());
    let sent = &upstream.requests()[0];
    assert_eq!(
        (sent.path.as_str(), sent.json()),
        (passing.there, passing.sent)
    );
    let (prompt, completion) = passing.tokens;
    assert_eq!(
        harness.rows().await,
        [("complete".to_owned(), 200, prompt, completion)],
        "{}",
        passing.path
    );
}

#[tokio::test]
async fn reranking_passes_in_the_paths_of_all_clients_and_counts_what_is_billed() {
    for path in ["/v1/rerank", "/v2/rerank", "/rerank"] {
        let body = |model| json!({"model": model, "query": "q", "documents": ["a", "b"]});
        let passing = Passing {
            path,
            body: body("m"),
            there: "/v1/rerank",
            sent: body("real"),
            tokens: (9, 0),
        };
        check("m", passing).await;
    }
}

#[tokio::test]
async fn a_moderation_without_a_model_means_openais_default() {
    let passing = Passing {
        path: "/v1/moderations",
        body: json!({"input": "x"}),
        there: "/v1/moderations",
        sent: json!({"model": "real", "input": "x"}),
        tokens: (0, 0),
    };
    check("omni-moderation-latest", passing).await;
    let passing = Passing {
        path: "/v1/moderations",
        body: json!({"input": "x", "model": "m"}),
        there: "/v1/moderations",
        sent: json!({"model": "real", "input": "x"}),
        tokens: (0, 0),
    };
    check("m", passing).await;
}

#[tokio::test]
async fn tokens_are_asked_for_beside_v1() {
    for (path, there) in [
        ("/tokenize", "/tokenize"),
        ("/v1/tokenize", "/tokenize"),
        ("/detokenize", "/detokenize"),
    ] {
        let body = |model| json!({"model": model, "prompt": "a b", "tokens": [1]});
        let passing = Passing {
            path,
            body: body("m"),
            there,
            sent: body("real"),
            tokens: (0, 0),
        };
        check("m", passing).await;
    }
}

#[tokio::test]
async fn responses_are_counted_and_compacted() {
    for (path, tokens) in [
        ("/v1/responses/input_tokens", (0, 0)),
        ("/v1/responses/compact", (5, 2)),
    ] {
        let body = |model| json!({"model": model, "input": "x"});
        let passing = Passing {
            path,
            body: body("m"),
            there: path,
            sent: body("real"),
            tokens,
        };
        check("m", passing).await;
    }
}

#[tokio::test]
async fn images_are_made_and_their_tokens_counted() {
    let passing = Passing {
        path: "/v1/images/generations",
        body: json!({"prompt": "x"}),
        there: "/v1/images/generations",
        sent: json!({"model": "real", "prompt": "x"}),
        tokens: (3, 4),
    };
    check("dall-e-2", passing).await;
    let passing = Passing {
        path: "/v1/images/edits",
        body: json!({"model": "m", "prompt": "x", "images": []}),
        there: "/v1/images/edits",
        sent: json!({"model": "real", "prompt": "x", "images": []}),
        tokens: (3, 4),
    };
    check("m", passing).await;
}

/// The types of a stream's events.
async fn types(harness: &Harness, path: &str, body: &Value) -> Vec<String> {
    let mut stream = harness.stream(path, Some("qd-a"), &body.to_string()).await;
    let mut types = Vec::new();
    while let Some(data) = stream.next().await {
        let event: Value = serde_json::from_str(&data).unwrap();
        types.push(event["type"].as_str().unwrap_or_default().to_owned());
    }
    types
}

#[tokio::test]
async fn a_stream_of_several_images_passes_to_its_end() {
    let (harness, _model) = start("x".into(), "m").await;
    let body = json!({"model": "m", "prompt": "x", "stream": true, "n": 2, "partial_images": 1});
    let image = [
        "image_generation.partial_image",
        "image_generation.completed",
    ];
    assert_eq!(
        types(&harness, "/v1/images/generations", &body).await,
        [image, image].concat()
    );
    assert_eq!(harness.rows().await, [("complete".to_owned(), 200, 3, 4)]);
}

#[tokio::test]
async fn speech_passes_as_bytes_and_as_events() {
    let (harness, _model) = start("one two three".into(), "m").await;
    let body = json!({"model": "m", "input": "x", "voice": "alloy"});
    let answer = harness
        .post("/v1/audio/speech", Some("qd-a"), &body.to_string())
        .await;
    assert_eq!(
        (answer.header("content-type"), answer.text_body()),
        ("audio/mpeg".to_owned(), "one two three".to_owned())
    );
    let body = json!({"model": "m", "input": "x", "voice": "alloy", "stream_format": "sse"});
    let expected = [
        "speech.audio.delta",
        "speech.audio.delta",
        "speech.audio.delta",
        "speech.audio.done",
    ];
    assert_eq!(types(&harness, "/v1/audio/speech", &body).await, expected);
    let rows: [Row; 2] = [
        ("complete".to_owned(), 200, 0, 0),
        ("complete".to_owned(), 200, 2, 3),
    ];
    assert_eq!(harness.rows().await, rows);
}

#[tokio::test]
async fn speech_that_breaks_cuts_the_client_off() {
    let cut = Answer::Cut {
        text: "one two three".to_owned(),
        events: 2,
    };
    let (harness, _model) = start(cut, "m").await;
    let body = json!({"model": "m", "input": "x", "voice": "alloy"}).to_string();
    let request = Request::post(harness.url("/v1/audio/speech"))
        .header("authorization", "Bearer qd-a")
        .body(Full::new(Bytes::from(body)));
    let answer = upstream::client().request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!(harness.rows().await, [("failed".to_owned(), 502, 0, 0)]);
}

#[tokio::test]
async fn clients_of_azure_name_the_model_in_the_path_and_the_key_in_a_header() {
    let (harness, model) = start("hello".into(), "m/1").await;
    let path = "/openai/deployments/m%2F1/chat/completions?api-version=2025-04-01-preview";
    let bodies = [
        json!({"messages": [{"role": "user", "content": "hi"}]}).to_string(),
        chat("another", false),
    ];
    for body in bodies {
        let request = Request::post(harness.url(path)).header("api-key", "qd-a");
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answer = upstream::client().request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let sent = model.requests().pop().unwrap();
        assert_eq!(sent.json()["model"], "real");
        assert_eq!(sent.headers.get("api-key"), None);
    }
    let answer = harness
        .post("/chat/completions", Some("qd-a"), &chat("m/1", false))
        .await;
    assert_eq!(answer.text(), "hello");
}

#[tokio::test]
async fn models_are_listed_in_the_shape_of_anthropics_for_its_clients() {
    let (harness, _model) = start("x".into(), "m").await;
    let get = |path: &str, key: &'static str| {
        let request = Request::get(harness.url(path))
            .header("anthropic-version", "2023-06-01")
            .header("x-api-key", key);
        let request = request.body(Full::default()).unwrap();
        async move {
            let answer = upstream::client().request(request).await.unwrap();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice::<Value>(&body).unwrap()
        }
    };
    let mut list = get("/v1/models", "qd-a").await;
    let created = list["data"][0]["created_at"].take();
    created
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    let model = json!({"id": "m", "type": "model", "display_name": "m", "created_at": null});
    assert_eq!(
        list,
        json!({"data": [model], "first_id": "m", "has_more": false, "last_id": "m"})
    );
    assert_eq!(get("/v1/models/m", "qd-a").await["type"], "model");
    assert_eq!(
        get("/v1/models/none", "qd-a").await["error"]["type"],
        "not_found_error"
    );
    assert_eq!(
        get("/v1/models", "no").await["error"]["type"],
        "authentication_error"
    );
}
