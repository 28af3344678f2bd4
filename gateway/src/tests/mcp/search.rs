//! Tools that clients find by words: what is listed, what is found, and that calls are like any other.

use protocol::snapshot::{Access, Limit, Mcp, Mode, Per, Rate, RouteEntry, ToolRule};
use serde_json::{Value, json};
use testkit::tool_server::ToolServer;

use super::{BEHAVIOURS, client::Client, server, tool_server, tools};
use crate::tests::harness::{Harness, key};

fn names(answer: &Value) -> Vec<&str> {
    let tools = answer["result"]["tools"].as_array().unwrap();
    let names = tools.iter().map(|tool| tool["name"].as_str().unwrap());
    names.collect()
}

/// The names of what is found.
fn found(answer: &Value) -> Vec<&str> {
    let tools = answer["result"]["structuredContent"]["tools"].as_array();
    let names = tools
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap());
    names.collect()
}

/// A route whose tools are found; the key `b` may not use `fail`.
fn searched(upstream: &ToolServer) -> RouteEntry {
    let mut own = server("one", upstream.url());
    own.tools = vec![
        ToolRule {
            keys: Some(vec!["ns/b".to_owned()]),
            deny: vec!["fail".to_owned()],
            ..ToolRule::default()
        },
        ToolRule::default(),
    ];
    let route = tools("tools", Access::AnyKey, vec![own]);
    RouteEntry {
        mcp: route.mcp.map(|mcp| Mcp {
            tool_search: true,
            ..mcp
        }),
        limits: vec![Limit {
            name: "calls".to_owned(),
            requests: Some(Rate {
                limit: 1000,
                window_millis: 1000,
            }),
            per: Per::Key,
            tokens: None,
            concurrency: None,
            mode: Mode::Enforce,
        }],
        ..route
    }
}

async fn search(client: &Client<'_>, arguments: Value) -> Value {
    let call = json!({"name": "search_tools", "arguments": arguments});
    client.ask("tools/call", &call).await
}

#[tokio::test]
async fn clients_of_each_revision_find_and_call_tools() {
    for (revision, streams) in BEHAVIOURS {
        let upstream = tool_server(revision, streams).await;
        let harness = Harness::start(vec![searched(&upstream)], vec![key("a")]).await;
        let old = Client::open(&harness, "/mcp", "qd-a").await;
        let new = Client::stateless(&harness, "/mcp/ns/tools", "qd-a");
        for client in [old, new] {
            let context = format!("{revision:?} {streams} {}", client.version);
            let listed = client.ask("tools/list", &json!({})).await;
            assert_eq!(names(&listed), ["search_tools", "call_tool"], "{context}");
            let answer = search(&client, json!({"query": "echo"})).await;
            assert_eq!(found(&answer), ["one_echo"], "{context}");
            let result = &answer["result"];
            // The whole definition, as the server gives it.
            assert_eq!(
                result["structuredContent"]["tools"][0]["ownField"].to_string(),
                "[1.0]"
            );
            let text = result["content"][0]["text"].as_str().unwrap();
            let text: Value = serde_json::from_str(text).unwrap();
            assert_eq!(text, result["structuredContent"], "{context}");
            for call in [
                json!({"name": "call_tool", "arguments": {"name": "one_echo", "arguments": {"x": [1.5, "ü"]}}}),
                json!({"name": "one_echo", "arguments": {"x": [1.5, "ü"]}}),
            ] {
                let answer = client.ask("tools/call", &call).await;
                let echoed = &answer["result"]["structuredContent"];
                assert_eq!(echoed, &json!({"x": [1.5, "ü"]}), "{context}");
            }
        }
        let calls = upstream.received_of("tools/call");
        assert_eq!(calls.len(), 4);
        for call in &calls {
            assert_eq!(call.body["params"]["name"], "echo");
        }
    }
}

