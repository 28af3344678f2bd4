//! Sessions, streams, and what goes from servers to clients.

use serde_json::{Value, json};
use testkit::tool_server::Revision;

use super::{
    client::{Client, Messages, collect, request},
    gateway, tool_server,
};

#[tokio::test]
async fn a_session_belongs_to_one_key_and_one_path() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    let own = Client::open(&harness, "/mcp", "qd-a").await;
    let list = request(2, "tools/list", &json!({}));
    assert_eq!(own.post(&list).await.status, 200);
    for (path, key) in [("/mcp", "qd-b"), ("/mcp/ns/tools", "qd-a")] {
        let other = Client {
            session: own.session.clone(),
            ..Client::new(&harness, path, key)
        };
        assert_eq!(other.post(&list).await.status, 404);
        assert_eq!(other.exchange("GET", &[], "").await.status(), 404);
        assert_eq!(other.exchange("DELETE", &[], "").await.status(), 404);
    }
    let none = Client::new(&harness, "/mcp", "qd-a");
    assert_eq!(none.post(&list).await.status, 400);
    assert_eq!(own.post(&list).await.status, 200);
    assert_eq!(upstream.sessions_made(), 1);
}

#[tokio::test]
async fn each_client_has_its_own_session_at_the_server_and_ends_it() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    let mut clients = Vec::new();
    for key in ["qd-a", "qd-a", "qd-b"] {
        let client = Client::open(&harness, "/mcp", key).await;
        client.ask("tools/list", &json!({})).await;
        clients.push(client);
    }
    let stateless = Client::stateless(&harness, "/mcp", "qd-a");
    for _ in 0..2 {
        stateless.ask("tools/list", &json!({})).await;
    }
    // Those without sessions share one by key.
    assert_eq!(upstream.sessions_open(), 4);
    for client in clients {
        assert_eq!(client.exchange("DELETE", &[], "").await.status(), 204);
        assert_eq!(client.exchange("DELETE", &[], "").await.status(), 404);
    }
    while 1 < upstream.sessions_open() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_session_that_the_server_lost_is_opened_again_once() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    for _ in 0..2 {
        let answer = client.ask("tools/call", &json!({"name": "one_echo"})).await;
        assert!(answer["result"].is_object(), "{answer}");
        upstream.forget_sessions();
    }
    assert_eq!(upstream.sessions_made(), 2);
}

#[tokio::test]
async fn revisions_are_agreed_on() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    for (wanted, agreed) in [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        let mut client = Client::new(&harness, "/mcp", "qd-a");
        assert_eq!(client.initialize(wanted).await, agreed);
    }
    let client = Client::stateless(&harness, "/mcp", "qd-a");
    let found = client.ask("server/discover", &json!({})).await;
    let supported = json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"]);
    assert_eq!(found["result"]["supportedVersions"], supported);
    let unknown = Client {
        version: "2031-01-01",
        ..Client::new(&harness, "/mcp", "qd-a")
    };
    let got = unknown.post(&request(3, "tools/list", &json!({}))).await;
    assert_eq!(got.status, 400);
    let data = json!({"supported": supported, "requested": "2031-01-01"});
    assert_eq!(got.answer()["error"]["code"], -32022);
    assert_eq!(got.answer()["error"]["data"], data);
}

#[tokio::test]
async fn several_messages_come_together_in_one_revision_only() {
    let upstream = tool_server(Revision::Sessions, true).await;
    let harness = gateway(&upstream).await;
    let mut client = Client::new(&harness, "/mcp", "qd-a");
    let call = json!({"name": "one_echo", "arguments": {"x": 1}});
    let batch = format!(
        r#"[{}, {{"jsonrpc":"2.0","method":"notifications/x"}}, {}, 7]"#,
        request(1, "ping", &json!({})),
        request(2, "tools/call", &call)
    );
    client.initialize("2025-11-25").await;
    assert_eq!(client.post(&batch).await.status, 400);
    client.initialize("2025-03-26").await;
    client.version = "2025-03-26";
    let got = client.post(&batch).await;
    let answers: Vec<Value> = serde_json::from_str(&got.text).unwrap();
    assert_eq!(answers[0], json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(answers[1]["result"]["structuredContent"], json!({"x": 1}));
    assert_eq!(answers[2]["error"]["code"], -32600);
    assert_eq!(answers.len(), 3);
}

#[tokio::test]
async fn progress_is_shown_and_the_answer_follows() {
    for revision in [Revision::Sessions, Revision::Stateless] {
        let upstream = tool_server(revision, false).await;
        let harness = gateway(&upstream).await;
        let old = Client::open(&harness, "/mcp", "qd-a").await;
        let new = Client::stateless(&harness, "/mcp", "qd-a");
        for client in [old, new] {
            let call = json!({"name": "one_slow", "_meta": {"progressToken": "mine"}});
            let mut messages = Messages::of(client.start("tools/call", &call).await);
            let progress = messages.next().await.unwrap();
            assert_eq!(progress["method"], "notifications/progress");
            assert_eq!(progress["params"]["progressToken"], "mine");
            upstream.release();
            let answer = messages.next().await.unwrap();
            assert_eq!(answer["id"], 7);
            assert_eq!(answer["result"]["content"][0]["text"], "at last");
            assert!(messages.next().await.is_none());
        }
        assert_eq!(harness.rows().await.len(), 2);
    }
}

#[tokio::test]
async fn a_call_is_cancelled_by_the_means_of_each_side() {
    for revision in [Revision::Sessions, Revision::Stateless] {
        let upstream = tool_server(revision, false).await;
        let harness = gateway(&upstream).await;
        let old = Client::open(&harness, "/mcp", "qd-a").await;
        let call = json!({"name": "one_slow"});
        let mut messages = Messages::of(old.start("tools/call", &call).await);
        messages.next().await.unwrap();
        let params = json!({"requestId": 7, "reason": "enough"});
        let cancelled =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        assert_eq!(old.post(&cancelled.to_string()).await.status, 202);
        upstream.cancelled(1).await;
        let new = Client::stateless(&harness, "/mcp", "qd-a");
        let mut messages = Messages::of(new.start("tools/call", &call).await);
        messages.next().await.unwrap();
        drop(messages);
        upstream.cancelled(2).await;
        while harness.rows().await.iter().any(|row| row.0 == "open") {
            tokio::task::yield_now().await;
        }
        let row = ("cancelled".to_owned(), 499, 0, 0);
        assert_eq!(harness.rows().await, [row.clone(), row]);
    }
}

#[tokio::test]
async fn a_server_asks_the_client_and_gets_the_answer() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = gateway(&upstream).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    let mut messages = Messages::of(
        client
            .start("tools/call", &json!({"name": "one_ask"}))
            .await,
    );
    let question = messages.next().await.unwrap();
    assert_eq!(question["method"], "sampling/createMessage");
    assert_ne!(question["id"], "question-1");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"said": "yes"}});
    let stranger = Client::open(&harness, "/mcp", "qd-b").await;
    assert_eq!(stranger.post(&answer.to_string()).await.status, 400);
    assert_eq!(client.post(&answer.to_string()).await.status, 202);
    let result = messages.next().await.unwrap();
    let text = result["result"]["content"][0]["text"].as_str().unwrap();
    let heard: Value = serde_json::from_str(text).unwrap();
    assert_eq!(heard["result"], json!({"said": "yes"}));
    assert_eq!(heard["id"], "question-1");
    // Its capabilities are what the server was told.
    let capabilities = &upstream.received_of("initialize")[0].body["params"]["capabilities"];
    assert_eq!(*capabilities, json!({"sampling": {}}));
}

