//! What the gateway tells of requests, and what it never tells.

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;

use protocol::{
    provider::Credential,
    secret::SecretString,
    snapshot::{Action, Guard, GuardRule, Mode, Phases, Prices, Retries, RouteEntry},
};
use serde_json::{Value, json};
use testkit::scripted_model::{Answer, ScriptedModel};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tracing_subscriber::fmt::MakeWriter;

use super::harness::{Harness, chat, completes, key, route, target};
use crate::{
    observe::{AccessLog, Collector, Exporter, LiteLlm, Observers, Written},
    upstream,
};

const COMPLETIONS: &str = "/v1/chat/completions";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn start(observers: Observers) -> (Harness, ScriptedModel) {
    let model = ScriptedModel::start(vec!["hello there".into()]).await;
    let mut own = target("own", "real", &[&model]);
    own.prices = Some(Prices {
        input_nanos: 1_000_000_000,
        cached_input_nanos: None,
        output_nanos: 1_000_000_000,
        ..Prices::default()
    });
    let routes = vec![route("m", vec![own])];
    (
        Harness::observed(routes, vec![key("a")], observers).await,
        model,
    )
}

/// What is in the log of a gateway that has ended.
async fn read_log(harness: Harness, written: Written, path: &Path) -> String {
    harness.shutdown.cancel();
    harness.ended().await;
    // Nobody says anything there: it ends.
    written.await.unwrap_err();
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request_when_the_gateway_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (access, written) = AccessLog::open(&path).unwrap();
    let observers = Observers {
        access: Some(access),
        ..Observers::default()
    };
    let (harness, _model) = start(observers).await;
    let answer = harness
        .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
        .await;
    let overhead: f64 = answer
        .header("x-gateway-overhead-duration-ms")
        .parse()
        .unwrap();
    assert!((0.0..10_000.0).contains(&overhead), "{overhead}");
    let mut stream = harness
        .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
        .await;
    completes(&mut stream, "hello there").await;
    let log = read_log(harness, written, &path).await;
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let told = |line: &Value, names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| line[name].clone()).collect()
    };
    let names = [
        "caller",
        "route",
        "model",
        "target",
        "upstream_model",
        "operation",
        "status",
        "outcome",
        "stream",
        "cost_usd",
    ];
    let expected = |stream: bool| {
        vec![
            json!("ns/a"),
            json!("ns/m"),
            json!("m"),
            json!("own"),
            json!("real"),
            json!("chat"),
            json!(200),
            json!("complete"),
            json!(stream),
            json!("0.000003"),
        ]
    };
    assert_eq!(told(&lines[0], &names), expected(false));
    assert_eq!(told(&lines[1], &names), expected(true));
    assert_eq!(lines[0]["id"], answer.header("x-request-id"));
    for line in &lines {
        let number = |name: &str| line[name].as_f64().unwrap();
        assert!(
            number("queue_ms") <= number("total_ms") && number("overhead_ms") <= number("total_ms"),
            "{line}"
        );
    }
}

/// The body of the first request that a collector gets.
async fn collect(listener: TcpListener) -> Value {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (_, length) = head.split_once("content-length: ").unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if body.len() == length {
                assert!(head.starts_with("post /v1/traces "), "{head}");
                break;
            }
        }
        assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    let at = got
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    serde_json::from_slice(&got[at + 4..]).unwrap()
}

