//! Whole requests that another gateway shows: where they are sent, what is learned of their answers, what is refused.

mod client;
mod flags;

use protocol::snapshot::{
    Action, Adapter, Affinity, Guard, GuardRule, Mode, Phases, RouteEntry, Target,
};
use serde_json::{Value as Json, json};

use self::client::{Call, Client, head, piece};
use super::message::{
    BodyMode, HealthCheckRequest, HealthCheckResponse, Kind, List, Metadata, Mutation,
    ProcessingRequest, ProcessingResponse, ProtocolConfiguration, ServingStatus, Shown, Struct,
    Told, Value,
};
use crate::{
    endpoint::Standing,
    tests::harness::{Harness, key, route},
};

const PATH: &str = "/v1/chat/completions";
const USAGE: &str = r#"{"id":"c","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":80}}}"#;

/// A target whose replicas nobody asks.
fn pool(model: &str, replicas: usize) -> Target {
    Target {
        name: "pool".to_owned(),
        model: model.to_owned(),
        endpoints: (1..=replicas)
            .map(|replica| format!("http://10.0.0.{replica}:8000/v1"))
            .collect(),
        weight: 1,
        ..Target::default()
    }
}

async fn start(entry: RouteEntry) -> (Harness, Client) {
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let client = Client::of(&harness).await;
    (harness, client)
}

fn opening(path: &str, key: &str) -> ProcessingRequest {
    let authorization = format!("Bearer {key}");
    let headers = [
        (":method", "POST"),
        (":path", path),
        ("authorization", &authorization),
        ("x-gateway-destination-endpoint", "6.6.6.6:6"),
    ];
    ProcessingRequest {
        shown: Some(Shown::RequestHeaders(head(&headers))),
        ..ProcessingRequest::default()
    }
}

fn modes(request: BodyMode, response: BodyMode) -> Option<ProtocolConfiguration> {
    Some(ProtocolConfiguration {
        request_body_mode: request.into(),
        response_body_mode: response.into(),
    })
}

/// The endpoint that a reply names, the same in the header and in the metadata.
#[track_caller]
fn destination(reply: &ProcessingResponse) -> String {
    let Some(Told::RequestHeaders(told) | Told::RequestBody(told)) = &reply.told else {
        panic!("{reply:?}")
    };
    let headers = told.response.as_ref().unwrap().header_mutation.as_ref();
    let option = &headers.unwrap().set_headers[0];
    assert_eq!(option.append_action, 2);
    let header = option.header.as_ref().unwrap();
    assert_eq!(header.key, "x-gateway-destination-endpoint");
    let metadata = reply.dynamic_metadata.as_ref().unwrap();
    let Some(Kind::Struct(known)) = &metadata.fields["envoy.lb"].kind else {
        panic!("{metadata:?}")
    };
    let text = String::from_utf8(header.raw_value.to_vec()).unwrap();
    let expected = Kind::Text(text.clone());
    assert_eq!(
        known.fields["x-gateway-destination-endpoint"].kind,
        Some(expected)
    );
    text
}

/// The piece of a body that goes on, and whether it is the last one.
#[track_caller]
fn streamed(told: &Told) -> (String, bool) {
    let (Told::RequestBody(told) | Told::ResponseBody(told)) = told else {
        panic!("{told:?}")
    };
    let mutation = told.response.as_ref().unwrap().body_mutation.as_ref();
    let Some(Mutation::Streamed(piece)) = &mutation.unwrap().mutation else {
        panic!("{mutation:?}")
    };
    let text = String::from_utf8(piece.body.to_vec()).unwrap();
    (text, piece.end_of_stream)
}

