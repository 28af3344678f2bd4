//! MCP servers: calls, allow lists, credentials, restarts, and what goes wrong.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use parking_lot::Mutex;
use protocol::{agent::Definition, runs::RunStatus};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    fakes::Reply,
    harness::{World, logged},
};

/// A server of streamable HTTP that answers with plain JSON; sessions end when its epoch changes.
#[derive(Clone)]
struct FakeServer {
    address: SocketAddr,
    epoch: Arc<AtomicUsize>,
    /// Function, arguments and idempotency key of each call.
    calls: Arc<Mutex<Vec<(String, Value, String)>>>,
}

impl FakeServer {
    async fn start(tasks: &mut JoinSet<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            epoch: Arc::default(),
            calls: Arc::default(),
        };
        let router = Router::new()
            .route("/mcp", post(answer))
            .with_state(server.clone());
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    fn tool(&self) -> Value {
        json!({ "name": "web", "source": { "mcp": {
            "url": format!("http://{}/mcp", self.address),
            "headers": { "Authorization": "Bearer mcp-secret" },
            "allow": ["get_*", "fail"],
        } } })
    }

    fn session(&self) -> String {
        format!("session-{}", self.epoch.load(Ordering::SeqCst))
    }
}

async fn answer(
    State(server): State<FakeServer>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> Response {
    if headers
        .get("authorization")
        .is_none_or(|value| value != "Bearer mcp-secret")
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let method = request["method"].as_str().unwrap_or_default();
    if method != "initialize"
        && headers
            .get("mcp-session-id")
            .is_some_and(|value| *value != server.session())
    {
        return StatusCode::NOT_FOUND.into_response();
    }
    let result = match method {
        "initialize" => json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "fake", "version": "1" }
        }),
        "tools/list" => {
            let tool = |name: &str| json!({ "name": name, "description": name, "inputSchema": { "type": "object" } });
            json!({ "tools": [tool("get_note"), tool("set_note"), tool("fail"), tool("bad name!")] })
        }
        "tools/call" => {
            let name = request["params"]["name"].as_str().unwrap().to_owned();
            let arguments = request["params"]["arguments"].clone();
            let key = request["params"]["_meta"]["quarterdeck.dev/idempotency-key"]
                .as_str()
                .unwrap()
                .to_owned();
            server
                .calls
                .lock()
                .push((name.clone(), arguments.clone(), key));
            let text = json!([{ "type": "text", "text": format!("{name} {arguments}") }]);
            json!({ "content": text, "isError": name == "fail" })
        }
        _ if request.get("id").is_none() => return StatusCode::ACCEPTED.into_response(),
        _ => {
            let error = json!({ "code": -32601, "message": "method not found" });
            let body = json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
            return Json(body).into_response();
        }
    };
    let body = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
    ([("mcp-session-id", server.session())], Json(body)).into_response()
}

fn definition(world: &World, server: &FakeServer, program: &Value) -> Definition {
    let mut definition = world.definition(program);
    definition.tools = vec![serde_json::from_value(server.tool()).unwrap()];
    definition
}

fn graph(function: &str) -> Value {
    json!({ "graph": {
        "state": { "out": {} },
        "nodes": { "call": { "step": { "mcp": {
            "tool": "web", "function": function, "arguments": "{'topic': input}", "to": "out"
        } } } },
        "edges": [{ "from": "start", "arms": [{ "to": "call" }] }],
        "output": "state.out"
    } })
}

#[tokio::test]
async fn a_graph_calls_a_function_and_survives_the_servers_restart() {
    let world = World::silent().await;
    let mut tasks = JoinSet::new();
    let server = FakeServer::start(&mut tasks).await;
    let runtime = world
        .start(definition(&world, &server, &graph("get_note")))
        .await;
    for epoch in 0..3 {
        server.epoch.store(epoch, Ordering::SeqCst);
        let (run, _) = runtime.finish(&json!("tea")).await;
        assert_eq!(run.error, None, "epoch {epoch}");
        assert_eq!(run.output, Some(json!(r#"get_note {"topic":"tea"}"#)));
    }
    let keys: Vec<String> = server
        .calls
        .lock()
        .iter()
        .map(|call| call.2.clone())
        .collect();
    assert_eq!(keys.len(), 3);
    assert!(
        keys[0] != keys[1] && keys[1] != keys[2],
        "each run has its own: {keys:?}"
    );
    runtime.stop().await.unwrap();
    let mut bytes = std::fs::read(world.data.path().join("runs.db")).unwrap();
    bytes.extend(std::fs::read(world.data.path().join("runs.db-wal")).unwrap_or_default());
    assert!(!bytes.windows(10).any(|window| window == b"mcp-secret"));
}

#[tokio::test]
async fn a_function_that_fails_fails_the_step() {
    let world = World::silent().await;
    let mut tasks = JoinSet::new();
    let server = FakeServer::start(&mut tasks).await;
    let runtime = world
        .start(definition(&world, &server, &graph("fail")))
        .await;
    let (run, _) = runtime.finish(&json!("tea")).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(
        run.error.as_deref(),
        Some(r#"step `call`: fail {"topic":"tea"}"#)
    );
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_the_credentials_fails_the_step_at_once() {
    let world = World::silent().await;
    let mut tasks = JoinSet::new();
    let server = FakeServer::start(&mut tasks).await;
    let mut definition = definition(&world, &server, &graph("get_note"));
    if let protocol::agent::ToolSource::Mcp { headers, .. } = &mut definition.tools[0].source {
        headers.clear();
    }
    let runtime = world.start(definition).await;
    let (run, _) = runtime.finish(&json!("tea")).await;
    assert_eq!(run.status, RunStatus::Failed);
    let error = run.error.unwrap_or_default();
    assert!(
        error.contains("401 Unauthorized") && !error.contains("rmcp"),
        "{error}"
    );
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_loop_is_offered_what_the_allow_list_has() {
    let call = |name: &str| (name.to_owned(), r#"{"topic":"tea"}"#.to_owned());
    let calls = vec![
        call("web__get_note"),
        call("web__set_note"),
        call("web__fail"),
    ];
    let script = move |_: &Value, count| match count {
        0 => Reply::Calls(calls.clone()),
        _ => Reply::Text("done".to_owned()),
    };
    let world = World::new(Arc::new(script)).await;
    let mut tasks = JoinSet::new();
    let server = FakeServer::start(&mut tasks).await;
    let runtime = world
        .start(definition(&world, &server, &super::loops::turns(3)))
        .await;
    let (run, events) = runtime.finish(&json!("go")).await;
    assert_eq!(run.error, None);
    let asked = world.model.asked.lock().clone();
    let offered: Vec<&str> = asked[0].body["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(offered, ["web__get_note", "web__fail"]);
    let told: Vec<&str> = (3..6)
        .map(|index| {
            asked[1].body["messages"][index]["content"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(
        told,
        [
            r#"get_note {"topic":"tea"}"#,
            "error: there is no function `web__set_note`",
            r#"error: fail {"topic":"tea"}"#
        ]
    );
    assert_eq!(
        logged(&events)
            .iter()
            .filter(|event| matches!(event, protocol::runs::RunEvent::ToolCalled { .. }))
            .count(),
        3
    );
    runtime.stop().await.unwrap();
}
