//! What hostile clients and servers can do: nothing but get an error.

use protocol::snapshot::{Access, Mcp, RouteEntry};
use serde_json::json;
use testkit::tool_server::Revision;

use super::{
    client::{Client, collect, request},
    gateway, server, tool_server, tools,
};
use crate::tests::harness::{Harness, key};

#[tokio::test]
async fn bodies_that_are_no_messages_are_refused() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    let long = format!(r#"{{"jsonrpc":"2.0","x":"{}"}}"#, "x".repeat(1 << 20));
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{}""#,
        "[".repeat(100_000)
    );
    for (body, status, code) in [
        ("", 400, -32700),
        ("nonsense", 400, -32700),
        (&deep, 400, -32700),
        ("\u{0}", 400, -32700),
        ("{}", 400, -32600),
        ("[]", 400, -32600),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            400,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            400,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}"#,
            400,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#,
            200,
            -32601,
        ),
        (r#"{"jsonrpc":"2.0","id":"qd-1","result":{}}"#, 400, -32600),
        (&long, 413, -32600),
    ] {
        let got = client.post(body).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(
            (got.status, &got.answer()["error"]["code"]),
            (status, &json!(code)),
            "{shown}"
        );
    }
    assert!(upstream.received_of("tools/call").is_empty());
    let accept = [("accept", "application/json".to_owned())];
    let answer = client.exchange("POST", &accept, "{}").await.status();
    // A second header adds to the first.
    assert_eq!(answer, 400);
    assert_eq!(client.exchange("PUT", &[], "").await.status(), 405);
    assert_eq!(
        Client::new(&harness, "/mcp/ns/none", "qd-a")
            .post("{}")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn whatever_a_server_answers_the_client_gets_an_error_in_the_protocol() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    client.ask("tools/list", &json!({})).await;
    let form = "The tool server `one` did not answer in the protocol's form.";
    let cut = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"res";
    let stranger = "data: {\"jsonrpc\":\"2.0\",\"id\":\"other\",\"result\":{\"secret\":1}}\n\n";
    let (json, events) = ("application/json", "text/event-stream");
    for (status, kind, body, message) in [
        (200, json, "", form),
        (200, json, "{\"jsonrpc\":", form),
        (
            200,
            json,
            r#"{"jsonrpc":"2.0","id":"other","result":{}}"#,
            form,
        ),
        (200, json, r#"[{"jsonrpc":"2.0"}]"#, form),
        (200, "text/html", "<html>", form),
        (202, json, "", form),
        (200, events, "", form),
        (200, events, cut, form),
        (200, events, stranger, form),
        (200, events, "data: nonsense\n\n: x\n\n", form),
        (
            302,
            "text/html",
            "",
            "The tool server `one` answered with status 302 Found.",
        ),
        (
            401,
            json,
            "",
            "The tool server `one` refused the gateway's credential.",
        ),
        (
            500,
            json,
            "{}",
            "The tool server `one` answered with status 500 Internal Server Error.",
        ),
    ] {
        upstream.answer_once(status, kind, body);
        let answer = client.ask("tools/call", &json!({"name": "one_echo"})).await;
        let expected = json!({"code": -32603, "message": message});
        assert_eq!(
            (&answer["id"], &answer["error"]),
            (&json!(7), &expected),
            "{status} {body}"
        );
        assert!(!answer.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_server_s_own_error_is_passed_on_and_entries_that_are_none_are_left_out() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    client.ask("tools/list", &json!({})).await;
    let json = "application/json";
    let refusal = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"own words"}}"#;
    upstream.answer_once(400, json, refusal);
    let answer = client.ask("tools/call", &json!({"name": "one_echo"})).await;
    assert_eq!(answer["error"], json!({"code": -1, "message": "own words"}));
    for list in [
        r#"{"tools":7}"#,
        r#"{"tools":[7,{"name":7},{"x":1},{"name":"a","name":"b"}]}"#,
    ] {
        let id = upstream.received().last().unwrap().body["id"]
            .as_u64()
            .unwrap()
            + 1;
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{list}}}"#);
        upstream.answer_once(200, json, &body);
        let answer = client.ask("tools/list", &json!({})).await;
        assert!(
            answer["result"]["tools"]
                .as_array()
                .is_none_or(Vec::is_empty),
            "{answer}"
        );
    }
    let answer = client.ask("tools/call", &json!({"name": "one_echo"})).await;
    assert!(answer["result"].is_object(), "{answer}");
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_its_time() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let mut slow = server("one", upstream.url());
    slow.timeout_millis = 200;
    let routes = vec![tools("tools", Access::AnyKey, vec![slow])];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    let answer = client.ask("tools/call", &json!({"name": "one_slow"})).await;
    let message = "The tool server `one` said nothing for 200ms.";
    assert_eq!(answer["error"]["message"], message);
    assert_eq!(harness.rows().await, [("failed".to_owned(), 504, 0, 0)]);
}

#[tokio::test]
async fn a_call_that_cannot_be_accounted_for_is_not_made() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    harness.fill_disk(true);
    for _ in 0..2 {
        let answer = client.ask("tools/call", &json!({"name": "one_echo"})).await;
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
    }
    assert_eq!(upstream.received_of("tools/call").len(), 1);
    harness.fill_disk(false);
    let answer = client.ask("tools/call", &json!({"name": "one_echo"})).await;
    assert!(answer["result"].is_object(), "{answer}");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_and_clients_are_sent_to_issuers() {
    let upstream = tool_server(Revision::Stateless, false).await;
    let route = tools("tools", Access::AnyKey, vec![server("one", upstream.url())]);
    let route = RouteEntry {
        mcp: route.mcp.map(|mcp| Mcp {
            allowed_origins: vec!["https://app.example.com".to_owned()],
            authorization_servers: vec!["https://login.example.com".to_owned()],
            ..mcp
        }),
        ..route
    };
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let client = Client::new(&harness, "/mcp", "qd-a");
    let list = request(1, "ping", &json!({}));
    for (origin, method, status) in [
        ("https://evil.example.com", "POST", 403),
        ("null", "GET", 403),
        ("https://app.example.com", "OPTIONS", 204),
        ("https://app.example.com", "POST", 400),
    ] {
        let headers = [("origin", origin.to_owned())];
        let got = collect(client.exchange(method, &headers, &list).await).await;
        assert_eq!(got.status, status, "{origin} {method}");
        let shared = got.headers.get("access-control-allow-origin");
        assert_eq!(shared.is_some(), status != 403);
    }
    let nobody = Client::new(&harness, "/mcp/ns/tools", "").post(&list).await;
    let url = harness.url("/.well-known/oauth-protected-resource/mcp/ns/tools");
    let challenge = format!("Bearer resource_metadata=\"{url}\"");
    assert_eq!(nobody.headers["www-authenticate"], challenge);
    let path = "/.well-known/oauth-protected-resource/mcp/ns/tools";
    let metadata = harness.get(path, None).await.json();
    let expected = json!({"resource": harness.url("/mcp/ns/tools"),
        "authorization_servers": ["https://login.example.com"], "bearer_methods_supported": ["header"]});
    assert_eq!(metadata, expected);
    assert_eq!(
        harness
            .get("/.well-known/oauth-protected-resource/mcp/x", None)
            .await
            .status,
        404
    );
}
