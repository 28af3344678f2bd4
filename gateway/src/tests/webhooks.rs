//! Guards that ask a service of the route's owner.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use protocol::{
    key::hex,
    secret::SecretString,
    snapshot::{Action, Guard, GuardRule, Mode, OnFailure, Phases, PiiKind, RouteEntry, Target},
};
use ring::hmac;
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;
use tokio::{net::TcpListener, task::JoinSet};

use super::harness::{Harness, Stream, key, route, target};

const CHAT: &str = "/v1/chat/completions";

/// What a service is asked, in order.
type Asked = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;
/// What it answers: status and body; `None` for never.
type Judge = fn(&Value) -> Option<(u16, Value)>;

/// A service that judges texts.
struct Service {
    url: String,
    asked: Asked,
    _tasks: JoinSet<()>,
}

impl Service {
    async fn start(judge: Judge) -> Self {
        let asked = Asked::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/judge", listener.local_addr().unwrap());
        let (taken, mut tasks) = (Arc::clone(&asked), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let taken = Arc::clone(&taken);
                let service = service_fn(move |request: Request<Incoming>| {
                    let taken = Arc::clone(&taken);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let question: Value = serde_json::from_slice(&body).unwrap();
                        taken.lock().push((head.headers, body));
                        let Some((status, answer)) = judge(&question) else {
                            return std::future::pending().await;
                        };
                        let answer = Full::new(Bytes::from(answer.to_string()));
                        let response = Response::builder().status(status);
                        Ok::<_, Infallible>(response.body(answer).unwrap())
                    }
                });
                connections
                    .spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            url,
            asked,
            _tasks: tasks,
        }
    }

    fn guard(&self) -> Guard {
        Guard {
            name: "judge".to_owned(),
            on: Phases::Both,
            action: Action::Block,
            mode: Mode::Enforce,
            rule: GuardRule::Webhook {
                url: self.url.clone(),
                timeout_millis: 5_000,
                on_failure: OnFailure::Fail,
                secret: Some(SecretString::new("whsec".to_owned())),
            },
        }
    }

    fn questions(&self) -> Vec<Value> {
        let asked = self.asked.lock();
        let read = |(_, body): &(HeaderMap, Bytes)| serde_json::from_slice(body).unwrap();
        asked.iter().map(read).collect()
    }

    /// The texts that it was asked about, by phase.
    fn texts(&self, phase: &str) -> Vec<Value> {
        let questions = self.questions().into_iter();
        let of_phase = questions.filter(|question| question["input_type"] == phase);
        of_phase.map(|question| question["texts"].clone()).collect()
    }
}

/// Lets everything pass but `bomb`, and hides what is `blue`.
fn strict(question: &Value) -> Option<(u16, Value)> {
    let texts: Vec<&str> = question["texts"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if texts.iter().any(|text| text.contains("bomb")) {
        let answer = json!({"action": "BLOCKED", "blocked_reason": "No\nbombs."});
        return Some((200, answer));
    }
    if !texts.iter().any(|text| text.contains("blue")) {
        return Some((200, json!({"action": "NONE"})));
    }
    let hidden: Vec<String> = texts
        .iter()
        .map(|text| text.replace("blue", "----"))
        .collect();
    Some((
        200,
        json!({"action": "GUARDRAIL_INTERVENED", "texts": hidden}),
    ))
}

async fn start(script: &[&str], guards: Vec<Guard>) -> (Harness, ScriptedModel) {
    let script = script.iter().map(|text| (*text).into()).collect();
    let model = ScriptedModel::start(script).await;
    let guarded = RouteEntry {
        guards,
        ..route("m", vec![target("own", "real", &[&model])])
    };
    (Harness::start(vec![guarded], vec![key("a")]).await, model)
}

fn says(text: &str, stream: bool) -> String {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]})
        .to_string()
}

