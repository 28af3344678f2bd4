//! Several servers as one: names, lists, filters, and what a broken server breaks.

use protocol::{
    secret::SecretString,
    snapshot::{
        Access, ClientCredentials, HeaderCredential, Limit, McpServer, Rate, RouteEntry, ToolRule,
        UpstreamAuth,
    },
};
use serde_json::{Value, json};
use testkit::tool_server::{Behaviour, Revision, ToolServer};

use super::{BEHAVIOURS, client::Client, gateway, server, tool_server, tools};
use crate::tests::harness::{Harness, key};

fn names(answer: &Value, list: &str, field: &str) -> Vec<String> {
    let entries = answer["result"][list].as_array().unwrap();
    let names = entries
        .iter()
        .map(|entry| entry[field].as_str().unwrap().to_owned());
    names.collect()
}

#[tokio::test]
async fn clients_of_each_revision_use_servers_of_each_revision() {
    for (revision, streams) in BEHAVIOURS {
        let upstream = tool_server(revision, streams).await;
        let harness = gateway(&upstream).await;
        let old = Client::open(&harness, "/mcp", "qd-a").await;
        let new = Client::stateless(&harness, "/mcp/ns/tools", "qd-a");
        for client in [old, new] {
            let context = format!("{revision:?} {streams} {}", client.version);
            let listed = client.ask("tools/list", &json!({})).await;
            let expected = ["one_echo", "one_slow", "one_ask", "one_fail"];
            assert_eq!(names(&listed, "tools", "name"), expected, "{context}");
            assert_eq!(
                listed["result"]["tools"][0]["ownField"].to_string(),
                "[1.0]"
            );
            let call = json!({"name": "one_echo", "arguments": {"x": [1.50, "ü"]}});
            let got = client.send("tools/call", &call).await;
            // Byte for byte: a number keeps its zeros.
            assert!(
                got.text.replace(' ', "").contains(r#""kept":1.5"#),
                "{context}"
            );
            let answer = got.answer();
            assert_eq!(answer["id"], 7, "{context}");
            assert_eq!(
                answer["result"]["structuredContent"], call["arguments"],
                "{context}"
            );
            let prompts = client.ask("prompts/list", &json!({})).await;
            assert_eq!(
                names(&prompts, "prompts", "name"),
                ["one_greet"],
                "{context}"
            );
            let prompt = json!({"name": "one_greet", "arguments": {"who": "you"}});
            let prompt = client.ask("prompts/get", &prompt).await;
            let text = &prompt["result"]["messages"][0]["content"]["text"];
            assert_eq!(text, r#""greet" "you""#, "{context}");
            let resources = client.ask("resources/list", &json!({})).await;
            assert_eq!(names(&resources, "resources", "uri"), ["one+file:///a"]);
            let templates = client.ask("resources/templates/list", &json!({})).await;
            let templates = names(&templates, "resourceTemplates", "uriTemplate");
            assert_eq!(templates, ["one+file:///{name}"]);
            for uri in ["one+file:///a", "file:///a"] {
                let read = client.ask("resources/read", &json!({"uri": uri})).await;
                assert_eq!(
                    read["result"]["contents"][0]["uri"], "file:///a",
                    "{context}"
                );
            }
            let complete = json!({"ref": {"type": "ref/prompt", "name": "one_greet"},
                "argument": {"name": "who", "value": "y"}});
            let complete = client.ask("completion/complete", &complete).await;
            let reference = complete["result"]["completion"]["values"][0]
                .as_str()
                .unwrap();
            let reference: Value = serde_json::from_str(reference).unwrap();
            assert_eq!(reference, json!({"type": "ref/prompt", "name": "greet"}));
        }
        for sent in upstream.received() {
            assert!(
                !sent.headers.contains_key("authorization"),
                "a client's key went on"
            );
        }
    }
}

#[tokio::test]
async fn a_broken_server_is_left_out_of_lists_and_named_in_calls() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let routes = vec![tools(
        "tools",
        Access::AnyKey,
        vec![
            server("gone", "http://127.0.0.1:1/mcp".to_owned()),
            server("one", upstream.url()),
        ],
    )];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    let listed = client.ask("tools/list", &json!({})).await;
    assert_eq!(names(&listed, "tools", "name").len(), 4);
    let answer = client.ask("tools/call", &json!({"name": "gone_x"})).await;
    let message = "The tool server `gone` could not be reached.";
    assert_eq!(answer["error"], json!({"code": -32603, "message": message}));
    let metrics = harness.gateway.render_metrics();
    let failures = r#"gateway_mcp_failures_total{server="ns/tools/gone",reason="broken"} 2"#;
    let calls = r#"gateway_mcp_calls_total{server="ns/tools/gone",outcome="failed"} 1"#;
    assert!(
        metrics.contains(failures) && metrics.contains(calls),
        "{metrics}"
    );
}

#[tokio::test]
async fn servers_of_one_name_are_told_apart_by_their_route() {
    let (left, right) = (
        tool_server(Revision::Stateless, false).await,
        tool_server(Revision::Sessions, false).await,
    );
    let routes = vec![
        tools("left", Access::AnyKey, vec![server("one", left.url())]),
        tools("right", Access::AnyKey, vec![server("one", right.url())]),
    ];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let all = Client::stateless(&harness, "/mcp", "qd-a");
    let listed = all.ask("tools/list", &json!({})).await;
    let listed = names(&listed, "tools", "name");
    assert!(listed.contains(&"ns-left-one_echo".to_owned()));
    assert!(listed.contains(&"ns-right-one_echo".to_owned()));
    let call = json!({"name": "ns-right-one_echo", "arguments": {}});
    assert!(all.ask("tools/call", &call).await["result"].is_object());
    assert_eq!(
        (
            left.received_of("tools/call").len(),
            right.received_of("tools/call").len()
        ),
        (0, 1)
    );
    let one = Client::stateless(&harness, "/mcp/ns/left", "qd-a");
    let listed = one.ask("tools/list", &json!({})).await;
    assert_eq!(names(&listed, "tools", "name")[0], "one_echo");
}

#[tokio::test]
async fn a_key_sees_and_calls_only_the_tools_that_are_for_it() {
    let upstream = tool_server(Revision::Stateless, false).await;
    let rule = |keys: Option<&str>, allow: &[&str], deny: &[&str]| ToolRule {
        keys: keys.map(|key| vec![key.to_owned()]),
        allow: allow.iter().map(|name| (*name).to_owned()).collect(),
        deny: deny.iter().map(|name| (*name).to_owned()).collect(),
    };
    let filtered = McpServer {
        tools: vec![rule(Some("ns/a"), &[], &["f*"]), rule(None, &["e*"], &[])],
        ..server("one", upstream.url())
    };
    let closed = Access::Keys(vec!["ns/a".to_owned()]);
    let routes = vec![
        tools("tools", Access::AnyKey, vec![filtered]),
        tools("closed", closed, vec![server("two", upstream.url())]),
    ];
    let harness = Harness::start(routes, vec![key("a"), key("b")]).await;
    let (a, b) = (
        Client::stateless(&harness, "/mcp", "qd-a"),
        Client::stateless(&harness, "/mcp", "qd-b"),
    );
    let listed = names(&b.ask("tools/list", &json!({})).await, "tools", "name");
    assert_eq!(listed, ["one_echo"]);
    let listed = names(&a.ask("tools/list", &json!({})).await, "tools", "name");
    assert_eq!(listed[..4], ["one_echo", "one_slow", "one_ask", "two_echo"]);
    for name in ["one_fail", "two_echo", "one_none", "none"] {
        let answer = b.ask("tools/call", &json!({"name": name})).await;
        let message = format!("There is no `{name}` here, or you do not have access to it.");
        assert_eq!(answer["error"], json!({"code": -32602, "message": message}));
    }
    assert!(upstream.received_of("tools/call").is_empty());
    assert_eq!(
        Client::new(&harness, "/mcp/ns/closed", "qd-b")
            .post("{}")
            .await
            .status,
        404
    );
    let nobody = Client::new(&harness, "/mcp", "").post("{}").await;
    assert_eq!(nobody.status, 401);
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn each_call_is_a_row_and_limits_count_calls() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let limits = vec![Limit {
        name: "few".to_owned(),
        per: protocol::snapshot::Per::Key,
        requests: Some(Rate {
            limit: 2,
            window_millis: 3_600_000,
        }),
        tokens: None,
        concurrency: None,
        mode: protocol::snapshot::Mode::Enforce,
    }];
    let route = RouteEntry {
        limits,
        ..tools("tools", Access::AnyKey, vec![server("one", upstream.url())])
    };
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    client.ask("tools/list", &json!({})).await;
    for name in ["one_echo", "one_fail"] {
        client.ask("tools/call", &json!({"name": name})).await;
    }
    let refused = client.ask("tools/call", &json!({"name": "one_echo"})).await;
    assert_eq!(refused["error"]["code"], -31429, "{refused}");
    let rows = harness.rows().await;
    let row = ("complete".to_owned(), 200, 0, 0);
    assert_eq!(rows, [row.clone(), row]);
    let metrics = harness.gateway.render_metrics();
    for outcome in ["ok", "tool_error"] {
        let line =
            format!(r#"gateway_mcp_calls_total{{server="ns/tools/one",outcome="{outcome}"}} 1"#);
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn the_gateway_shows_itself_by_a_header_or_by_a_token_that_it_fetches_once() {
    let upstream = ToolServer::start(Behaviour {
        authorization: Some("Bearer own".to_owned()),
        ..Behaviour::default()
    })
    .await;
    let tokens = tool_server(Revision::SessionsUnnamed, false).await;
    let header = UpstreamAuth::Header(HeaderCredential {
        name: "Authorization".to_owned(),
        value: SecretString::new("Bearer own".to_owned()),
    });
    let fetched = UpstreamAuth::ClientCredentials(ClientCredentials {
        token_url: tokens.url(),
        client_id: "id".to_owned(),
        client_secret: SecretString::new("s:cret".to_owned()),
        scope: "a b".to_owned(),
    });
    let grant = |token: &str| {
        let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": 600});
        tokens.answer_once(200, "application/json", &body.to_string());
    };
    // The first one is refused: it is fetched again, once.
    grant("old");
    grant("own");
    for auth in [header, fetched] {
        let server = McpServer {
            auth,
            ..server("one", upstream.url())
        };
        let routes = vec![tools("tools", Access::AnyKey, vec![server])];
        let harness = Harness::start(routes, vec![key("a")]).await;
        let client = Client::open(&harness, "/mcp", "qd-a").await;
        for _ in 0..2 {
            let answer = client.ask("tools/call", &json!({"name": "one_echo"})).await;
            assert!(answer["result"].is_object(), "{answer}");
        }
    }
    let asked = tokens.received();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].headers["authorization"], "Basic aWQ6cyUzQWNyZXQ=");
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let upstream = tool_server(Revision::Stateless, false).await;
    let harness = gateway(&upstream).await;
    let client = Client::stateless(&harness, "/mcp", "qd-a");
    client.ask("tools/list", &json!({})).await;
    let many: Vec<Value> = (0..1500)
        .map(|number| json!({"name": format!("t{number}")}))
        .collect();
    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let page = json!({"jsonrpc": "2.0", "id": null, "result": {"tools": many}}).to_string();
        // Its requests have the ids that follow each other.
        let id = 4 + seen.len() / 1000;
        let page = page.replace(r#""id":null"#, &format!(r#""id":{id}"#));
        upstream.answer_once(200, "application/json", &page);
        let answer = client.ask("tools/list", &json!({"cursor": cursor})).await;
        seen.extend(names(&answer, "tools", "name"));
        cursor = answer["result"]["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen.len(), 1500);
    assert_eq!((&*seen[0], &*seen[1499]), ("one_t0", "one_t1499"));
    let answer = client.ask("tools/list", &json!({"cursor": "x"})).await;
    assert_eq!(answer["error"]["code"], -32602);
}
