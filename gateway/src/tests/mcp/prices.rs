//! What calls of tools cost: in the ledger, in budgets, and when nobody waits for the answer.

use protocol::snapshot::{Access, Budget, McpServer, Mode, Per, RouteEntry, ToolPrice, ToolPrices};
use serde_json::{Value, json};
use testkit::tool_server::{Revision, ToolServer};

use super::{
    client::{Client, Messages},
    server, tool_server, tools,
};
use crate::tests::harness::{Harness, key};

/// In nano-dollars.
const MILLI_DOLLAR: u64 = 1_000_000;

/// A route to a server whose calls cost two thousandths of a dollar, but for `fail`, which costs ten.
fn priced(upstream: &ToolServer, budgets: Vec<Budget>) -> RouteEntry {
    let tools_of = |name: &str, price: u64| ToolPrice {
        name: name.to_owned(),
        per_call_nanos: price * MILLI_DOLLAR,
    };
    let one = McpServer {
        prices: Some(ToolPrices {
            per_call_nanos: 2 * MILLI_DOLLAR,
            tools: vec![tools_of("f*", 10)],
        }),
        ..server("one", upstream.url())
    };
    RouteEntry {
        budgets,
        ..tools("tools", Access::AnyKey, vec![one])
    }
}

async fn start(upstream: &ToolServer, budgets: Vec<Budget>) -> Harness {
    Harness::start(vec![priced(upstream, budgets)], vec![key("a")]).await
}

fn budget(per: Per, milli_dollars: u64) -> Budget {
    Budget {
        name: "daily".to_owned(),
        per,
        amount_nanos: milli_dollars * MILLI_DOLLAR,
        window_millis: 86_400_000,
        mode: Mode::Enforce,
    }
}

/// Thousandths of a dollar in the ledger.
async fn spent(harness: &Harness) -> u64 {
    let query = "SELECT sum(cost_nanos) FROM requests WHERE operation = 'execute_tool'";
    let nanos: i64 = harness.query(query, |row| row.get(0)).await;
    u64::try_from(nanos).unwrap() / MILLI_DOLLAR
}

async fn call(client: &Client<'_>, tool: &str) -> Value {
    client.ask("tools/call", &json!({"name": tool})).await
}

#[tokio::test]
async fn a_call_costs_what_its_tool_costs_and_a_refused_one_nothing() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = start(&upstream, Vec::new()).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    assert!(call(&client, "one_echo").await["result"].is_object());
    // A tool that says that it failed has run.
    assert!(call(&client, "one_fail").await["result"].is_object());
    assert!(call(&client, "one_none").await["error"].is_object());
    assert_eq!(spent(&harness).await, 12);
    let usage = harness.get("/v1/usage", Some("qd-a")).await.json();
    let costs: Vec<_> = usage["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["model"].clone(), row["cost_usd"].clone()))
        .collect();
    for (tool, cost) in [
        ("one_echo", "0.002"),
        ("one_fail", "0.01"),
        ("one_none", "0"),
    ] {
        assert!(costs.contains(&(json!(tool), json!(cost))), "{usage}");
    }
    let metrics = harness.gateway.render_metrics();
    let line = r#"gateway_mcp_cost_total{server="ns/tools/one"} 0.012"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn calls_beside_each_other_cannot_overspend_a_budget() {
    let upstream = tool_server(Revision::Stateless, false).await;
    let harness = start(&upstream, vec![budget(Per::Key, 10)]).await;
    let client = Client::stateless(&harness, "/mcp", "qd-a");
    let calls = (0..16).map(|_| call(&client, "one_echo"));
    let answers = futures::future::join_all(calls).await;
    let refused = answers
        .iter()
        .filter(|answer| answer["error"]["code"] == -31429);
    assert_eq!((refused.count(), spent(&harness).await), (11, 10));
    assert_eq!(upstream.received_of("tools/call").len(), 5);
}

#[tokio::test]
async fn what_was_spent_on_tools_counts_after_a_restart() {
    let upstream = tool_server(Revision::Sessions, false).await;
    let harness = start(&upstream, Vec::new()).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    call(&client, "one_fail").await;
    let route = priced(&upstream, vec![budget(Per::Route, 10)]);
    let harness = harness.restarted(vec![route], vec![key("a")]).await;
    let client = Client::open(&harness, "/mcp", "qd-a").await;
    assert_eq!(call(&client, "one_echo").await["error"]["code"], -31429);
}

#[tokio::test]
async fn a_call_that_its_client_leaves_costs_what_it_may_have_done() {
    let upstream = tool_server(Revision::Stateless, false).await;
    let harness = start(&upstream, Vec::new()).await;
    let client = Client::stateless(&harness, "/mcp", "qd-a");
    let started = client
        .start("tools/call", &json!({"name": "one_slow"}))
        .await;
    let mut messages = Messages::of(started);
    messages.next().await.unwrap();
    drop(messages);
    upstream.cancelled(1).await;
    while harness.rows().await.iter().any(|row| row.0 == "open") {
        tokio::task::yield_now().await;
    }
    assert_eq!(harness.rows().await, [("cancelled".to_owned(), 499, 0, 0)]);
    assert_eq!(spent(&harness).await, 2);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_costs_nothing() {
    let upstream = tool_server(Revision::Stateless, false).await;
    let mut gone = server("one", "http://127.0.0.1:1/mcp".to_owned());
    gone.prices = Some(ToolPrices {
        per_call_nanos: MILLI_DOLLAR,
        tools: Vec::new(),
    });
    let route = tools(
        "tools",
        Access::AnyKey,
        vec![gone, server("two", upstream.url())],
    );
    let harness = Harness::start(vec![route], vec![key("a")]).await;
    let client = Client::stateless(&harness, "/mcp", "qd-a");
    assert!(call(&client, "one_echo").await["error"].is_object());
    assert_eq!(spent(&harness).await, 0);
}
