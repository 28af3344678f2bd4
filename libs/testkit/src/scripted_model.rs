//! A model that answers what a script says, over OpenAI's API, streaming and faults included.
//!
//! Answers are used up in order; the last one repeats. With an empty script the model echoes the last message.

mod answer;
pub(crate) mod surface;
mod wire;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use protocol::openai::{Model, ModelList};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use self::answer::{Answer, Call};

/// The name under which the model lists itself.
pub const MODEL: &str = "scripted";

/// The surfaces beside chats.
const SURFACES: [&str; 12] = [
    "/v1/rerank",
    "/v1/moderations",
    "/tokenize",
    "/detokenize",
    "/v1/responses/input_tokens",
    "/v1/responses/compact",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
];

/// A running scripted model; it stops when dropped.
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

/// A request that the model got.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The path, as `/v1/chat/completions`.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Recorded {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Shared {
    script: Mutex<VecDeque<Answer>>,
    recorded: Mutex<Vec<Recorded>>,
    abandoned: watch::Sender<usize>,
}

impl ScriptedModel {
    /// Starts a model on a free port of the loopback interface.
    ///
    /// # Panics
    /// If no port can be bound.
    #[expect(
        clippy::expect_used,
        reason = "a test that cannot bind a port cannot run"
    )]
    pub async fn start(script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on the loopback interface");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        Self::serve(listener, address, script)
    }

    /// Starts a model on this address, as one that was stopped and comes back.
    ///
    /// # Panics
    /// If the address cannot be bound.
    #[expect(
        clippy::expect_used,
        reason = "a test that cannot bind its port cannot run"
    )]
    pub async fn start_at(address: SocketAddr, script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .expect("the address that was in use before");
        Self::serve(listener, address, script)
    }

    fn serve(listener: TcpListener, address: SocketAddr, script: Vec<Answer>) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into()),
            recorded: Mutex::default(),
            abandoned: watch::Sender::new(0),
        });
        let mut router = Router::new().route("/v1/models", get(list));
        for path in SURFACES {
            router = router.route(path, post(answer));
        }
        let router = router
            .route("/v1/chat/completions", post(answer))
            .route("/v1/completions", post(answer))
            .route("/v1/embeddings", post(answer))
            // In the shapes of chats: what passes these through does not look at them.
            .route("/v1/responses", post(answer))
            .route("/v1/messages", post(answer))
            .route("/v1/messages/count_tokens", post(answer))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Serving ends only with the test that dropped the model.
            let _ = axum::serve(listener, router).await;
        });
        Self {
            address,
            shared,
            _server: server,
        }
    }

    /// The base URL, with `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds an answer to the script.
    pub fn push(&self, answer: impl Into<Answer>) {
        self.shared.script.lock().push_back(answer.into());
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.recorded.lock().clone()
    }

    /// Waits until clients have gone away from this many answers that hang or stall.
    pub async fn abandoned(&self, count: usize) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self
            .shared
            .abandoned
            .subscribe()
            .wait_for(|abandoned| count <= *abandoned)
            .await;
    }
}

impl Shared {
    fn next(&self, request: &Value) -> Answer {
        let mut script = self.script.lock();
        if script.len() <= 1 {
            return script
                .front()
                .cloned()
                .unwrap_or_else(|| Answer::Text(answer::last_message(request)));
        }
        script
            .pop_front()
            .unwrap_or_else(|| Answer::Text(String::new()))
    }
}

async fn list() -> Json<ModelList> {
    Json(ModelList::new([Model::new(MODEL, 0, "testkit")]))
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let recorded = Recorded {
        path: uri.path().to_owned(),
        headers,
        body,
    };
    let request = recorded.json();
    shared.recorded.lock().push(recorded.clone());
    if uri.path().ends_with("/embeddings") {
        return Json(wire::embedding(&request)).into_response();
    }
    let answer = shared.next(&request);
    if let Answer::Cut { text, events } = &answer
        && uri.path().ends_with("/audio/speech")
    {
        return surface::speech_cut(text, *events);
    }
    if let Answer::Text(text) = &answer
        && let Some(response) =
            surface::respond(uri.path(), &recorded.headers, &recorded.body, text)
    {
        return response;
    }
    answer::respond(answer, &request, &shared.abandoned).await
}
