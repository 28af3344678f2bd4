//! Whatever is sent, an answer comes soon, and it is never that the gateway itself has failed.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;

use super::harness::{Harness, key, route, target};
use crate::upstream;

/// How long an answer may take, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Requests that are made up.
const CASES: u32 = 400;

#[derive(Debug, Clone)]
struct Made {
    method: Method,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        select(vec!["m", "user", "text", "auto", "24h"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    let known = vec![
        "model",
        "messages",
        "input",
        "prompt",
        "stream",
        "stream_options",
        "max_tokens",
        "n",
        "role",
        "content",
        "type",
        "tools",
        "metadata",
        "endpoint",
        "input_file_id",
        "completion_window",
        "documents",
        "query",
        "user",
    ];
    prop_oneof![4 => select(known).prop_map(str::to_owned), 1 => "[a-z_]{0,8}"]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let object = vec((name(), value()), 0..6).prop_map(|fields| {
        let mut object = json!({"model": "m"});
        for (name, value) in fields {
            object[name] = value;
        }
        object.to_string().into_bytes()
    });
    let form = vec(
        select(vec![
            "--XX\r\n",
            "--XX--\r\n",
            "Content-Disposition: form-data; name=\"model\"\r\n\r\n",
            "m\r\n",
            "\r\n",
            "Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n",
            "x",
        ]),
        0..8,
    );
    prop_oneof![
        6 => object,
        1 => value().prop_map(|value| value.to_string().into_bytes()),
        2 => form.prop_map(|pieces| pieces.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..64),
    ]
}

fn path() -> impl Strategy<Value = String> {
    let known = vec![
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/responses/input_tokens",
        "/v1/responses/compact",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/rerank",
        "/v2/rerank",
        "/v1/moderations",
        "/tokenize",
        "/detokenize",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/models",
        "/v1/models/m",
        "/v1/usage",
        "/v1/files",
        "/v1/files/x",
        "/v1/files/x/content",
        "/v1/batches",
        "/v1/batches/x",
        "/v1/batches/x/cancel",
        "/openai/deployments/m/chat/completions",
        "/metrics",
        "/healthz",
    ];
    let query = prop_oneof![3 => Just(String::new()), 1 => "\\?[a-z]{1,6}=[a-z0-9%]{0,6}"];
    let below = "(/[a-zA-Z0-9%._-]{0,8}){1,4}";
    let path = prop_oneof![8 => select(known).prop_map(str::to_owned), 1 => below];
    (path, query).prop_map(|(path, query)| path + &query)
}

fn made() -> impl Strategy<Value = Made> {
    let header = select(vec![
        ("authorization", "Bearer qd-a"),
        ("authorization", "Basic x"),
        ("x-api-key", "qd-a"),
        ("api-key", ""),
        ("content-type", "application/json"),
        ("content-type", "multipart/form-data; boundary=XX"),
        ("content-type", "multipart/form-data"),
        ("anthropic-version", "2023-06-01"),
        ("cache-control", "no-store"),
        ("x-quarterdeck-tags", "a,b"),
        ("expect", "x"),
        ("accept", "text/event-stream"),
        ("upgrade", "websocket"),
    ]);
    let methods = vec![
        Method::GET,
        Method::POST,
        Method::POST,
        Method::POST,
        Method::DELETE,
        Method::PUT,
        Method::PATCH,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let headers = vec(header, 0..4);
    (select(methods), path(), headers, body(), any::<bool>()).prop_map(
        |(method, path, mut headers, body, has_key)| {
            if has_key {
                headers.insert(0, ("authorization", "Bearer qd-a"));
            }
            Made {
                method,
                path,
                headers,
                body,
            }
        },
    )
}

#[test]
fn no_request_makes_the_gateway_fail_or_hang() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (harness, _model) = runtime.block_on(async {
        let model = ScriptedModel::start(Vec::new()).await;
        let routes = ["m", "omni-moderation-latest", "dall-e-2", "gpt-image-1.5"]
            .map(|name| route(name, vec![target("own", "real", &[&model])]));
        (Harness::start(routes.to_vec(), vec![key("a")]).await, model)
    });
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let checked = runner.run(&made(), |made| {
        let status = runtime.block_on(async {
            let mut request = Request::builder()
                .method(made.method)
                .uri(harness.url(&made.path));
            for (name, value) in &made.headers {
                request = request.header(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                );
            }
            let request = request.body(Full::new(Bytes::from(made.body)));
            let Ok(request) = request else {
                return Some(400);
            };
            let answered = async {
                let answer = upstream::client().request(request).await.ok()?;
                let status = answer.status().as_u16();
                answer.into_body().collect().await.ok()?;
                Some(status)
            };
            tokio::time::timeout(TIMEOUT, answered).await.ok().flatten()
        });
        prop_assert!(status.is_some_and(|status| status != 500), "{status:?}");
        Ok(())
    });
    checked.unwrap();
}
