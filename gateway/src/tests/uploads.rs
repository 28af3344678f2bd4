//! Forms: what reaches the upstream, when, and what is refused on the way.

use std::{convert::Infallible, io};

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use protocol::snapshot::{Action, Guard, GuardRule, Mode, Phases, RouteEntry};
use serde_json::{Value, json};
use testkit::scripted_model::{Answer, ScriptedModel};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use super::harness::{Harness, key, route, target};
use crate::upstream;

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";

fn field(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(bytes: usize) -> String {
    let content = "\r\n--X sound".repeat(bytes.div_ceil(11));
    format!(
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n{content}\r\n"
    )
}

fn form(parts: &[String]) -> String {
    format!("{}--XX--\r\n", parts.concat())
}

async fn send<B>(harness: &Harness, path: &str, body: B) -> Response<Incoming>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let request = Request::post(harness.url(path))
        .header("authorization", "Bearer qd-a")
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(body)
        .unwrap();
    upstream::client().request(request).await.unwrap()
}

async fn post(harness: &Harness, path: &str, form: String) -> (u16, Bytes) {
    let answer = send(harness, path, Full::new(Bytes::from(form))).await;
    let status = answer.status().as_u16();
    (
        status,
        answer.into_body().collect().await.unwrap().to_bytes(),
    )
}

fn json_of((status, body): &(u16, Bytes)) -> (u16, Value) {
    (*status, serde_json::from_slice(body).unwrap())
}

async fn start(name: &str, script: Vec<Answer>) -> (Harness, ScriptedModel) {
    let model = ScriptedModel::start(script).await;
    let route = route(name, vec![target("own", "real", &[&model])]);
    (Harness::start(vec![route], vec![key("a")]).await, model)
}

#[tokio::test]
async fn a_form_passes_with_the_targets_model_wherever_its_own_stands() {
    for size in [10, 1 << 20] {
        let (harness, model) = start("m", vec!["one two".into()]).await;
        let forms = |model: &str| {
            let fields = [field("model", model), field("language", "de"), file(size)];
            let mut reversed = fields.clone();
            reversed.reverse();
            [form(&fields), form(&reversed)]
        };
        for (sent, expected) in forms("m").into_iter().zip(forms("real")) {
            let answer = post(&harness, TRANSCRIPTIONS, sent).await;
            let (status, answer) = json_of(&answer);
            assert_eq!((status, &answer["text"]), (200, &json!("one two")));
            let sent = model.requests().pop().unwrap();
            assert_eq!(sent.path, TRANSCRIPTIONS);
            assert_eq!(sent.body, expected, "with a file of {size} bytes");
            assert_eq!(
                sent.headers["content-length"],
                expected.len().to_string().as_str()
            );
            let content_type = "multipart/form-data; boundary=XX";
            assert_eq!(sent.headers["content-type"], content_type);
        }
        let row = ("complete".to_owned(), 200, 8, 2);
        assert_eq!(harness.rows().await, [row.clone(), row]);
    }
}

#[tokio::test]
async fn texts_and_events_pass_as_the_upstream_answers() {
    let (harness, _model) = start("m", vec!["one two".into()]).await;
    let text = form(&[
        field("model", "m"),
        field("response_format", "text"),
        file(9),
    ]);
    let answer = post(&harness, TRANSCRIPTIONS, text).await;
    assert_eq!(answer, (200, Bytes::from_static(b"one two\n")));
    let events = form(&[field("model", "m"), file(9), field("stream", "true")]);
    let (status, events) = post(&harness, TRANSCRIPTIONS, events).await;
    let events = String::from_utf8(events.to_vec()).unwrap();
    assert_eq!(
        (
            status,
            events.matches("event: transcript.text.delta").count()
        ),
        (200, 2)
    );
    assert!(events.contains("event: transcript.text.done"));
    let rows = [
        ("complete".to_owned(), 200, 0, 0),
        ("complete".to_owned(), 200, 8, 2),
    ];
    assert_eq!(harness.rows().await, rows);
}

#[tokio::test]
async fn a_form_passes_a_route_with_guards() {
    let model = ScriptedModel::start(vec!["one two".into()]).await;
    let guard = Guard {
        name: "g".to_owned(),
        on: Phases::Both,
        action: Action::Mask,
        mode: Mode::Enforce,
        rule: GuardRule::Pii { kinds: Vec::new() },
    };
    let guarded = RouteEntry {
        guards: vec![guard],
        ..route("m", vec![target("own", "real", &[&model])])
    };
    let harness = Harness::start(vec![guarded], vec![key("a")]).await;
    let sound = form(&[field("model", "m"), file(9)]);
    let (status, answer) = json_of(&post(&harness, TRANSCRIPTIONS, sound).await);
    assert_eq!((status, &answer["text"]), (200, &json!("one two")));
}

