//! An agent that speaks the Agent2Agent protocol's JSON-RPC binding, in revision 0.3 or 1.0.
//!
//! A message is answered by a task of its own; `wait` as its text keeps a stream open until the client goes away.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use protocol::sse::Event;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// A running agent; it stops when dropped.
#[derive(Debug)]
pub struct AgentServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    is_current: bool,
    received: Mutex<Vec<(HeaderMap, Value)>>,
    instead: Mutex<Vec<(StatusCode, String)>>,
    abandoned: watch::Sender<usize>,
}

impl AgentServer {
    /// Starts an agent on a free port of the loopback interface: of 1.0, or of 0.3.
    ///
    /// # Panics
    /// If no port can be bound.
    #[expect(
        clippy::expect_used,
        reason = "a test that cannot bind a port cannot run"
    )]
    pub async fn start(is_current: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on the loopback interface");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            address,
            is_current,
            received: Mutex::default(),
            instead: Mutex::default(),
            abandoned: watch::channel(0).0,
        });
        let router = Router::new()
            .route("/.well-known/agent-card.json", get(card))
            .route("/rpc", post(call))
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Ends when the server is dropped.
            let _ = axum::serve(listener, router).await;
        });
        Self {
            address,
            shared,
            _server: server,
        }
    }

    /// The URL below which its card lies.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<(HeaderMap, Value)> {
        self.shared.received.lock().clone()
    }

    /// Sends this in place of the next answer: a status and a body.
    pub fn answer_once(&self, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        self.shared.instead.lock().push((status, body.to_owned()));
    }

    /// Waits until so many streams were abandoned.
    pub async fn abandoned(&self, count: usize) {
        let mut abandoned = self.shared.abandoned.subscribe();
        // The sender lives as long as the server.
        let _ = abandoned.wait_for(|abandoned| *abandoned == count).await;
    }
}

async fn card(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(show(&shared))
}

fn show(shared: &Shared) -> Value {
    let url = format!("http://{}/rpc", shared.address);
    let mut card = json!({"name": "Travel", "version": "7", "signatures": [{"protected": "x", "signature": "y"}],
        "securitySchemes": {"own": {"type": "apiKey"}}, "capabilities": {"streaming": true}});
    if shared.is_current {
        card["supportedInterfaces"] =
            json!([{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]);
    } else {
        card["url"] = json!(url);
        card["protocolVersion"] = json!("0.3.0");
    }
    card
}

async fn call(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    shared.received.lock().push((headers, request.clone()));
    let instead = shared.instead.lock().pop();
    if let Some((status, body)) = instead {
        return (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    let params = &request["params"];
    let answer = |result: Value| json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
    let number = shared.received.lock().len();
    let id = params["id"]
        .as_str()
        .map_or_else(|| format!("task-{number}"), str::to_owned);
    let mut task =
        json!({"id": id, "contextId": "c", "status": {"state": "working"}, "ownField": 1.5});
    if shared.is_current {
        task = json!({ "task": task });
    } else {
        task["kind"] = json!("task");
    }
    match request["method"].as_str() {
        Some("message/send" | "SendMessage" | "tasks/get" | "GetTask") => {
            Json(answer(task)).into_response()
        }
        Some("message/stream" | "SendStreamingMessage") => {
            let update = json!({"kind": "status-update", "taskId": id, "final": true});
            let messages = stream::iter([answer(task), answer(update)]);
            let text = params.pointer("/message/parts/0/text");
            if text.and_then(Value::as_str) == Some("wait") {
                return events(messages.chain(endless(shared)));
            }
            events(messages)
        }
        Some("agent/getAuthenticatedExtendedCard" | "GetExtendedAgentCard") => {
            Json(answer(show(&shared))).into_response()
        }
        _ => {
            let error = json!({"code": -32601, "message": "Method not found"});
            Json(json!({"jsonrpc": "2.0", "id": request["id"], "error": error})).into_response()
        }
    }
}

fn endless(shared: Arc<Shared>) -> impl Stream<Item = Value> + Send {
    struct Waiting(Arc<Shared>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.abandoned.send_modify(|abandoned| *abandoned += 1);
        }
    }
    stream::unfold(Waiting(shared), |waiting| async {
        std::future::pending::<()>().await;
        Some((Value::Null, waiting))
    })
}

fn events(messages: impl Stream<Item = Value> + Send + 'static) -> Response {
    let events =
        messages.map(|message| Ok::<_, Infallible>(Event::data(message.to_string()).encode()));
    let headers = [(header::CONTENT_TYPE, protocol::sse::CONTENT_TYPE)];
    (headers, Body::from_stream(events)).into_response()
}
