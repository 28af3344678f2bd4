//! Requests of Anthropic's API: their key, their errors.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, chat, key, route, target};
use crate::upstream;

const MESSAGES: &str = "/v1/messages";

async fn start(script: Answer) -> (Harness, ScriptedModel) {
    let model = ScriptedModel::start(vec![script]).await;
    let route = route("m", vec![target("own", "m", &[&model])]);
    (Harness::start(vec![route], vec![key("a")]).await, model)
}

#[tokio::test]
async fn the_key_may_come_in_the_header_of_anthropics_clients() {
    let (harness, model) = start("hello".into()).await;
    for (key, status) in [("qd-a", 200), ("qd-b", 401)] {
        let request = Request::post(harness.url(MESSAGES)).header("x-api-key", key);
        let request = request.body(Full::new(Bytes::from(chat("m", false))));
        let answer = upstream::client().request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body["error"]["type"] == "authentication_error",
            status == 401
        );
    }
    let sent = &model.requests()[0].headers;
    assert_eq!(sent["anthropic-version"], "2023-06-01");
    assert_eq!(sent.get("x-api-key"), None);
}

#[tokio::test]
async fn errors_have_the_shape_of_anthropics() {
    let (harness, _model) = start(Answer::Body(500, "no shape".into())).await;
    for (model, status, kind) in [("m", 500, "api_error"), ("nobody", 404, "not_found_error")] {
        let answer = harness
            .post(MESSAGES, Some("qd-a"), &chat(model, false))
            .await;
        assert_eq!(answer.status, status);
        let body = answer.json();
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&"error".into(), &kind.into())
        );
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_an_error_event_of_anthropics() {
    let cut = Answer::Cut {
        text: "one two three".to_owned(),
        events: 2,
    };
    let (harness, _model) = start(cut).await;
    let mut stream = harness
        .stream(MESSAGES, Some("qd-a"), &chat("m", true))
        .await;
    let mut last = String::new();
    while let Some(data) = stream.next().await {
        last = data;
    }
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (&last["type"], &last["error"]["type"]),
        (&"error".into(), &"api_error".into())
    );
}
