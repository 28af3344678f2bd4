//! What a collector is told: what was said, metrics and lines of the access log.

use std::{sync::Arc, time::Duration};

use protocol::{
    provider::Api,
    snapshot::{Action, Guard, GuardRule, Mode, Phases, RouteEntry},
};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::harness::{Harness, chat, key, route, target};
use crate::{
    observe::{self, Collector, Exporter, LogExporter, Observers},
    upstream,
};

/// A collector on a free port.
struct FakeCollector {
    listener: TcpListener,
}

impl FakeCollector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn known(&self) -> Collector {
        let url = format!("http://{}", self.listener.local_addr().unwrap());
        Collector::new(&url, "node").unwrap()
    }

    /// The path and the body of the next request that is complete.
    async fn next(&self) -> (String, Value) {
        loop {
            let (stream, _) = self.listener.accept().await.unwrap();
            if let Some(told) = read(stream).await {
                return told;
            }
        }
    }
}

/// The path and the body of a request; nothing if whoever tells has gone away.
async fn read(mut stream: TcpStream) -> Option<(String, Value)> {
    let mut got = Vec::new();
    let (path, at) = loop {
        let text = String::from_utf8_lossy(&got).to_string();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let (_, length) = lower.split_once("content-length: ").unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if body.len() == length {
                let path = head.split(' ').nth(1).unwrap().to_owned();
                break (path, head.len() + 4);
            }
        }
        if stream.read_buf(&mut got).await.ok()? == 0 {
            return None;
        }
    };
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await.ok()?;
    Some((path, serde_json::from_slice(&got[at..]).unwrap()))
}

/// A gateway in front of a model that says what it hears, with mail addresses masked, and what exports its spans.
async fn echoing(tells_content: bool) -> (FakeCollector, Harness, ScriptedModel, JoinSet<()>) {
    let collector = FakeCollector::start().await;
    let (exporter, spans) = Exporter::new(1.0);
    let mut exporting = JoinSet::new();
    exporting.spawn(spans.export(upstream::client(), collector.known()));
    let observers = Observers {
        traces: Some(exporter.telling_content(tells_content)),
        ..Observers::default()
    };
    let model = ScriptedModel::start(Vec::new()).await;
    let mut own = target("own", "real", &[&model]);
    own.apis = vec![Api::Chat];
    let guard = Guard {
        name: "people".to_owned(),
        on: Phases::Both,
        action: Action::Mask,
        mode: Mode::Enforce,
        rule: GuardRule::Pii { kinds: Vec::new() },
    };
    let entry = RouteEntry {
        guards: vec![guard],
        ..route("m", vec![own])
    };
    let harness = Harness::observed(vec![entry], vec![key("a")], observers).await;
    (collector, harness, model, exporting)
}

/// Requests of three APIs that say the same, whole and streamed.
fn requests() -> Vec<(&'static str, Value)> {
    const SAID: &str = "write to ann@example.org";
    let messages = json!([{"role": "user", "content": SAID}]);
    let each = [
        ("/v1/chat/completions", "messages", messages.clone()),
        ("/v1/messages", "messages", messages),
        ("/v1/responses", "input", json!(SAID)),
    ];
    let both = each.into_iter().flat_map(|(path, field, said)| {
        [false, true].map(|stream| {
            let mut body = json!({"model": "m", "stream": stream, "max_tokens": 100});
            body[field] = said.clone();
            if path == "/v1/responses" {
                body.as_object_mut().unwrap().remove("max_tokens");
            }
            (path, body)
        })
    });
    both.collect()
}

