//! Requests that proxies could read in two ways, and texts that could become headers.

use serde_json::json;
use testkit::scripted_model::ScriptedModel;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::harness::{Harness, chat, key, route, target};

async fn start() -> (Harness, ScriptedModel) {
    let model = ScriptedModel::start(vec!["hello".into()]).await;
    let any = route("*", vec![target("own", "own-model", &[&model])]);
    let mut any = any;
    any.name = "any".to_owned();
    (Harness::start(vec![any], vec![key("a")]).await, model)
}

/// All that a connection gives back for these bytes.
async fn raw(harness: &Harness, bytes: &[u8]) -> String {
    let url = harness.url("");
    let mut stream = TcpStream::connect(url.trim_start_matches("http://"))
        .await
        .unwrap();
    // Who refuses may close before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut got = Vec::new();
    let reading = stream.read_to_end(&mut got);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), reading).await;
    String::from_utf8_lossy(&got).into_owned()
}

/// A request with these lines in its head, and a second one hidden in its body.
fn smuggled(lines: &str, body: &str) -> Vec<u8> {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer qd-a\r\n";
    format!("{head}{lines}\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn a_request_of_two_lengths_is_never_two_requests() {
    let (harness, model) = start().await;
    let hidden = "GET /v1/usage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer qd-a\r\n\r\n";
    let chunked = format!("0\r\n\r\n{hidden}");
    for (lines, body) in [
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            chunked.as_str(),
        ),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", &chunked),
        ("Transfer-Encoding: xchunked", &chunked),
        ("Transfer-Encoding: chunked, identity", &chunked),
        ("Transfer-Encoding : chunked", &chunked),
        ("Content-Length: 2\r\nContent-Length: 4", hidden),
        ("Content-Length: 2, 4", hidden),
        ("Content-Length: +2", hidden),
        ("Content-Length: 0x2", hidden),
        ("Content-Length: -1", hidden),
        ("Content-Length: 4\r\n X: folded", hidden),
        ("X: a\rContent-Length: 2", hidden),
        ("X: a\0b", hidden),
    ] {
        let got = raw(&harness, &smuggled(lines, body)).await;
        let answers = got.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{lines:?}: {got}");
        assert!(!got.contains("HTTP/1.1 200"), "{lines:?}: {got}");
        assert!(!got.contains("\"object\":\"list\""), "{lines:?}: {got}");
    }
    assert_eq!(model.requests().len(), 0);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let (harness, model) = start().await;
    let long = format!("X: {}", "x".repeat(2 << 20));
    assert!(
        !raw(&harness, &smuggled(&long, ""))
            .await
            .contains("HTTP/1.1 200")
    );
    let many: Vec<String> = (0..2000).map(|number| format!("X-{number}: 1")).collect();
    assert!(
        !raw(&harness, &smuggled(&many.join("\r\n"), ""))
            .await
            .contains("HTTP/1.1 200")
    );
    // The gateway is there for the next one.
    let answer = harness
        .post("/v1/chat/completions", Some("qd-a"), &chat("m", false))
        .await;
    assert_eq!((answer.status, model.requests().len()), (200, 1));
}

#[tokio::test]
async fn no_text_of_a_client_becomes_a_header() {
    let (harness, model) = start().await;
    let name = "m\r\nX-Injected: yes\r\n\r\nGET / HTTP/1.1";
    let body = json!({"model": name, "messages": []}).to_string();
    let headers = [
        ("authorization", "Bearer qd-a"),
        ("x-request-id", "mine"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 x",
        ),
    ];
    let answer = harness
        .post_with("/v1/chat/completions", &headers, &body)
        .await;
    assert_eq!(answer.header("x-injected"), "");
    assert_ne!(answer.header("x-request-id"), "mine");
    let sent = &model.requests()[0].headers;
    assert_eq!(sent.get("x-injected"), None);
    assert_eq!(sent.get("traceparent"), None);
    let unknown = harness
        .get(
            &format!("/v1/models/{}", "a%0d%0aX-Injected:%20yes"),
            Some("qd-a"),
        )
        .await;
    assert_eq!(unknown.header("x-injected"), "");
}
