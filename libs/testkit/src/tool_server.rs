//! A tool server that speaks the Model Context Protocol over streamable HTTP, in a revision with sessions or without.
//!
//! Tools: `echo` gives back its arguments, `slow` tells of its progress and waits to be released, `ask` asks the client to
//! say something, `fail` says that it failed. The list comes in pages of two.

mod methods;
mod wire;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{broadcast, oneshot, watch},
    task::JoinSet,
};

/// Notifications that wait for a listener.
const OUTBOX: usize = 64;

/// The revision that a server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Revision {
    /// 2025-11-25, with a session for each client.
    #[default]
    Sessions,
    /// 2025-11-25, without session ids.
    SessionsUnnamed,
    /// 2026-07-28, without sessions.
    Stateless,
}

/// How a server behaves.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// The revision.
    pub revision: Revision,
    /// Whether each answer comes as a stream.
    pub streams: bool,
    /// The value of the `Authorization` header without which nothing is answered.
    pub authorization: Option<String>,
}

/// A message that the server got.
#[derive(Debug, Clone)]
pub struct Received {
    /// The HTTP method.
    pub method: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null if there was none.
    pub body: Value,
}

/// A running tool server; it stops when dropped.
#[derive(Debug)]
pub struct ToolServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    behaviour: Behaviour,
    received: Mutex<Vec<Received>>,
    sessions: Mutex<HashSet<String>>,
    sessions_made: AtomicUsize,
    /// What comes in place of the next answers: a status, a content type and a body.
    instead: Mutex<VecDeque<(StatusCode, String, String)>>,
    announcements: broadcast::Sender<Value>,
    listeners: watch::Sender<usize>,
    released: watch::Sender<bool>,
    cancelled: watch::Sender<usize>,
    /// The server's own requests, by id.
    asked: Mutex<HashMap<String, oneshot::Sender<Value>>>,
}

impl ToolServer {
    /// Starts a server on a free port of the loopback interface.
    ///
    /// # Panics
    /// If no port can be bound.
    #[expect(
        clippy::expect_used,
        reason = "a test that cannot bind a port cannot run"
    )]
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on the loopback interface");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            behaviour,
            received: Mutex::default(),
            sessions: Mutex::default(),
            sessions_made: AtomicUsize::new(0),
            instead: Mutex::default(),
            announcements: broadcast::channel(OUTBOX).0,
            listeners: watch::channel(0).0,
            released: watch::channel(false).0,
            cancelled: watch::channel(0).0,
            asked: Mutex::default(),
        });
        let methods = post(wire::post).get(wire::get).delete(wire::delete);
        let router = Router::new()
            .route("/mcp", methods)
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

    /// The URL of its endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// All messages so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }

    /// The messages so far that name this method of the protocol.
    pub fn received_of(&self, method: &str) -> Vec<Received> {
        let mut received = self.received();
        received.retain(|received| received.body["method"] == method);
        received
    }

    /// Sends this in place of the next answer: a status, a content type and a body.
    pub fn answer_once(&self, status: u16, content_type: &str, body: &str) {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let answer = (status, content_type.to_owned(), body.to_owned());
        self.shared.instead.lock().push_back(answer);
    }

    /// Forgets all sessions, as a server that was started again.
    pub fn forget_sessions(&self) {
        self.shared.sessions.lock().clear();
    }

    /// The sessions that are open.
    pub fn sessions_open(&self) -> usize {
        self.shared.sessions.lock().len()
    }

    /// The sessions that were ever opened.
    pub fn sessions_made(&self) -> usize {
        self.shared.sessions_made.load(Ordering::SeqCst)
    }

    /// Tells everybody who listens.
    pub fn announce(&self, method: &str, params: &Value) {
        let text = json!({"jsonrpc": "2.0", "method": method, "params": params});
        // Nobody need listen.
        let _ = self.shared.announcements.send(text);
    }

    /// Waits until so many listen.
    pub async fn heard_by(&self, count: usize) {
        let mut listeners = self.shared.listeners.subscribe();
        // The sender lives as long as the server.
        let _ = listeners.wait_for(|listeners| *listeners == count).await;
    }

    /// Lets `slow` end, now and ever after.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Waits until so many calls were cancelled.
    pub async fn cancelled(&self, count: usize) {
        let mut cancelled = self.shared.cancelled.subscribe();
        // The sender lives as long as the server.
        let _ = cancelled.wait_for(|cancelled| *cancelled == count).await;
    }
}