/// Sends all requests; the spans that the collector gets of them.
async fn spans_of_all(tells_content: bool) -> Vec<Value> {
    let (collector, harness, model, _exporting) = echoing(tells_content).await;
    for (path, body) in requests() {
        let answer = harness.post(path, Some("qd-a"), &body.to_string()).await;
        let shown = answer.text_body();
        assert_eq!(answer.status, 200, "{path}: {shown}");
        // The model does not get to know it, and the client gets it back.
        let asked = String::from_utf8(model.requests().last().unwrap().body.to_vec()).unwrap();
        assert!(!asked.contains("ann@example.org"), "{asked}");
        assert!(shown.contains("ann@example.org"), "{path}: {shown}");
    }
    harness.idle().await;
    let mut spans = Vec::new();
    while spans.len() < requests().len() {
        let (path, told) = collector.next().await;
        assert_eq!(path, "/v1/traces");
        let these = told["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array();
        spans.extend(these.unwrap().iter().cloned());
    }
    spans
}

/// The value of an attribute.
fn attribute(of: &Value, name: &str) -> Value {
    let attributes = of["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == name);
    found.map_or(Value::Null, |found| found["value"].clone())
}

#[tokio::test]
async fn spans_tell_what_was_said_with_the_masks_of_guards() {
    let said =
        json!([{"role": "user", "parts": [{"type": "text", "content": "write to [EMAIL_1]"}]}]);
    let answered = json!([{
        "role": "assistant",
        "parts": [{"type": "text", "content": "write to [EMAIL_1]"}],
        "finish_reason": "stop",
    }]);
    let spans = spans_of_all(true).await;
    for span in &spans {
        let text = |name: &str| attribute(span, name)["stringValue"].clone();
        let read = |name: &str| -> Value {
            serde_json::from_str(text(name).as_str().unwrap_or("null")).unwrap()
        };
        assert_eq!(read("gen_ai.input.messages"), said, "{span}");
        assert_eq!(read("gen_ai.output.messages"), answered, "{span}");
        assert_eq!(text("gen_ai.system_instructions"), Value::Null);
        assert_eq!(text("gen_ai.tool.definitions"), Value::Null);
    }
    assert!(!json!(spans).to_string().contains("example.org"));
}

#[tokio::test]
async fn spans_tell_nothing_of_what_was_said_unasked() {
    let spans = spans_of_all(false).await;
    let all = json!(spans).to_string();
    for said in [
        "write to",
        "EMAIL",
        "example.org",
        "gen_ai.input",
        "gen_ai.output",
    ] {
        assert!(!all.contains(said), "{said} is in {all}");
    }
}

#[tokio::test]
async fn an_answer_that_is_withheld_is_not_told() {
    let collector = FakeCollector::start().await;
    let (exporter, spans) = Exporter::new(1.0);
    let mut exporting = JoinSet::new();
    exporting.spawn(spans.export(upstream::client(), collector.known()));
    let observers = Observers {
        traces: Some(exporter.telling_content(true)),
        ..Observers::default()
    };
    let model = ScriptedModel::start(vec!["it is ann@example.org".into()]).await;
    let guard = |on: Phases| Guard {
        name: "people".to_owned(),
        on,
        action: Action::Block,
        mode: Mode::Enforce,
        rule: GuardRule::Pii { kinds: Vec::new() },
    };
    let entry = RouteEntry {
        guards: vec![guard(Phases::Both)],
        ..route("m", vec![target("own", "real", &[&model])])
    };
    let harness = Harness::observed(vec![entry], vec![key("a")], observers).await;
    let path = "/v1/chat/completions";
    let withheld = harness.post(path, Some("qd-a"), &chat("m", false)).await;
    assert_ne!(withheld.status, 200);
    let refused = chat("m", false).replace("\"hi\"", "\"bob@example.org\"");
    let refused = harness.post(path, Some("qd-a"), &refused).await;
    assert_ne!(refused.status, 200);
    harness.idle().await;
    let mut spans = Vec::new();
    while spans.len() < 2 {
        let (_, told) = collector.next().await;
        let these = told["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array();
        spans.extend(these.unwrap().iter().cloned());
    }
    let all = json!(spans).to_string();
    assert!(!all.contains("example.org"), "{all}");
    assert_eq!(attribute(&spans[0], "gen_ai.output.messages"), Value::Null);
    assert_ne!(attribute(&spans[0], "gen_ai.input.messages"), Value::Null);
    assert_eq!(attribute(&spans[1], "gen_ai.input.messages"), Value::Null);
}

#[tokio::test]
async fn lines_of_the_access_log_reach_the_collector() {
    let collector = FakeCollector::start().await;
    let (logs, lines) = LogExporter::new();
    let mut exporting = JoinSet::new();
    exporting.spawn(lines.export(upstream::client(), collector.known()));
    let observers = Observers {
        logs: Some(logs),
        ..Observers::default()
    };
    let model = ScriptedModel::start(vec!["hello there".into()]).await;
    let entry = route("m", vec![target("own", "real", &[&model])]);
    let harness = Harness::observed(vec![entry], vec![key("a")], observers).await;
    let headers = [
        ("authorization", "Bearer qd-a"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ];
    let answer = harness
        .post_with("/v1/chat/completions", &headers, &chat("m", false))
        .await;
    let (path, told) = collector.next().await;
    assert_eq!(path, "/v1/logs");
    let records = told["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array();
    let record = &records.unwrap()[0];
    let line: Value =
        serde_json::from_str(record["body"]["stringValue"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&line["route"], &line["status"], &line["id"]),
        (
            &json!("ns/m"),
            &json!(200),
            &json!(answer.header("x-request-id"))
        )
    );
    assert_eq!(record["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(record["severityText"], "INFO");
    let status = attribute(record, "http.response.status_code");
    assert_eq!(status, json!({"intValue": "200"}));
}

#[tokio::test]
async fn metrics_reach_the_collector_now_and_then_and_at_the_end() {
    let collector = FakeCollector::start().await;
    let model = ScriptedModel::start(vec!["hello there".into()]).await;
    let entry = route("m", vec![target("own", "real", &[&model])]);
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let end = CancellationToken::new();
    let mut pushing = JoinSet::new();
    pushing.spawn(observe::push(
        Arc::clone(&harness.gateway),
        (upstream::client(), collector.known()),
        Duration::from_millis(1),
        end.clone(),
    ));
    let find = |told: &Value, name: &str| -> Value {
        let metrics = told["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array();
        let mut metrics = metrics.unwrap().iter();
        let found = metrics.find(|metric| metric["name"] == name);
        found.cloned().unwrap_or_default()
    };
    let name = "gen_ai.server.request.duration";
    let (path, told) = collector.next().await;
    assert_eq!((&*path, find(&told, name)), ("/v1/metrics", Value::Null));
    let body = chat("m", false);
    let answer = harness
        .post("/v1/chat/completions", Some("qd-a"), &body)
        .await;
    assert_eq!(answer.status, 200);
    end.cancel();
    // What was under way, and the last one.
    let last = async {
        let mut last = Value::Null;
        loop {
            tokio::select! {
                (_, told) = collector.next() => last = told,
                _ = pushing.join_next() => break last,
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), last)
        .await
        .unwrap();
    let metric = find(&told, name);
    let point = &metric["histogram"]["dataPoints"][0];
    assert_eq!(
        (&metric["unit"], &point["count"]),
        (&json!("s"), &json!("1"))
    );
    let model = attribute(point, "gen_ai.response.model");
    assert_eq!(model, json!({"stringValue": "real"}));
}