/// Shows a request in two pieces; the call, and the endpoint that was picked.
async fn pick(client: &Client, body: &str) -> (Call, String) {
    let mut call = client.call().await;
    call.send(&opening(PATH, "qd-a"));
    let (first, rest) = body.split_at(body.len() / 2);
    call.show(Shown::RequestBody(piece(first, false)));
    call.show(Shown::RequestBody(piece(rest, true)));
    let picked = destination(&call.reply().await.unwrap());
    let mut seen = String::new();
    loop {
        let (text, is_end) = streamed(&call.told().await);
        seen.push_str(&text);
        if is_end {
            break;
        }
    }
    assert_eq!(seen, body);
    (call, picked)
}

/// Shows an answer, and sees that it goes on as it is.
async fn answer(mut call: Call, status: &str, content_type: &str, pieces: &[&str]) {
    let headers = [(":status", status), ("content-type", content_type)];
    call.show(Shown::ResponseHeaders(head(&headers)));
    assert!(matches!(call.told().await, Told::ResponseHeaders(_)));
    for (place, text) in pieces.iter().enumerate() {
        let is_end = place + 1 == pieces.len();
        call.show(Shown::ResponseBody(piece(text, is_end)));
        assert_eq!(streamed(&call.told().await), ((*text).to_owned(), is_end));
    }
    call.close().await;
}

