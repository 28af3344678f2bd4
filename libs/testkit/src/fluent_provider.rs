//! A provider that speaks OpenAI's, Anthropic's and Google's APIs well enough for their own SDKs, and answers what a
//! request asks for: one that keeps no script, so that any number of clients get the same.
//!
//! It lets in who shows [`API_KEY`], knows [`MODEL`], and writes its streams in pieces that respect no event and no
//! character.

mod chat;
mod completions;
mod gemini;
mod messages;
mod question;
mod responses;
mod sending;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use self::{
    question::{Question, Reply, Verdict},
    sending::{Abandonment, Events},
};
use crate::scripted_model::surface;

/// The key that the provider lets in.
pub const API_KEY: &str = "sk-fluent";
/// The model that it has.
pub const MODEL: &str = "fluent";

/// Where Gemini has its models.
const GEMINI_MODELS: &str = "/v1beta/models/";
/// What it says in sounds and images.
const SPOKEN: &str = "hello there";

/// A running provider; it stops when dropped.
#[derive(Debug)]
pub struct FluentProvider {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

/// A request that the provider got.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The path, as `/v1/chat/completions`.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
}

#[derive(Debug)]
struct Shared {
    heard: Mutex<Vec<Heard>>,
    abandoned: watch::Sender<usize>,
}

/// Whose API a path belongs to, with what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Chat,
    Completion,
    Response,
    Message,
    Gemini { streams: bool },
}

impl FluentProvider {
    /// Starts a provider on a free port of the loopback interface.
    ///
    /// # Panics
    /// If no port can be bound.
    #[expect(
        clippy::expect_used,
        reason = "a test that cannot bind a port cannot run"
    )]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on the loopback interface");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            heard: Mutex::default(),
            abandoned: watch::Sender::new(0),
        });
        let router = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Serving ends only with the test that dropped the provider.
            let _ = axum::serve(listener, router).await;
        });
        Self {
            address,
            shared,
            _server: server,
        }
    }

    /// The base URL without a path.
    pub fn root_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL of OpenAI's and Anthropic's APIs, with `/v1`.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.root_url())
    }

    /// The requests so far, oldest first, those that were not let in too.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().clone()
    }

    /// Waits until clients have gone away from this many answers that hang or stall.
    pub async fn abandoned(&self, count: usize) {
        // The sender lives in `self`, so this cannot fail.
        let mut abandoned = self.shared.abandoned.subscribe();
        let _ = abandoned.wait_for(|abandoned| count <= *abandoned).await;
    }
}

impl Api {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/completions" => Some(Self::Completion),
            "/v1/responses" => Some(Self::Response),
            "/v1/messages" => Some(Self::Message),
            _ => {
                let (_, method) = path.strip_prefix(GEMINI_MODELS)?.split_once(':')?;
                let streams = method == "streamGenerateContent";
                (streams || method == "generateContent").then_some(Self::Gemini { streams })
            }
        }
    }

    fn question(self, request: &Value) -> Question {
        match self {
            Self::Chat => chat::question(request),
            Self::Completion => completions::question(request),
            Self::Response => responses::question(request),
            Self::Message => messages::question(request),
            Self::Gemini { .. } => gemini::question(request),
        }
    }

    fn streams(self, request: &Value) -> bool {
        match self {
            Self::Gemini { streams } => streams,
            _ => request["stream"] == true,
        }
    }

    fn whole(self, request: &Value, reply: &Reply) -> Value {
        match self {
            Self::Chat => chat::whole(request, reply),
            Self::Completion => completions::whole(request, reply),
            Self::Response => responses::whole(request, reply),
            Self::Message => messages::whole(request, reply),
            Self::Gemini { .. } => gemini::whole(reply),
        }
    }

    fn events(self, request: &Value, reply: &Reply) -> Events {
        match self {
            Self::Chat => Events::unnamed(&chat::events(request, reply), true),
            Self::Completion => Events::unnamed(&completions::events(request, reply), true),
            Self::Response => Events::named(&responses::events(request, reply)),
            Self::Message => Events::named(&messages::events(request, reply)),
            Self::Gemini { .. } => Events::unnamed(&gemini::events(reply), false),
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path();
    shared.heard.lock().push(Heard {
        path: path.to_owned(),
        headers: headers.clone(),
        body: body.clone(),
    });
    if !is_let_in(&headers) {
        return sending::error(path, 401);
    }
    if method == Method::GET && path == "/v1/models" {
        let model = json!({"id": MODEL, "object": "model", "created": 0, "owned_by": "testkit"});
        return Json(json!({"object": "list", "data": [model]})).into_response();
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let names_another = request["model"]
        .as_str()
        .is_some_and(|model| model != MODEL);
    if method != Method::POST || names_another {
        return sending::error(path, 404);
    }
    if let Some(api) = Api::of(path) {
        return converse(api, &request, path, &shared.abandoned).await;
    }
    match path {
        "/v1/embeddings" => Json(completions::embeddings(&request)).into_response(),
        "/v1/messages/count_tokens" => Json(messages::count(&request)).into_response(),
        _ => surface::respond(path, &headers, &body, SPOKEN)
            .unwrap_or_else(|| sending::error(path, 404)),
    }
}

async fn converse(
    api: Api,
    request: &Value,
    path: &str,
    abandoned: &watch::Sender<usize>,
) -> Response {
    match api.question(request).verdict() {
        Verdict::Fail(status) => sending::error(path, status),
        Verdict::Answer(reply) if api.streams(request) => api.events(request, &reply).whole(),
        Verdict::Stall(reply) if api.streams(request) => {
            let guard = Abandonment::new(abandoned);
            api.events(request, &reply).stalled(guard)
        }
        Verdict::Answer(reply) => Json(api.whole(request, &reply)).into_response(),
        Verdict::Stall(_) | Verdict::Hang => {
            let _guard = Abandonment::new(abandoned);
            std::future::pending::<()>().await;
            StatusCode::OK.into_response()
        }
    }
}

fn is_let_in(headers: &HeaderMap) -> bool {
    let bearer = format!("Bearer {API_KEY}");
    let shows = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    shows("authorization", &bearer)
        || ["x-api-key", "x-goog-api-key"]
            .iter()
            .any(|name| shows(name, API_KEY))
}