#[tokio::test]
async fn a_form_without_a_model_gets_one() {
    for (path, name, is_after_line_end) in [
        ("/v1/images/variations", "dall-e-2", false),
        ("/v1/images/edits", "gpt-image-1.5", true),
        (
            "/openai/deployments/w/audio/translations?api-version=1",
            "w",
            false,
        ),
    ] {
        let (harness, model) = start(name, vec!["x".into()]).await;
        let start = if is_after_line_end { "\r\n" } else { "" };
        let sent = format!("{start}{}", form(&[file(300_000)]));
        assert_eq!(post(&harness, path, sent).await.0, 200);
        let sent = model.requests().pop().unwrap();
        assert_eq!(
            sent.body,
            form(&[field("model", "real"), file(300_000)]),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_form_that_is_kept_is_sent_to_the_next_target_after_a_failure() {
    let broken = ScriptedModel::start(vec![Answer::Status(500)]).await;
    let sound = ScriptedModel::start(vec!["one".into()]).await;
    let targets = vec![
        target("first", "a", &[&broken]),
        target("next", "b", &[&sound]),
    ];
    let harness = Harness::start(vec![route("m", targets)], vec![key("a")]).await;
    for size in [10, 1 << 20] {
        let forms = |model: &str| form(&[file(size), field("model", model)]);
        assert_eq!(post(&harness, TRANSCRIPTIONS, forms("m")).await.0, 200);
        assert_eq!(broken.requests().pop().unwrap().body, forms("a"));
        assert_eq!(sound.requests().pop().unwrap().body, forms("b"));
    }
}

#[tokio::test]
async fn what_has_passed_is_not_sent_again_but_what_has_not_is() {
    let broken = ScriptedModel::start(vec![Answer::Status(500)]).await;
    let sound = ScriptedModel::start(vec!["one".into()]).await;
    let forms = |model: &str| form(&[field("model", model), file(1 << 20)]);
    let targets = vec![
        target("first", "a", &[&broken]),
        target("next", "b", &[&sound]),
    ];
    let harness = Harness::start(vec![route("m", targets)], vec![key("a")]).await;
    assert_eq!(post(&harness, TRANSCRIPTIONS, forms("m")).await.0, 500);
    assert_eq!((broken.requests().len(), sound.requests().len()), (1, 0));
    // Nobody listens at the first target's address any more: not a byte goes there.
    drop(broken);
    while post(&harness, TRANSCRIPTIONS, forms("m")).await.0 != 200 {}
    assert_eq!(sound.requests().pop().unwrap().body, forms("b"));
}

#[tokio::test]
async fn the_file_passes_while_the_client_sends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut own = target("own", "real", &[]);
    own.endpoints = vec![url];
    let harness = Harness::start(vec![route("m", vec![own])], vec![key("a")]).await;
    let (chunks, chunks_sent) = mpsc::channel::<Bytes>(1);
    let (saw, has_seen) = oneshot::channel();
    let server = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        while received.len() < 300_000 {
            let count = stream.read(&mut chunk).await.unwrap();
            received.extend_from_slice(&chunk[..count]);
        }
        saw.send(()).unwrap();
        while !received.ends_with(b"--XX--\r\n\r\n0\r\n\r\n") {
            let count = stream.read(&mut chunk).await.unwrap();
            received.extend_from_slice(&chunk[..count]);
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"text\":\"a\"}";
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let client = async {
        let frames = stream::unfold(chunks_sent, |mut chunks| async {
            let chunk = chunks.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(chunk)), chunks))
        });
        let body = StreamBody::new(frames).boxed_unsync();
        let answer = send(&harness, TRANSCRIPTIONS, body).await;
        assert_eq!(answer.status(), 200);
    };
    let sender = async move {
        let whole = form(&[field("model", "m"), file(1 << 20)]);
        let (begin, end) = whole.split_at(512 << 10);
        chunks.send(Bytes::from(begin.to_owned())).await.unwrap();
        // The end is only sent once the upstream has seen the beginning.
        has_seen.await.unwrap();
        chunks.send(Bytes::from(end.to_owned())).await.unwrap();
    };
    tokio::join!(server, client, sender);
}

#[tokio::test]
async fn what_is_wrong_with_a_form_is_the_clients_fault() {
    let (harness, model) = start("m", vec!["one".into()]).await;
    let twice = [field("model", "m"), file(1 << 20), field("model", "other")];
    let cases = [
        ("it names no model", form(&[file(9)]), 400),
        (
            "two models in a small form",
            form(&[field("model", "m"), field("model", "x")]),
            400,
        ),
        ("a second model behind a large file", form(&twice), 400),
        ("it is cut off", field("model", "m"), 400),
        (
            "it is cut off behind a large file",
            field("model", "m") + &file(1 << 20),
            400,
        ),
        (
            "it is too large",
            form(&[field("model", "m"), file(5 << 20)]),
            413,
        ),
        (
            "nobody answers the model",
            form(&[field("model", "no"), file(9)]),
            404,
        ),
        (
            "a model that is a file",
            form(&[file(9).replace("file", "model")]),
            400,
        ),
    ];
    for (why, form, expected) in cases {
        let (status, body) = json_of(&post(&harness, TRANSCRIPTIONS, form).await);
        assert_eq!(status, expected, "{why}: {body}");
        assert_eq!(body["error"]["type"], "invalid_request_error", "{why}");
    }
    // None of that was held against the upstream.
    let sound = form(&[field("model", "m"), file(9)]);
    assert_eq!(post(&harness, TRANSCRIPTIONS, sound).await.0, 200);
    assert!(
        model
            .requests()
            .iter()
            .all(|request| request.json() == Value::Null)
    );
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_sends_is_no_failure_of_the_upstream() {
    let (harness, _model) = start("m", vec!["one".into()]).await;
    let begin = field("model", "m") + &file(1 << 20);
    let frames = stream::iter([
        Ok(Frame::data(Bytes::from(begin))),
        Err(io::Error::from(io::ErrorKind::ConnectionReset)),
    ]);
    let request = Request::post(harness.url(TRANSCRIPTIONS))
        .header("authorization", "Bearer qd-a")
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(StreamBody::new(frames).boxed_unsync())
        .unwrap();
    assert!(upstream::client().request(request).await.is_err());
    harness.idle().await;
    let metrics = harness.get("/metrics", None).await.text_body();
    assert!(!metrics.contains("gateway_ejections_total{"), "{metrics}");
    let sound = form(&[field("model", "m"), file(9)]);
    assert_eq!(post(&harness, TRANSCRIPTIONS, sound).await.0, 200);
}
