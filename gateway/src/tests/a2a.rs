//! Agents through the gateway: cards, messages, streams, and whose task is whose.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use protocol::{
    secret::SecretString,
    snapshot::{A2a, A2aAgent, Access, HeaderCredential, RouteEntry, UpstreamAuth},
};
use serde_json::{Value, json};
use testkit::agent_server::AgentServer;

use super::harness::{Harness, key};

const PATH: &str = "/a2a/ns/agents/travel";
const CARD: &str = "/a2a/ns/agents/travel/.well-known/agent-card.json";

async fn gateway(agent: &AgentServer) -> Harness {
    let auth = UpstreamAuth::Header(HeaderCredential {
        name: "X-Key".to_owned(),
        value: SecretString::new("own".to_owned()),
    });
    let agents = vec![A2aAgent {
        name: "travel".to_owned(),
        url: agent.url(),
        auth,
        timeout_millis: 20_000,
    }];
    let route = |name: &str, access: Access| RouteEntry {
        namespace: "ns".to_owned(),
        name: name.to_owned(),
        access,
        a2a: Some(A2a {
            agents: agents.clone(),
        }),
        ..RouteEntry::default()
    };
    let closed = Access::Keys(vec!["ns/a".to_owned()]);
    let routes = vec![
        route("agents", Access::AnyKey),
        route("closed", closed),
        route("open", Access::Open),
    ];
    Harness::start(routes, vec![key("a"), key("b")]).await
}

fn request(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": "q", "method": method, "params": params}).to_string()
}

fn message(text: &str) -> Value {
    json!({"message": {"messageId": "m", "role": "user", "parts": [{"kind": "text", "text": text}]}})
}

#[tokio::test]
async fn a_card_shows_the_gateway_s_address_and_keys() {
    for is_current in [true, false] {
        let agent = AgentServer::start(is_current).await;
        let harness = gateway(&agent).await;
        let card = harness.get(CARD, Some("qd-a")).await.json();
        let url = harness.url(PATH);
        let shown = match is_current {
            true => card["supportedInterfaces"][0]["url"].clone(),
            false => card["url"].clone(),
        };
        assert_eq!(shown, url);
        assert_eq!(
            (&card["name"], &card["version"]),
            (&json!("Travel"), &json!("7"))
        );
        assert_eq!(card["signatures"], Value::Null);
        let schemes = card["securitySchemes"].as_object().unwrap();
        assert_eq!(schemes.keys().collect::<Vec<_>>(), ["gatewayKey"]);
        let before = harness
            .get(&CARD.replace("agent-card", "agent"), Some("qd-a"))
            .await;
        assert_eq!(before.json(), card);
        let open = harness
            .get(&CARD.replace("agents/", "open/"), None)
            .await
            .json();
        assert_eq!(open["securitySchemes"], Value::Null);
        assert_eq!(harness.get(CARD, None).await.status, 401);
        let closed = CARD.replace("agents/", "closed/");
        assert_eq!(harness.get(&closed, Some("qd-b")).await.status, 404);
        assert_eq!(
            harness
                .get(&CARD.replace("travel", "none"), Some("qd-a"))
                .await
                .status,
            404
        );
        assert_eq!(harness.post(CARD, Some("qd-a"), "{}").await.status, 405);
        assert_eq!(harness.get(PATH, Some("qd-a")).await.status, 405);
    }
}

