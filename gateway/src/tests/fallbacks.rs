//! Failures of a class: which ones go to the next target, to another route's model, or back to the client.

use protocol::{
    routing::{FailureClass, Fallback},
    snapshot::{Access, RouteEntry},
};
use serde_json::{Value, json};
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, chat, key, route, target};

fn to(on: &[FailureClass], model: Option<&str>) -> Fallback {
    Fallback {
        on: on.to_vec(),
        model: model.map(str::to_owned),
    }
}

fn too_long() -> Value {
    json!({"error": {"message": "This model's maximum context length is 4096 tokens.",
        "type": "invalid_request_error", "code": "context_length_exceeded"}})
}

/// Two routes: `small` fails like this and falls back like that; `big` answers those who may use it.
async fn check(failure: Answer, fallbacks: Vec<Fallback>, big: Access, expected: (u16, &str)) {
    let small = ScriptedModel::start(vec![failure.clone()]).await;
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let large = ScriptedModel::start(vec!["big".into()]).await;
    let targets = vec![
        target("own", "s", &[&small, &small]),
        target("spare", "s", &[&spare]),
    ];
    let routes = vec![
        RouteEntry {
            fallbacks,
            ..route("small", targets)
        },
        RouteEntry {
            access: big,
            ..route("big", vec![target("own", "b", &[&large])])
        },
    ];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let answer = harness
        .post("/v1/chat/completions", Some("qd-a"), &chat("small", false))
        .await;
    let shown = answer.header("x-gateway-target");
    assert_eq!((answer.status, &*shown), expected, "{failure:?}");
}

#[tokio::test]
async fn a_prompt_over_the_context_goes_where_the_route_says() {
    let failure = || Answer::Body(400, too_long());
    let window = &[FailureClass::ContextWindow][..];
    check(failure(), vec![], Access::AnyKey, (400, "")).await;
    check(
        failure(),
        vec![to(window, None)],
        Access::AnyKey,
        (200, "ns/small/spare"),
    )
    .await;
    check(
        failure(),
        vec![to(window, Some("big"))],
        Access::AnyKey,
        (200, "ns/big/own"),
    )
    .await;
}

#[tokio::test]
async fn refused_content_goes_where_the_route_says() {
    let body = json!({"error": {"message": "filtered", "code": "content_filter"}});
    let failure = || Answer::Body(400, body.clone());
    let content = &[FailureClass::ContentPolicy][..];
    let window = &[FailureClass::ContextWindow][..];
    check(
        failure(),
        vec![to(content, Some("big"))],
        Access::AnyKey,
        (200, "ns/big/own"),
    )
    .await;
    check(
        failure(),
        vec![to(window, Some("big"))],
        Access::AnyKey,
        (400, ""),
    )
    .await;
}

#[tokio::test]
async fn a_fallback_gives_no_access_that_the_caller_does_not_have() {
    let on = &[FailureClass::ContextWindow][..];
    let others = Access::Keys(vec!["ns/other".to_owned()]);
    let failure = Answer::Body(400, too_long());
    check(failure, vec![to(on, Some("big"))], others, (400, "")).await;
}

#[tokio::test]
async fn errors_stay_in_the_route_while_it_has_targets() {
    let on = &[FailureClass::Error][..];
    let spare = (200, "ns/small/spare");
    let big = || vec![to(on, Some("big"))];
    check(Answer::Status(500), big(), Access::AnyKey, spare).await;
    // A credential that is refused is no fault of the request's.
    check(Answer::Status(401), big(), Access::AnyKey, spare).await;
}

#[tokio::test]
async fn circles_of_fallbacks_end() {
    let failing = ScriptedModel::start(vec![Answer::Body(400, too_long())]).await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let routes = names.iter().enumerate().map(|(place, name)| RouteEntry {
        fallbacks: vec![to(
            &[FailureClass::ContextWindow],
            Some(names[(place + 1) % names.len()]),
        )],
        ..route(name, vec![target("own", name, &[&failing])])
    });
    let harness = Harness::start(routes.collect(), vec![key("a")]).await;
    let ask = async |model: &str| {
        let path = "/v1/chat/completions";
        harness.post(path, Some("qd-a"), &chat(model, false)).await
    };
    let answer = ask("a").await;
    assert_eq!((answer.status, answer.json()), (400, too_long()));
    // One try and three detours.
    assert_eq!(failing.requests().len(), 4);
    harness.idle().await;
}

