//! Fakes: a scripted model and a workspace that counts what it really ran.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use protocol::workspace::{ExecEvent, ExecRequest, Exit};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// What the scripted model does with a request.
pub(super) enum Reply {
    Text(String),
    /// Name and arguments of each call.
    Calls(Vec<(String, String)>),
    Status(u16),
    /// Some text, then the connection ends.
    Broken(String),
    /// Never answers.
    Silent,
}

/// Decides by the request's JSON and how often the model was asked before.
pub(super) type Script = Arc<dyn Fn(&Value, usize) -> Reply + Send + Sync>;

/// What a model was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) body: Value,
    pub(super) idempotency_key: String,
    pub(super) authorization: String,
}

#[derive(Clone)]
pub(super) struct FakeModel {
    pub(super) address: SocketAddr,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    script: Script,
    is_open: watch::Sender<bool>,
}

impl FakeModel {
    pub(super) async fn start(tasks: &mut JoinSet<()>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let model = Self {
            address,
            asked: Arc::default(),
            script,
            is_open: watch::Sender::new(true),
        };
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .with_state(model.clone());
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        model
    }

    /// Answers nothing until [`Self::release`].
    pub(super) fn hold(&self) {
        self.is_open.send_replace(false);
    }

    pub(super) fn release(&self) {
        self.is_open.send_replace(true);
    }

    /// How often the model was asked.
    pub(super) fn count(&self) -> usize {
        self.asked.lock().len()
    }
}

async fn complete(State(model): State<FakeModel>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let header = |name: &str| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    };
    let count = {
        let mut asked = model.asked.lock();
        asked.push(Asked {
            body: body.clone(),
            idempotency_key: header("idempotency-key"),
            authorization: header("authorization"),
        });
        asked.len() - 1
    };
    // The sender lives in the model.
    let _ = model.is_open.subscribe().wait_for(|is_open| *is_open).await;
    match (model.script)(&body, count) {
        Reply::Text(text) => stream(text_events(&text, true)),
        Reply::Broken(text) => stream(text_events(&text, false)),
        Reply::Calls(calls) => stream(call_events(&calls)),
        Reply::Status(status) => {
            let error = json!({ "error": { "message": "scripted", "type": "server_error", "param": null, "code": null } });
            (StatusCode::from_u16(status).unwrap(), Json(error)).into_response()
        }
        Reply::Silent => std::future::pending().await,
    }
}

fn stream(events: String) -> Response {
    ([("content-type", "text/event-stream")], events).into_response()
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }]
    });
    format!("data: {chunk}\n\n")
}

fn end(finish: &str) -> String {
    let usage = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
        "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 }
    });
    format!(
        "{}data: {usage}\n\ndata: [DONE]\n\n",
        chunk(&json!({}), Some(finish))
    )
}

fn text_events(text: &str, is_whole: bool) -> String {
    let mut events = chunk(&json!({ "role": "assistant", "content": "" }), None);
    for word in text.split_inclusive(' ') {
        events.push_str(&chunk(&json!({ "content": word }), None));
    }
    if is_whole {
        events.push_str(&end("stop"));
    }
    events
}

fn call_events(calls: &[(String, String)]) -> String {
    let mut events = String::new();
    for (index, (name, arguments)) in calls.iter().enumerate() {
        let (head, tail) = arguments.split_at(arguments.len() / 2);
        let first = json!({ "index": index, "id": format!("call_{index}"), "type": "function",
            "function": { "name": name, "arguments": head } });
        events.push_str(&chunk(&json!({ "tool_calls": [first] }), None));
        let second = json!({ "index": index, "function": { "arguments": tail } });
        events.push_str(&chunk(&json!({ "tool_calls": [second] }), None));
    }
    events + &end("tool_calls")
}

/// A workspace: programs are `echo`, `fail`, `cat FILE`; each is really run once per id.
#[derive(Clone)]
pub(super) struct FakeWorkspace {
    pub(super) address: SocketAddr,
    pub(super) token: String,
    /// Commands that were really run.
    pub(super) ran: Arc<Mutex<Vec<Vec<String>>>>,
    pub(super) files: Arc<Mutex<BTreeMap<String, String>>>,
    by_id: Arc<Mutex<HashMap<String, Vec<ExecEvent>>>>,
}

impl FakeWorkspace {
    pub(super) async fn start(tasks: &mut JoinSet<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let workspace = Self {
            address,
            token: "workspace-token-7f3a".to_owned(),
            ran: Arc::default(),
            files: Arc::default(),
            by_id: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/exec", post(exec))
            .route("/v1/files", get(read).put(write))
            .with_state(workspace.clone());
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        workspace
    }

    fn is_allowed(&self, headers: &HeaderMap) -> bool {
        headers
            .get("authorization")
            .is_some_and(|value| *value == format!("Bearer {}", self.token))
    }
}

fn fault(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({ "code": code, "message": "scripted" }))).into_response()
}

async fn exec(
    State(workspace): State<FakeWorkspace>,
    headers: HeaderMap,
    body: Json<ExecRequest>,
) -> Response {
    if !workspace.is_allowed(&headers) {
        return fault(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    let request = body.0;
    let id = request.id.clone().unwrap();
    let mut by_id = workspace.by_id.lock();
    let events = by_id.entry(id).or_insert_with(|| {
        workspace.ran.lock().push(request.command.clone());
        let stdin = request
            .stdin
            .map(|stdin| String::from_utf8(STANDARD.decode(stdin).unwrap()).unwrap());
        let (code, output) = match request.command[0].as_str() {
            "echo" => (0, request.command[1..].join(" ")),
            "cat" => match request.command.get(1) {
                Some(file) => (
                    0,
                    workspace
                        .files
                        .lock()
                        .get(file)
                        .cloned()
                        .unwrap_or_default(),
                ),
                None => (0, stdin.unwrap_or_default()),
            },
            _ => (3, "no such program".to_owned()),
        };
        let output = STANDARD.encode(output);
        vec![
            ExecEvent::Started { pid: 7 },
            if code == 0 {
                ExecEvent::Stdout { data: output }
            } else {
                ExecEvent::Stderr { data: output }
            },
            ExecEvent::Exit(Exit {
                code,
                ..Exit::default()
            }),
        ]
    });
    let lines: Vec<String> = events
        .iter()
        .map(|event| serde_json::to_string(event).unwrap() + "\n")
        .collect();
    lines.concat().into_response()
}

async fn read(
    State(workspace): State<FakeWorkspace>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if !workspace.is_allowed(&headers) {
        return fault(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    match workspace.files.lock().get(&query["path"]) {
        Some(content) => content.clone().into_response(),
        None => fault(StatusCode::NOT_FOUND, "not_found"),
    }
}

async fn write(
    State(workspace): State<FakeWorkspace>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
    body: String,
) -> Response {
    if !workspace.is_allowed(&headers) {
        return fault(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    workspace.files.lock().insert(query["path"].clone(), body);
    StatusCode::NO_CONTENT.into_response()
}