#[tokio::test]
async fn changes_reach_those_who_listen() {
    for revision in [Revision::Sessions, Revision::Stateless] {
        let upstream = tool_server(revision, false).await;
        let harness = gateway(&upstream).await;
        let old = Client::open(&harness, "/mcp", "qd-a").await;
        old.ask("tools/list", &json!({})).await;
        let mut stream = Messages::of(old.exchange("GET", &[], "").await);
        assert_eq!(old.exchange("GET", &[], "").await.status(), 409);
        let new = Client::stateless(&harness, "/mcp", "qd-b");
        let filter =
            json!({"notifications": {"resourceSubscriptions": ["one+file:///a", "x+file:///a"]}});
        let mut subscribed = Messages::of(new.start("subscriptions/listen", &filter).await);
        let meta = json!({"io.modelcontextprotocol/subscriptionId": 7});
        let agreed = json!({"resourceSubscriptions": ["one+file:///a"]});
        let acknowledged = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": {"_meta": meta, "notifications": agreed}});
        assert_eq!(subscribed.next().await.unwrap(), acknowledged);
        // Each listens as soon as the gateway reads its stream, which it does as the client reads.
        let (first, second) = tokio::join!(async { stream.next().await.unwrap() }, async {
            upstream.heard_by(2).await;
            upstream.announce("notifications/tools/list_changed", &json!({}));
            upstream.announce(
                "notifications/resources/updated",
                &json!({"uri": "file:///b"}),
            );
            upstream.announce(
                "notifications/resources/updated",
                &json!({"uri": "file:///a"}),
            );
            subscribed.next().await.unwrap()
        });
        assert_eq!(first["method"], "notifications/tools/list_changed");
        assert_eq!(
            stream.next().await.unwrap()["params"]["uri"],
            "one+file:///b"
        );
        let params = json!({"_meta": meta, "uri": "one+file:///a"});
        assert_eq!(second["params"], params, "{revision:?}");
        drop((stream, subscribed));
        upstream.heard_by(0).await;
        let again = collect_head(&old).await;
        assert_eq!(again, 200);
    }
}

/// Listens again; the status.
async fn collect_head(client: &Client<'_>) -> u16 {
    loop {
        let status = client.exchange("GET", &[], "").await.status().as_u16();
        if status != 409 {
            return status;
        }
    }
}

#[tokio::test]
async fn what_today_s_revision_says_twice_must_be_the_same() {
    let upstream = tool_server(Revision::Stateless, false).await;
    let harness = gateway(&upstream).await;
    let client = Client::stateless(&harness, "/mcp", "qd-a");
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let body = request(7, "tools/call", &json!({"name": "one_echo", "_meta": meta}));
    let good = [("mcp-method", "tools/call"), ("mcp-name", "one_echo")];
    let cases: [(&[(&str, &str)], u16); 5] = [
        (&good, 200),
        (&[good[0], ("mcp-name", "=?base64?b25lX2VjaG8=?=")], 200),
        (&[good[0]], 400),
        (&[good[0], ("mcp-name", "one_fail")], 400),
        (&[("mcp-method", "tools/list"), good[1]], 400),
    ];
    for (headers, status) in cases {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let got = collect(client.exchange("POST", &headers, &body).await).await;
        assert_eq!(got.status, status, "{headers:?}");
        if status == 400 {
            assert_eq!(got.answer()["error"]["code"], -32020);
            assert_eq!(got.answer()["id"], 7);
        }
    }
    let got = client.send("ping", &json!({})).await;
    assert_eq!(
        (got.status, &got.answer()["error"]["code"]),
        (404, &json!(-32601))
    );
    assert_eq!(client.exchange("GET", &[], "").await.status(), 405);
}