#[tokio::test]
async fn a_route_without_replicas_falls_back_and_its_limits_are_given_back() {
    let large = ScriptedModel::start(vec!["big".into()]).await;
    let limit = |name: &str| protocol::snapshot::Limit {
        name: name.to_owned(),
        per: protocol::snapshot::Per::Route,
        requests: None,
        tokens: None,
        concurrency: Some(1),
        mode: protocol::snapshot::Mode::Enforce,
    };
    let routes = vec![
        RouteEntry {
            fallbacks: vec![to(&[FailureClass::ColdStart], Some("big"))],
            limits: vec![limit("one")],
            ..route("cold", vec![target("own", "c", &[])])
        },
        RouteEntry {
            limits: vec![limit("one")],
            ..route("big", vec![target("own", "b", &[&large])])
        },
    ];
    let harness = Harness::start(routes, vec![key("a")]).await;
    for _ in 0..3 {
        let body = chat("cold", false);
        let path = "/v1/chat/completions";
        let answer = harness.post(path, Some("qd-a"), &body).await;
        assert_eq!((answer.status, answer.text()), (200, "big".to_owned()));
    }
    let metrics = harness.get("/metrics", None).await.text_body();
    let counted = "gateway_fallbacks_total{route=\"ns/cold\",class=\"cold_start\"} 3";
    assert!(metrics.contains(counted), "{metrics}");
}

/// Asks `small`, which is down, with fields and headers; who answers, and what the upstreams were sent.
async fn falls_back_to(
    fields: Value,
    header: Option<&str>,
    of_key: &[&str],
) -> (u16, String, Vec<Value>) {
    let down = ScriptedModel::start(vec![Answer::Status(500)]).await;
    let large = ScriptedModel::start(vec!["big".into()]).await;
    let routes = vec![
        RouteEntry {
            fallbacks: vec![to(&[FailureClass::Error], Some("routes"))],
            ..route("small", vec![target("own", "s", &[&down])])
        },
        route("mine", vec![target("own", "b", &[&large])]),
        route("routes", vec![target("own", "b", &[&large])]),
        route("keys", vec![target("own", "b", &[&large])]),
        route("dear", vec![target("own", "b", &[&large])]),
        RouteEntry {
            access: Access::Keys(vec!["ns/other".to_owned()]),
            ..route("closed", vec![target("own", "b", &[&large])])
        },
    ];
    let mut holder = key("a");
    holder.allowance.models = ["small", "mine", "keys", "closed"]
        .map(str::to_owned)
        .to_vec();
    holder.allowance.fallbacks = of_key.iter().map(|model| (*model).to_owned()).collect();
    let harness = Harness::start(routes, vec![holder]).await;
    let mut body: Value = serde_json::from_str(&chat("small", false)).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    let mut headers = vec![("authorization", "Bearer qd-a")];
    headers.extend(header.map(|models| ("x-gateway-fallbacks", models)));
    let path = "/v1/chat/completions";
    let answer = harness.post_with(path, &headers, &body.to_string()).await;
    harness.at_rest().await;
    let sent = down.requests().into_iter().chain(large.requests());
    let sent = sent.map(|request| request.json()).collect();
    (answer.status, answer.header("x-gateway-target"), sent)
}

#[tokio::test]
async fn a_request_and_a_key_may_name_models_of_their_own() {
    let mine = json!({"fallbacks": ["mine"]});
    let (status, by, sent) = falls_back_to(mine, None, &["keys"]).await;
    assert_eq!((status, &*by), (200, "ns/mine/own"));
    // The field is the gateway's: no upstream sees it.
    assert!(
        sent.iter().all(|body| body.get("fallbacks").is_none()),
        "{sent:?}"
    );
    let (_, by, _) = falls_back_to(json!({}), Some("gone, mine"), &["keys"]).await;
    assert_eq!(by, "ns/mine/own");
    // The key's own come last; the route's is not for this key.
    let (_, by, _) = falls_back_to(json!({}), None, &["keys"]).await;
    assert_eq!(by, "ns/keys/own");
}

#[tokio::test]
async fn models_that_a_request_names_are_only_those_that_its_key_may_use() {
    for named in ["dear", "closed", "gone", "small"] {
        let fields = json!({"fallbacks": [named]});
        let (status, by, sent) = falls_back_to(fields, None, &[]).await;
        assert!(500 <= status && by.is_empty(), "{named}: {status} by {by}");
        assert!(sent.iter().all(|body| body["model"] == "s"), "{sent:?}");
    }
}

#[tokio::test]
async fn a_field_of_that_name_in_another_shape_is_the_upstreams() {
    let fields = json!({"fallbacks": "default"});
    let (_, _, sent) = falls_back_to(fields, None, &[]).await;
    assert_eq!(sent[0]["fallbacks"], "default");
}