#[tokio::test]
async fn a_span_reaches_the_collector_and_the_trace_the_upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let collector = Collector::new(&url, "node").unwrap();
    let (exporter, spans) = Exporter::new(0.0);
    let mut exporting = JoinSet::new();
    exporting.spawn(spans.export(upstream::client(), collector));
    let observers = Observers {
        traces: Some(exporter),
        ..Observers::default()
    };
    let (harness, model) = start(observers).await;
    // Of traces that begin here none is told, of those that a client samples all are.
    harness
        .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
        .await;
    let headers = [
        ("authorization", "Bearer qd-a"),
        ("traceparent", PARENT),
        ("tracestate", "a=b"),
    ];
    harness
        .post_with(COMPLETIONS, &headers, &chat("m", false))
        .await;
    let sent = model.requests()[1].headers.clone();
    let parent = sent["traceparent"].to_str().unwrap();
    assert!(
        parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && parent != PARENT,
        "{parent}"
    );
    assert_eq!(sent["tracestate"], "a=b");
    let got = collect(listener).await;
    let spans = &got["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(spans.as_array().unwrap().len(), 1);
    let span = &spans[0];
    assert_eq!(
        (&span["traceId"], &span["parentSpanId"], &span["name"]),
        (
            &json!("4bf92f3577b34da6a3ce929d0e0e4736"),
            &json!("00f067aa0ba902b7"),
            &json!("chat m")
        )
    );
    assert_eq!(parent.split('-').nth(2), span["spanId"].as_str());
    let text = |text: &str| json!({ "stringValue": text });
    let stop = json!({"arrayValue": {"values": [text("stop")]}});
    for (name, expected) in [
        ("gen_ai.operation.name", text("chat")),
        ("gen_ai.request.model", text("m")),
        ("gen_ai.response.model", text("real")),
        ("gen_ai.usage.output_tokens", json!({"intValue": "2"})),
        ("gen_ai.response.finish_reasons", stop),
        ("server.address", text("127.0.0.1")),
        ("error.type", Value::Null),
    ] {
        let attributes = span["attributes"].as_array().unwrap();
        let found = attributes.iter().find(|attribute| attribute["key"] == name);
        let found = found.map_or(Value::Null, |found| found["value"].clone());
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn a_client_s_trace_goes_through_without_a_collector() {
    let (harness, model) = start(Observers::default()).await;
    let headers = [("authorization", "Bearer qd-a"), ("traceparent", PARENT)];
    harness
        .post_with(COMPLETIONS, &headers, &chat("m", false))
        .await;
    harness
        .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
        .await;
    let requests = model.requests();
    assert_eq!(requests[0].headers["traceparent"], PARENT);
    assert_eq!(requests[1].headers.get("traceparent"), None);
}

#[tokio::test]
async fn dashboards_find_litellm_s_names() {
    let observers = Observers {
        litellm: Some(LiteLlm::default()),
        ..Observers::default()
    };
    let (harness, _model) = start(observers).await;
    harness
        .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
        .await;
    let metrics = harness.get("/metrics", None).await.text_body();
    let labels = r#"api_key_alias="ns/a",team="",model="real""#;
    for line in [
        format!("litellm_requests_metric_total{{{labels}}} 1"),
        format!("litellm_total_tokens_metric_total{{{labels}}} 3"),
        format!("litellm_spend_metric_total{{{labels}}} 0.000003"),
        format!("litellm_proxy_total_requests_metric_total{{{labels},status_code=\"200\"}} 1"),
        format!("litellm_request_total_latency_metric_count{{{labels}}} 1"),
        format!("litellm_overhead_latency_metric_count{{{labels}}} 1"),
    ] {
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logged {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What goes wrong, one after the other.
fn faults() -> Vec<Answer> {
    let cut = Answer::Cut {
        text: "answer-of-the-model x".to_owned(),
        events: 2,
    };
    let guarded = "answer-of-the-model a@b.org".into();
    vec![Answer::Status(500), cut, guarded, Answer::Status(401)]
}

fn guarded(model: &ScriptedModel) -> RouteEntry {
    let mut own = target("own", "real", &[model]);
    let credential = SecretString::new("upstream-credential".to_owned());
    own.credential = Some(Credential::Token(credential));
    let guard = Guard {
        name: "people".to_owned(),
        on: Phases::Answers,
        action: Action::Block,
        mode: Mode::Enforce,
        rule: GuardRule::Pii { kinds: Vec::new() },
    };
    RouteEntry {
        guards: vec![guard],
        retries: Retries {
            attempts: 0,
            backoff_millis: 1,
        },
        ..route("m", vec![own])
    }
}

/// All that clients are told while everything goes wrong, and the metrics.
async fn tell_all(harness: &Harness) -> String {
    let mut told = String::new();
    let key = "qd-secret-name";
    for (key, stream) in [
        (key, false),
        (key, true),
        (key, true),
        (key, false),
        ("qd-wrong-key", false),
    ] {
        let body = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "prompt-of-the-user"}]});
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str())];
        let answer = harness
            .post_with(COMPLETIONS, &headers, &body.to_string())
            .await;
        told.push_str(&answer.text_body().replace("answer-of-the-model", ""));
    }
    let bad = r#"{"model": "m", "messages": ["prompt-of-the-user"}"#;
    told.push_str(&harness.post(COMPLETIONS, Some(key), bad).await.text_body());
    told.push_str(&harness.get("/metrics", None).await.text_body());
    told
}

#[tokio::test]
async fn secrets_prompts_and_answers_are_in_no_log_metric_or_error() {
    let logged = Logged::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(logged.clone())
        .finish();
    // A test of its own thread: all tasks of this runtime are logged here.
    let _logging = tracing::subscriber::set_default(subscriber);
    let model = ScriptedModel::start(faults()).await;
    let guarded = guarded(&model);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (access, written) = AccessLog::open(&path).unwrap();
    let observers = Observers {
        access: Some(access),
        litellm: Some(LiteLlm::default()),
        ..Observers::default()
    };
    let harness = Harness::observed(vec![guarded], vec![key("secret-name")], observers).await;
    let mut told = tell_all(&harness).await;
    tokio::time::timeout(Duration::from_secs(5), harness.idle())
        .await
        .unwrap();
    told.push_str(&read_log(harness, written, &path).await);
    let log = String::from_utf8(logged.0.lock().clone()).unwrap();
    assert!(
        log.contains("request ended") && log.contains("a guard found something"),
        "{log}"
    );
    for secret in [
        "qd-secret-name",
        "qd-wrong-key",
        "upstream-credential",
        "prompt-of-the-user",
        "answer-of-the-model",
        "a@b.org",
    ] {
        assert!(!told.contains(secret), "{secret} is in {told}");
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}