/// The text of a stream, and the code of the error that ends it.
async fn read(mut stream: Stream) -> (String, String) {
    let (mut text, mut code) = (String::new(), String::new());
    while let Some(data) = stream.next().await {
        let Ok(event) = serde_json::from_str::<Value>(&data) else {
            continue;
        };
        let content = event["choices"][0]["delta"]["content"].as_str();
        text.push_str(content.unwrap_or_default());
        code.push_str(event["error"]["code"].as_str().unwrap_or_default());
    }
    (text, code)
}

#[tokio::test]
async fn a_service_sees_requests_and_answers_and_its_judgement_counts() {
    let service = Service::start(strict).await;
    let (harness, model) = start(&["the sky is blue"], vec![service.guard()]).await;
    let answer = harness
        .post(CHAT, Some("qd-a"), &says("a blue hi", false))
        .await;
    assert_eq!(answer.text(), "the sky is ----");
    assert_eq!(
        model.requests()[0].json()["messages"][0]["content"],
        "a ---- hi"
    );
    assert_eq!(service.texts("request"), [json!(["a blue hi"])]);
    assert_eq!(service.texts("response"), [json!(["the sky is blue"])]);
    let question = &service.questions()[0];
    assert_eq!(question["model"], "m");
    assert!(
        question["litellm_call_id"]
            .as_str()
            .unwrap()
            .starts_with("req_")
    );
    let data = json!({"route": "ns/m", "guard": "judge", "user_api_key_alias": "ns/a",
        "user_api_key_team_id": null, "user_api_key_user_id": null});
    assert_eq!(question["request_data"], data);

    let refused = harness
        .post(CHAT, Some("qd-a"), &says("a bomb", false))
        .await;
    assert_eq!(
        refused.fault(),
        (400, "content_policy_violation".to_owned())
    );
    let told = refused.json()["error"]["message"].clone();
    assert!(
        told.as_str()
            .unwrap()
            .ends_with("refuses the request. Nobombs."),
        "{told}"
    );
    assert_eq!(model.requests().len(), 1);
}

#[tokio::test]
async fn a_question_is_signed_with_the_secret() {
    let service = Service::start(strict).await;
    let (harness, _model) = start(&["x"], vec![service.guard()]).await;
    harness.post(CHAT, Some("qd-a"), &says("hi", false)).await;
    let (headers, body) = service.asked.lock()[0].clone();
    let signature = headers["x-quarterdeck-signature"]
        .to_str()
        .unwrap()
        .to_owned();
    let (time, tag) = signature.split_once(',').unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"whsec");
    let signed = [format!("{time}.").as_bytes(), &body[..]].concat();
    assert_eq!(
        tag,
        format!("v1={}", hex(hmac::sign(&key, &signed).as_ref()))
    );
    let now = jiff::Timestamp::now().as_second();
    assert!((now - time.parse::<i64>().unwrap()).abs() < 60);
}

#[tokio::test]
async fn without_a_judgement_the_policy_decides() {
    let never: Judge = |_| None;
    let broken: Judge = |_| Some((500, Value::Null));
    let nonsense: Judge = |_| Some((200, json!({"action": "MAYBE"})));
    let too_few: Judge = |_| Some((200, json!({"action": "GUARDRAIL_INTERVENED", "texts": []})));
    for judge in [never, broken, nonsense, too_few] {
        for (policy, mode, expected) in [
            (OnFailure::Fail, Mode::Enforce, 503),
            (OnFailure::Fail, Mode::Shadow, 200),
            (OnFailure::Ignore, Mode::Enforce, 200),
        ] {
            let service = Service::start(judge).await;
            let guard = Guard {
                mode,
                on: Phases::Requests,
                rule: GuardRule::Webhook {
                    url: service.url.clone(),
                    timeout_millis: 50,
                    on_failure: policy,
                    secret: None,
                },
                ..service.guard()
            };
            let (harness, _model) = start(&["x"], vec![guard]).await;
            let answer = harness.post(CHAT, Some("qd-a"), &says("hi", false)).await;
            assert_eq!(answer.status, expected, "{policy:?} {mode:?}");
            let metrics = harness.get("/metrics", None).await.text_body();
            let line = r#"{route="ns/m",guard="judge",phase="request",effect="failed"} 1"#;
            assert!(metrics.contains(line), "{metrics}");
        }
    }
}

