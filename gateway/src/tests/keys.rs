//! Who may use what.

use protocol::{
    secret::SecretString,
    snapshot::{Access, RouteEntry, Target},
};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;

use super::harness::{Harness, chat, key, route, target};

async fn harness(model: &ScriptedModel) -> Harness {
    let to = |name: &str, access: Access| RouteEntry {
        access,
        ..route(name, vec![target("own", "m", &[model])])
    };
    let routes = vec![
        to("any", Access::AnyKey),
        to("closed", Access::Keys(vec!["ns/a".to_owned()])),
        RouteEntry {
            models: vec!["pattern-*".to_owned()],
            ..to("wide", Access::AnyKey)
        },
    ];
    Harness::start(routes, vec![key("a"), key("b")]).await
}

#[tokio::test]
async fn a_key_opens_what_it_is_for_and_the_rest_does_not_exist() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = harness(&model).await;
    let post = |key: Option<&'static str>, model: &'static str| {
        let harness = &harness;
        async move {
            harness
                .post("/v1/chat/completions", key, &chat(model, false))
                .await
        }
    };
    assert_eq!(post(Some("qd-a"), "closed").await.status, 200);
    assert_eq!(post(Some("qd-b"), "pattern-7").await.status, 200);
    assert_eq!(
        post(Some("qd-b"), "closed").await.fault(),
        (404, "model_not_found".to_owned())
    );
    assert_eq!(
        post(Some("qd-c"), "any").await.fault(),
        (401, "invalid_api_key".to_owned())
    );
    assert_eq!(
        post(None, "any").await.fault(),
        (401, "invalid_api_key".to_owned())
    );
    let hidden = post(Some("qd-b"), "closed")
        .await
        .json()
        .to_string()
        .replace("closed", "absent");
    assert_eq!(
        hidden,
        post(Some("qd-b"), "absent").await.json().to_string()
    );
}

#[tokio::test]
async fn models_are_listed_by_key() {
    let model = ScriptedModel::start(Vec::new()).await;
    let harness = harness(&model).await;
    let names = |answer: &super::harness::Answer| -> Vec<Value> {
        answer.json()["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].clone())
            .collect()
    };
    assert_eq!(
        names(&harness.get("/v1/models", Some("qd-a")).await),
        [json!("any"), json!("closed")]
    );
    assert_eq!(
        names(&harness.get("/v1/models", Some("qd-b")).await),
        [json!("any")]
    );
    assert_eq!(harness.get("/v1/models", Some("qd-x")).await.status, 401);
    assert_eq!(
        harness.get("/v1/models/any", Some("qd-b")).await.json()["id"],
        "any"
    );
    assert_eq!(
        harness.get("/v1/models/closed", Some("qd-b")).await.status,
        404
    );
}

#[tokio::test]
async fn an_open_route_asks_for_no_key_and_the_upstream_never_sees_the_clients() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let credential = Some(SecretString::new("upstream-key".to_owned()).into());
    let open = RouteEntry {
        access: Access::Open,
        ..route(
            "open",
            vec![Target {
                credential,
                ..target("own", "m", &[&model])
            }],
        )
    };
    let harness = Harness::start(vec![open], Vec::new()).await;
    for key in [None, Some("qd-whatever")] {
        assert_eq!(
            harness
                .post("/v1/chat/completions", key, &chat("open", false))
                .await
                .status,
            200
        );
    }
    for sent in model.requests() {
        assert_eq!(sent.headers["authorization"], "Bearer upstream-key");
    }
}