fn conversation(topic: &str, turns: usize) -> String {
    let turns = (0..turns).map(|turn| {
        let role = ["user", "assistant"][turn % 2];
        json!({"role": role, "content": format!("{turn}: {}", topic.repeat(6000))})
    });
    json!({"model": "m", "messages": turns.collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn a_conversation_goes_on_at_the_replica_that_has_read_it() {
    let entry = RouteEntry {
        affinity: Affinity::Prefix,
        ..route("m", vec![pool("m", 3)])
    };
    let (harness, client) = start(entry).await;
    let (first, salt) = pick(&client, &conversation("salt ", 1)).await;
    let (second, moss) = pick(&client, &conversation("moss ", 1)).await;
    // What is in progress there counts.
    assert_ne!(salt, moss);
    answer(first, "200", "application/json", &[USAGE]).await;
    let events = [
        "data: {\"choices\":[{}]}\n\nda",
        "ta: {\"choices\":[{}]}\n\n",
        "data: [DONE]\n\n",
    ];
    answer(second, "200", "text/event-stream", &events).await;
    for turns in [3, 5] {
        for (topic, expected) in [("salt ", &salt), ("moss ", &moss)] {
            let (call, picked) = pick(&client, &conversation(topic, turns)).await;
            assert_eq!(&picked, expected, "turn {turns} about {topic}");
            answer(call, "200", "application/json", &[USAGE]).await;
        }
    }
    harness.at_rest().await;
    let mut rows = harness.rows().await;
    let complete = |prompt, completion| ("complete".to_owned(), 200, prompt, completion);
    assert_eq!(rows.remove(0), complete(100, 5));
    let guess = conversation("moss ", 1).len().div_ceil(4) as u64;
    assert_eq!(rows.remove(0), complete(guess, 2));
    assert_eq!(rows, vec![complete(100, 5); 4]);
    let metrics = harness.get("/metrics", None).await.text_body();
    let observed = r#"gateway_prefix_hit_ratio_count{route="ns/m"} 6"#;
    assert!(metrics.contains(observed), "{metrics}");
}

#[tokio::test]
async fn a_buffered_body_is_replaced_only_where_the_model_has_another_name() {
    let adapter = Adapter {
        name: "poet".to_owned(),
        model: "poet-v2".to_owned(),
        path: None,
    };
    let entry = |model: &str| RouteEntry {
        models: vec!["*".to_owned()],
        ..route(
            "m",
            vec![Target {
                adapters: vec![adapter.clone()],
                endpoints: vec!["http://127.0.0.1:1/v1".to_owned()],
                ..pool(model, 0)
            }],
        )
    };
    for (known, asked, expected) in [
        ("", "llama", None),
        ("llama", "llama", None),
        ("llama", "other", Some("llama")),
        ("llama", "llama:poet", Some("poet-v2")),
    ] {
        let (_harness, client) = start(entry(known)).await;
        let mut call = client.call().await;
        let opening = ProcessingRequest {
            protocol_config: modes(BodyMode::Buffered, BodyMode::None),
            ..opening(PATH, "qd-a")
        };
        call.send(&opening);
        assert!(matches!(call.told().await, Told::RequestHeaders(_)));
        let body = |model: &str| format!(r#"{{"x": 1.0,"model":"{model}","messages":[]}}"#);
        call.show(Shown::RequestBody(piece(&body(asked), true)));
        let reply = call.reply().await.unwrap();
        assert_eq!(destination(&reply), "127.0.0.1:1");
        let Some(Told::RequestBody(told)) = reply.told else {
            panic!("{reply:?}")
        };
        let common = told.response.unwrap();
        let mutation = common.body_mutation.and_then(|body| body.mutation);
        let expected = expected.map(body);
        let new = expected.clone().map(|body| Mutation::Body(body.into()));
        assert_eq!(mutation, new, "{asked} at {known}");
        let headers = common.header_mutation.unwrap().set_headers;
        let length = headers
            .get(1)
            .map(|option| option.header.clone().unwrap().raw_value);
        let expected = expected.map(|body| body.len().to_string());
        assert_eq!(length, expected.map(Into::into));
        // An answer whose body is not shown is counted by a guess.
        call.show(Shown::ResponseHeaders(head(&[(":status", "200")])));
        assert!(matches!(call.told().await, Told::ResponseHeaders(_)));
        call.close().await;
    }
}

#[tokio::test]
async fn a_body_may_end_with_trailers() {
    let (harness, client) = start(route("m", vec![pool("m", 1)])).await;
    let mut call = client.call().await;
    call.send(&opening(PATH, "qd-a"));
    let body = conversation("", 1);
    call.show(Shown::RequestBody(piece(&body, false)));
    call.show(Shown::RequestTrailers(Default::default()));
    assert_eq!(destination(&call.reply().await.unwrap()), "10.0.0.1:8000");
    assert_eq!(streamed(&call.told().await), (body, false));
    assert!(matches!(call.told().await, Told::RequestTrailers(_)));
    call.show(Shown::ResponseHeaders(head(&[(":status", "200")])));
    assert!(matches!(call.told().await, Told::ResponseHeaders(_)));
    call.show(Shown::ResponseTrailers(Default::default()));
    assert!(matches!(call.told().await, Told::ResponseTrailers(_)));
    call.close().await;
    harness.at_rest().await;
}

#[tokio::test]
async fn a_request_is_in_progress_until_its_call_ends() {
    let (harness, client) = start(route("m", vec![pool("m", 1)])).await;
    let (call, _) = pick(&client, &conversation("x", 1)).await;
    let table = harness.gateway.table().unwrap();
    let endpoint = &table.routes[0].targets[0].endpoints[0];
    assert_eq!(endpoint.in_flight(), 1);
    // Whoever goes away without an answer takes it along.
    drop(call);
    harness.at_rest().await;
    assert_eq!(harness.rows().await[0].0, "cancelled");
    let (call, _) = pick(&client, &conversation("x", 1)).await;
    assert_eq!(endpoint.in_flight(), 1);
    answer(call, "429", "application/json", &["{}"]).await;
    harness.at_rest().await;
    let (outcome, status, ..) = harness.rows().await.remove(1);
    assert_eq!((&*outcome, status), ("failed", 429));
}

#[tokio::test]
async fn a_replica_that_fails_is_left_out() {
    let (harness, client) = start(route("m", vec![pool("m", 2)])).await;
    let bad = "10.0.0.1:8000";
    let table = harness.gateway.table().unwrap();
    let endpoint = &table.routes[0].targets[0].endpoints[0];
    let is_out = || endpoint.standing(std::time::Instant::now()) == Standing::Ejected;
    let mut rounds = 0;
    while !is_out() {
        rounds += 1;
        assert!(rounds < 200, "it is never left out");
        let (call, picked) = pick(&client, &conversation("x", 1)).await;
        let status = if picked == bad { "503" } else { "200" };
        answer(call, status, "application/json", &["{}"]).await;
    }
    let (_call, picked) = pick(&client, &conversation("x", 1)).await;
    assert_ne!(picked, bad);
}

#[tokio::test]
async fn a_replica_that_asks_to_be_left_alone_is_not_picked_meanwhile() {
    let (_harness, client) = start(route("m", vec![pool("m", 1)])).await;
    let body = conversation("x", 1);
    let (mut call, _) = pick(&client, &body).await;
    let headers = [(":status", "429"), ("retry-after", "60")];
    call.show(Shown::ResponseHeaders(head(&headers)));
    assert!(matches!(call.told().await, Told::ResponseHeaders(_)));
    call.close().await;
    let (status, code) = refusal(&client, &opening(PATH, "qd-a"), &body).await;
    assert_eq!((status, &*code), (429, "rate_limit_exceeded"));
}

fn hint(endpoints: &[&str]) -> Option<Metadata> {
    let value = |kind| Value { kind: Some(kind) };
    let texts = endpoints
        .iter()
        .map(|text| value(Kind::Text((*text).to_owned())));
    let list = Kind::List(List {
        values: texts.collect(),
    });
    let name = "x-gateway-destination-endpoint-subset".to_owned();
    let fields = Struct {
        fields: [(name, value(list))].into_iter().collect(),
    };
    Some(Metadata {
        filter_metadata: [("envoy.lb.subset_hint".to_owned(), fields)]
            .into_iter()
            .collect(),
    })
}

/// Shows a request, and takes what comes in the place of an endpoint: status and code.
async fn refusal(client: &Client, opening: &ProcessingRequest, body: &str) -> (i32, String) {
    let mut call = client.call().await;
    call.send(opening);
    call.show(Shown::RequestBody(piece(body, true)));
    let Told::Immediate(refusal) = call.told().await else {
        panic!("it is not refused: {body}")
    };
    assert_eq!(call.reply().await, None);
    let body: Json = serde_json::from_slice(&refusal.body).unwrap();
    let code = body["error"]["code"].as_str().unwrap_or_default();
    (refusal.status.unwrap().code, code.to_owned())
}

#[tokio::test]
async fn only_replicas_of_the_subset_are_picked() {
    let entry = RouteEntry {
        affinity: Affinity::Prefix,
        ..route("m", vec![pool("m", 5)])
    };
    let (_harness, client) = start(entry).await;
    let body = conversation("salt ", 1);
    let within = |endpoints: &[&str]| ProcessingRequest {
        metadata_context: hint(endpoints),
        ..opening(PATH, "qd-a")
    };
    for expected in ["10.0.0.4:8000", "10.0.0.2:8000", "10.0.0.4:8000"] {
        let mut call = client.call().await;
        call.send(&within(&["10.9.9.9:1", expected]));
        call.show(Shown::RequestBody(piece(&body, true)));
        assert_eq!(destination(&call.reply().await.unwrap()), expected);
    }
    for none in [&[][..], &["10.9.9.9:8000"], &["10.0.0.1:8001"]] {
        let (status, _) = refusal(&client, &within(none), &body).await;
        assert_eq!(status, 503, "{none:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_picked_for_is_refused_in_the_clients_words() {
    let named = |name: &str, target: Target| RouteEntry {
        targets: vec![target],
        ..route(name, Vec::new())
    };
    let guard = Guard {
        name: "g".to_owned(),
        on: Phases::Both,
        action: Action::Block,
        mode: Mode::Enforce,
        rule: GuardRule::Secrets,
    };
    let limit = json!({"name": "one", "per": "Route", "concurrency": 1});
    let limit = serde_json::from_value(limit).unwrap();
    let url = |url: &str| Target {
        endpoints: vec![url.to_owned()],
        ..pool("m", 0)
    };
    let credential = serde_json::from_value(json!("sk-1")).unwrap();
    let routes = vec![
        named("m", pool("m", 1)),
        named("cold", pool("m", 0)),
        named("cloud", url("https://llm.example/v1")),
        named(
            "paid",
            Target {
                credential: Some(credential),
                ..pool("m", 1)
            },
        ),
        named(
            "narrow",
            Target {
                limits: serde_json::from_value(json!({"concurrency": 1})).unwrap(),
                ..pool("narrow", 1)
            },
        ),
        RouteEntry {
            guards: vec![guard],
            ..named("guarded", pool("m", 1))
        },
        RouteEntry {
            limits: vec![limit],
            ..named("limited", pool("limited", 1))
        },
    ];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let client = Client::of(&harness).await;
    let ask = async |opening: ProcessingRequest, model: &str, expected: (i32, &str)| {
        let body = json!({"model": model, "messages": []}).to_string();
        let (status, code) = refusal(&client, &opening, &body).await;
        assert_eq!((status, &*code), expected, "{model}");
    };
    let plain = || opening(PATH, "qd-a");
    ask(plain(), "none", (404, "model_not_found")).await;
    ask(opening(PATH, "wrong"), "m", (401, "invalid_api_key")).await;
    ask(opening("/v1/models", "qd-a"), "m", (404, "not_found")).await;
    for model in ["cold", "cloud", "paid"] {
        ask(plain(), model, (503, "unavailable")).await;
    }
    ask(plain(), "guarded", (403, "permission_denied")).await;
    for model in ["limited", "narrow"] {
        let body = json!({"model": model, "messages": []}).to_string();
        let (call, _) = pick(&client, &body).await;
        ask(plain(), model, (429, "rate_limit_exceeded")).await;
        drop(call);
    }
    harness.at_rest().await;
}

#[tokio::test]
async fn bodies_that_come_in_another_mode_or_are_too_long_are_refused() {
    let (harness, client) = start(route("m", vec![pool("m", 1)])).await;
    let streamed = ProcessingRequest {
        protocol_config: modes(BodyMode::Streamed, BodyMode::Streamed),
        ..opening(PATH, "qd-a")
    };
    let (status, code) = refusal(&client, &streamed, "{}").await;
    assert_eq!((status, &*code), (500, "internal_error"));
    let long = json!({"model": "m", "messages": ["x".repeat(2 << 20)]}).to_string();
    let mut call = client.call().await;
    call.send(&opening(PATH, "qd-a"));
    call.show(Shown::RequestBody(piece(&long[..1 << 20], false)));
    call.show(Shown::RequestBody(piece("x", false)));
    let Told::Immediate(refused) = call.told().await else {
        panic!("it is taken")
    };
    assert_eq!(refused.status.unwrap().code, 413);
    harness.at_rest().await;
}

#[tokio::test]
async fn health_says_whether_there_is_something_to_route_by() {
    let harness = Harness::empty().await;
    let client = Client::of(&harness).await;
    let check = async |service: &str, expected: (&str, Option<ServingStatus>)| {
        let asked = HealthCheckRequest {
            service: service.to_owned(),
        };
        let path = "/grpc.health.v1.Health/Check";
        let (status, answer) = client.ask::<HealthCheckResponse>(path, &asked).await;
        let answer = answer.map(|answer| answer.status());
        assert_eq!((&*status, answer), expected, "{service}");
    };
    check("liveness", ("0", Some(ServingStatus::Serving))).await;
    check("", ("0", Some(ServingStatus::NotServing))).await;
    harness.apply(vec![route("m", vec![pool("m", 1)])], Vec::new());
    check("", ("0", Some(ServingStatus::Serving))).await;
    check("other", ("5", None)).await;
    let asked = HealthCheckRequest::default();
    let path = "/envoy.service.ext_proc.v3.ExternalProcessor/Other";
    let (status, _) = client.ask::<HealthCheckResponse>(path, &asked).await;
    assert_eq!(status, "12");
}