#[tokio::test]
async fn a_stream_waits_for_the_judgement_and_changes_or_ends_with_it() {
    let service = Service::start(strict).await;
    let guard = Guard {
        on: Phases::Answers,
        ..service.guard()
    };
    let long = format!("{} blue end", "word ".repeat(600));
    let fatal = format!("{} bomb end", "word ".repeat(600));
    let script = ["so blue it is", &long, &fatal];
    let (harness, _model) = start(&script, vec![guard]).await;
    let ask = async || read(harness.stream(CHAT, Some("qd-a"), &says("hi", true)).await).await;
    assert_eq!(ask().await, ("so ---- it is".to_owned(), String::new()));
    // One short text, one question.
    assert_eq!(service.texts("response").len(), 1);
    assert_eq!(ask().await, (long.replace("blue", "----"), String::new()));
    let asked = service.texts("response").len();
    assert!((3..=5).contains(&asked), "{asked} questions");
    let (text, code) = ask().await;
    assert_eq!(code, "content_policy_violation");
    assert!(!text.is_empty() && !text.contains("bomb"), "{text}");
    harness.at_rest().await;
}

#[tokio::test]
async fn a_service_that_only_watches_changes_nothing() {
    let service = Service::start(strict).await;
    let guard = Guard {
        mode: Mode::Shadow,
        ..service.guard()
    };
    let (harness, _model) = start(&["a blue bomb"], vec![guard]).await;
    let answer = harness.post(CHAT, Some("qd-a"), &says("bomb", false)).await;
    assert_eq!(answer.text(), "a blue bomb");
    let stream = harness
        .stream(CHAT, Some("qd-a"), &says("blue", true))
        .await;
    assert_eq!(
        read(stream).await,
        ("a blue bomb".to_owned(), String::new())
    );
    assert_eq!(service.texts("response").len(), 2);
}

#[tokio::test]
async fn a_service_behind_a_mask_never_sees_whom_it_hides() {
    let service = Service::start(strict).await;
    let kinds = vec![PiiKind::Email];
    let mask = Guard {
        name: "people".to_owned(),
        action: Action::Mask,
        rule: GuardRule::Pii { kinds },
        ..service.guard()
    };
    // The model echoes what it was sent.
    let (harness, _model) = start(&[], vec![mask, service.guard()]).await;
    for stream in [false, true] {
        let body = says("mail bob@example.org now", stream);
        let text = if stream {
            read(harness.stream(CHAT, Some("qd-a"), &body).await)
                .await
                .0
        } else {
            harness.post(CHAT, Some("qd-a"), &body).await.text()
        };
        assert_eq!(text, "mail bob@example.org now");
    }
    let seen = format!("{:?}", service.questions());
    assert!(
        seen.contains("[EMAIL_1]") && !seen.contains("bob@"),
        "{seen}"
    );
}

#[tokio::test]
async fn what_a_fallbacks_guards_refuse_is_not_asked_there() {
    let service = Service::start(strict).await;
    let spare = ScriptedModel::start(vec!["spare".into()]).await;
    let cold = RouteEntry {
        fallbacks: vec![protocol::routing::Fallback {
            on: vec![protocol::routing::FailureClass::ColdStart],
            model: Some("spare".to_owned()),
        }],
        ..route(
            "m",
            vec![Target {
                ..target("own", "m", &[])
            }],
        )
    };
    let guarded = RouteEntry {
        guards: vec![service.guard()],
        ..route("spare", vec![target("own", "real", &[&spare])])
    };
    let harness = Harness::start(vec![cold, guarded], vec![key("a")]).await;
    let answer = harness.post(CHAT, Some("qd-a"), &says("hi", false)).await;
    assert_eq!(answer.text(), "spare");
    let refused = harness
        .post(CHAT, Some("qd-a"), &says("a bomb", false))
        .await;
    assert_eq!(refused.status, 503);
    assert_eq!(spare.requests().len(), 1);
}