#[tokio::test]
async fn what_a_key_may_not_use_is_neither_found_nor_called() {
    let upstream = tool_server(BEHAVIOURS[0].0, false).await;
    let routes = vec![searched(&upstream)];
    let harness = Harness::start(routes, vec![key("a"), key("b")]).await;
    let (all, some) = (
        Client::open(&harness, "/mcp", "qd-a").await,
        Client::open(&harness, "/mcp", "qd-b").await,
    );
    let every = json!({"query": "", "limit": 32});
    let answer = search(&all, every.clone()).await;
    assert_eq!(
        found(&answer),
        ["one_echo", "one_slow", "one_ask", "one_fail"]
    );
    let answer = search(&some, every).await;
    assert_eq!(found(&answer), ["one_echo", "one_slow", "one_ask"]);
    let answer = search(&all, json!({"query": "", "limit": 1})).await;
    assert_eq!(found(&answer), ["one_echo"]);
    assert_eq!(answer["result"]["structuredContent"]["fitting"], 4);
    // Through the second tool it is refused as it is by its name.
    let direct = json!({"name": "one_fail", "arguments": {}});
    let through = json!({"name": "call_tool", "arguments": {"name": "one_fail"}});
    let refused = some.ask("tools/call", &direct).await;
    assert!(refused["error"].is_object(), "{refused}");
    assert_eq!(some.ask("tools/call", &through).await, refused);
    let allowed = all.ask("tools/call", &through).await;
    assert_eq!(allowed["result"]["isError"], true);
    for own in ["search_tools", "call_tool"] {
        let nested = json!({"name": "call_tool", "arguments": {"name": own}});
        let refused = all.ask("tools/call", &nested).await;
        assert!(refused["error"].is_object(), "{refused}");
    }
}

#[tokio::test]
async fn calls_of_what_was_found_are_in_the_ledger_and_under_the_limits_of_the_route() {
    let upstream = tool_server(BEHAVIOURS[0].0, false).await;
    let mut entry = searched(&upstream);
    entry.limits[0].requests = Some(Rate {
        limit: 2,
        window_millis: 3_600_000,
    });
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    let call = json!({"name": "call_tool", "arguments": {"name": "one_echo"}});
    for _ in 0..2 {
        // A search is like a list: it counts for nothing.
        search(&client, json!({"query": "echo"})).await;
        let answer = client.ask("tools/call", &call).await;
        assert_eq!(answer["result"]["structuredContent"], json!({}));
    }
    let refused = client.ask("tools/call", &call).await;
    assert_eq!(refused["error"]["code"], -31429, "{refused}");
    let count =
        "SELECT COUNT(*), MIN(model), MAX(model) FROM requests WHERE operation = 'execute_tool'";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let rows: (i64, String, String) = harness.query(count, read).await;
    let tool = "one_echo".to_owned();
    assert_eq!(rows, (2, tool.clone(), tool));
}

#[tokio::test]
async fn tools_of_other_routes_are_listed_beside_the_two() {
    let upstream = tool_server(BEHAVIOURS[0].0, false).await;
    let listed = tools("plain", Access::AnyKey, vec![server("two", upstream.url())]);
    let gone = tools(
        "gone",
        Access::AnyKey,
        vec![server("gone", "http://127.0.0.1:1/mcp".to_owned())],
    );
    let harness = Harness::start(vec![searched(&upstream), listed], vec![key("a")]).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    let answer = client.ask("tools/list", &json!({})).await;
    let two = ["two_echo", "two_slow", "two_ask", "two_fail"];
    assert_eq!(
        names(&answer),
        [&["search_tools", "call_tool"][..], &two].concat()
    );
    let answer = search(&client, json!({"query": "echo"})).await;
    assert_eq!(found(&answer), ["one_echo"]);
    // A server that is gone hides nothing of the others.
    harness.apply(vec![searched(&upstream), gone], vec![key("a")]);
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    let answer = client.ask("tools/list", &json!({})).await;
    assert_eq!(names(&answer), ["search_tools", "call_tool"]);
}

#[tokio::test]
async fn a_model_that_asks_wrongly_is_told_so() {
    let upstream = tool_server(BEHAVIOURS[0].0, false).await;
    let harness = Harness::start(vec![searched(&upstream)], vec![key("a")]).await;
    let client = Client::stateless(&harness, "/mcp", "qd-a");
    for (tool, arguments) in [
        ("search_tools", json!({})),
        ("search_tools", json!({"query": 7})),
        ("search_tools", json!({"query": "x".repeat(5000)})),
        ("call_tool", json!({})),
        ("call_tool", json!({"name": ["one_echo"]})),
        ("call_tool", json!({"name": "one_echo", "arguments": [1]})),
        ("call_tool", json!({"name": "one_echo", "arguments": "{}"})),
    ] {
        let call = json!({"name": tool, "arguments": arguments});
        let answer = client.ask("tools/call", &call).await;
        let result = &answer["result"];
        assert_eq!(result["isError"], true, "{call}: {answer}");
        assert_eq!(result["resultType"], "complete", "{call}: {answer}");
    }
    assert_eq!(upstream.received_of("tools/call").len(), 0);
    let nothing = search(&client, json!({"query": "zebra"})).await;
    assert_eq!(found(&nothing), [""; 0]);
}