#[tokio::test]
async fn messages_and_streams_pass_as_they_are_and_are_in_the_ledger() {
    for (is_current, [send, stream]) in [
        (true, ["SendMessage", "SendStreamingMessage"]),
        (false, ["message/send", "message/stream"]),
    ] {
        let agent = AgentServer::start(is_current).await;
        let harness = gateway(&agent).await;
        let body = request(send, &message("hello"));
        let sent = Request::post(harness.url(PATH))
            .header("authorization", "Bearer qd-a")
            .header("a2a-version", "1.0")
            .header("cookie", "secret")
            .body(Full::new(Bytes::from(body.clone())))
            .unwrap();
        let answer = harness.raw(sent).await;
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["id"], "q");
        assert!(answer.to_string().contains(r#""ownField":1.5"#));
        let (headers, received) = agent.received().pop().unwrap();
        assert_eq!(received, serde_json::from_str::<Value>(&body).unwrap());
        assert_eq!(headers["x-key"], "own");
        assert_eq!(headers["a2a-version"], "1.0");
        assert!(!headers.contains_key("authorization") && !headers.contains_key("cookie"));
        let mut stream = harness
            .stream(PATH, Some("qd-a"), &request(stream, &message("hello")))
            .await;
        let first: Value = serde_json::from_str(&stream.next().await.unwrap()).unwrap();
        assert_eq!(first["id"], "q");
        assert!(stream.next().await.unwrap().contains("status-update"));
        assert_eq!(stream.next().await, None);
        let row = ("complete".to_owned(), 200, 0, 0);
        assert_eq!(harness.rows().await, [row.clone(), row]);
        let calls = r#"gateway_a2a_calls_total{server="ns/agents/travel",outcome="ok"} 2"#;
        assert!(harness.gateway.render_metrics().contains(calls));
    }
}

#[tokio::test]
async fn a_task_is_only_there_for_the_key_that_it_was_told_to() {
    let agent = AgentServer::start(false).await;
    let harness = gateway(&agent).await;
    let ask = async |key: &str, method: &str, params: Value| {
        let body = request(method, &params);
        harness.post(PATH, Some(key), &body).await.json()
    };
    let task = ask("qd-a", "message/send", message("hello")).await["result"]["id"].clone();
    let own = json!({ "id": task });
    assert_eq!(
        ask("qd-a", "tasks/get", own.clone()).await["result"]["id"],
        task
    );
    let mut reply = message("and");
    reply["message"]["taskId"] = task.clone();
    for (method, params) in [
        ("tasks/get", own.clone()),
        ("tasks/cancel", own.clone()),
        ("tasks/resubscribe", own.clone()),
        (
            "tasks/pushNotificationConfig/set",
            json!({"taskId": task, "pushNotificationConfig": {}}),
        ),
        ("message/send", reply),
    ] {
        let answer = ask("qd-b", method, params).await;
        assert_eq!(answer["error"]["code"], -32001, "{method}: {answer}");
    }
    assert_eq!(
        ask("qd-a", "tasks/list", json!({})).await["error"]["code"],
        -32004
    );
    assert_eq!(
        ask("qd-a", "own/method", json!({})).await["error"]["code"],
        -32601
    );
    let card = ask("qd-a", "agent/getAuthenticatedExtendedCard", json!({})).await;
    assert_eq!(card["result"]["url"], harness.url(PATH));
    assert_eq!(agent.received().len(), 3);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_stream_at_the_agent() {
    let agent = AgentServer::start(true).await;
    let harness = gateway(&agent).await;
    let body = request("SendStreamingMessage", &message("wait"));
    let mut stream = harness.stream(PATH, Some("qd-a"), &body).await;
    stream.next().await.unwrap();
    drop(stream);
    agent.abandoned(1).await;
    while harness.rows().await.iter().any(|row| row.0 == "open") {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.rows().await, [("cancelled".to_owned(), 499, 0, 0)]);
}

#[tokio::test]
async fn whatever_an_agent_answers_the_client_gets_an_error_in_the_protocol() {
    let agent = AgentServer::start(false).await;
    let harness = gateway(&agent).await;
    let body = request("message/send", &message("hello"));
    let form = "The agent `travel` did not answer in the protocol's form.";
    for (status, answer, message) in [
        (200, "", form),
        (200, "[1]", form),
        (
            401,
            "",
            "The agent `travel` refused the gateway's credential.",
        ),
        (
            500,
            "{}",
            "The agent `travel` answered with status 500 Internal Server Error.",
        ),
    ] {
        agent.answer_once(status, answer);
        let got = harness.post(PATH, Some("qd-a"), &body).await.json();
        assert_eq!(got["error"], json!({"code": -32603, "message": message}));
        assert_eq!(got["id"], "q");
    }
    for (body, code) in [
        ("", -32700),
        ("{}", -32600),
        (r#"{"jsonrpc":"2.0","method":"x"}"#, -32600),
    ] {
        let got = harness.post(PATH, Some("qd-a"), body).await.json();
        assert_eq!(got["error"]["code"], code);
    }
    drop(agent);
    let got = harness.post(PATH, Some("qd-a"), &body).await.json();
    let message = "The agent `travel` could not be reached.";
    assert_eq!(got["error"]["message"], message);
}
