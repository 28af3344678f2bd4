//! A provider that answers what a script says in its own API, lets in only who shows its credential, and knows only its
//! own paths.
//!
//! Answers are used up in order; the last one repeats. Every answer has used [`PROMPT_TOKENS`] tokens of prompt, of
//! which [`CACHED_TOKENS`] were cached, and a token for each word.

mod anthropic;
mod bedrock;
mod gemini;
mod ollama;
mod openai;

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

/// The API key, or the token, that the provider lets in.
pub const API_KEY: &str = "provider-secret";
/// Tokens of every prompt.
pub const PROMPT_TOKENS: u64 = 11;
/// Tokens of every prompt that were cached.
pub const CACHED_TOKENS: u64 = 4;

/// Where Vertex has models of Google's.
const VERTEX_MODELS: &str = "/v1/projects/p/locations/global/publishers/google/models/";
/// Where Vertex has models of Anthropic's.
const VERTEX_ANTHROPIC: &str = "/v1/projects/p/locations/global/publishers/anthropic/models/";

/// Whose API a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's, with a bearer token.
    OpenAi,
    /// Azure's variant of it.
    Azure,
    /// Anthropic's.
    Anthropic,
    /// Amazon Bedrock's.
    Bedrock,
    /// That of Google AI Studio.
    Gemini,
    /// Vertex AI's, for the project `p` in `global`; access tokens are at `/token`.
    Vertex,
    /// Ollama's, with a bearer token as behind a proxy.
    Ollama,
}

/// One answer of a script.
#[derive(Debug, Clone)]
pub enum Scripted {
    /// A text, streamed word by word if the client asks for a stream.
    Text(&'static str),
    /// A call of the tool `weather` with `{"city": "Oslo"}`.
    Call,
    /// An error of this status, with a message.
    Error(u16, &'static str),
    /// A stream whose first event is an error.
    ErrorEvent,
    /// The first events of a text, then the connection breaks.
    Cut(&'static str, usize),
    /// A redirect to this address.
    Redirect(String),
    /// This, whatever is asked.
    Json(Value),
}

/// A request that a provider got.
#[derive(Debug, Clone)]
pub struct Received {
    /// The path with the query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; a text if it is no JSON.
    pub body: Value,
}

/// A running provider; it stops when dropped.
#[derive(Debug)]
pub struct ScriptedProvider {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    api: Api,
    script: Mutex<VecDeque<Scripted>>,
    received: Mutex<Vec<Received>>,
}

/// What a provider answers with.
enum Answer {
    Whole(StatusCode, Value),
    Redirect(String),
    /// Events, and whether the connection breaks after them.
    Events {
        content_type: &'static str,
        events: Vec<Bytes>,
        is_cut: bool,
    },
}

impl ScriptedProvider {
    /// Starts a provider on a free port of the loopback interface.
    ///
    /// # Panics
    /// If no port can be bound.
    #[expect(
        clippy::expect_used,
        reason = "a test that cannot bind a port cannot run"
    )]
    pub async fn start(api: Api, script: Vec<Scripted>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on the loopback interface");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            api,
            script: Mutex::new(script.into()),
            received: Mutex::default(),
        });
        let router = Router::new()
            .fallback(answer)
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

    /// The base URL, with what the provider's own has behind its host.
    pub fn base_url(&self) -> String {
        let path = match self.shared.api {
            Api::OpenAi | Api::Anthropic => "/v1",
            Api::Azure | Api::Bedrock | Api::Ollama => "",
            Api::Gemini => "/v1beta",
            Api::Vertex => "/v1",
        };
        format!("http://{}{path}", self.address)
    }

    /// The requests so far, oldest first, those that were not let in too.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }
}

impl Shared {
    fn next(&self) -> Scripted {
        let mut script = self.script.lock();
        if script.len() <= 1 {
            return script.front().cloned().unwrap_or(Scripted::Text("hello"));
        }
        script.pop_front().unwrap_or(Scripted::Text("hello"))
    }

    fn answer(&self, received: &Received) -> Answer {
        let Received {
            path,
            headers,
            body,
        } = received;
        if self.api == Api::Vertex && path == gemini::TOKEN_PATH {
            return gemini::token(body.as_str().unwrap_or_default());
        }
        let is_let_in = match self.api {
            Api::OpenAi | Api::Ollama => openai::is_let_in(headers),
            Api::Azure => shows(headers, "api-key", API_KEY),
            Api::Anthropic => anthropic::is_let_in(headers),
            Api::Bedrock => bedrock::is_let_in(headers),
            Api::Gemini => gemini::is_let_in(headers),
            Api::Vertex => gemini::has_token(headers),
        };
        let is_known = match self.api {
            Api::OpenAi => matches!(&**path, "/v1/chat/completions" | "/v1/embeddings"),
            Api::Azure => openai::is_azure_path(path),
            Api::Anthropic => path == "/v1/messages",
            Api::Bedrock => bedrock::is_path(path),
            Api::Ollama => matches!(&**path, "/api/chat" | "/api/embed"),
            Api::Gemini => gemini::is_path(path, "/v1beta/models/"),
            Api::Vertex => gemini::is_path(path, VERTEX_MODELS) || is_vertex_anthropic(path),
        };
        let scripted = match (is_let_in, is_known) {
            (false, _) => Scripted::Error(401, "no key"),
            (true, false) => Scripted::Error(404, "no such path"),
            (true, true) => self.next(),
        };
        if let Scripted::Redirect(to) = scripted {
            return Answer::Redirect(to);
        }
        if let Scripted::Json(body) = scripted {
            return Answer::Whole(StatusCode::OK, body);
        }
        match self.api {
            Api::OpenAi | Api::Azure => openai::answer(&scripted, body),
            Api::Vertex if is_vertex_anthropic(path) => {
                anthropic::answer_at_vertex(&scripted, body)
            }
            Api::Anthropic => anthropic::answer(&scripted, body),
            Api::Bedrock => bedrock::answer(&scripted, path),
            Api::Gemini | Api::Vertex => gemini::answer(&scripted, path),
            Api::Ollama => ollama::answer(&scripted, body),
        }
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let received = Received {
        path: uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers,
        body: serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())),
    };
    shared.received.lock().push(received.clone());
    match shared.answer(&received) {
        Answer::Whole(status, body) => (status, axum::Json(body)).into_response(),
        Answer::Redirect(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
        }
        Answer::Events {
            content_type,
            events,
            is_cut,
        } => {
            let events = stream::iter(events.into_iter().map(Ok::<_, io::Error>));
            let body = if is_cut {
                Body::from_stream(events.chain(stream::once(async {
                    // What was sent has to leave before the connection is torn down.
                    tokio::task::yield_now().await;
                    Err(io::Error::from(io::ErrorKind::ConnectionReset))
                })))
            } else {
                Body::from_stream(events)
            };
            ([(header::CONTENT_TYPE, content_type)], body).into_response()
        }
    }
}

fn is_vertex_anthropic(path: &str) -> bool {
    path.starts_with(VERTEX_ANTHROPIC)
        && (path.ends_with(":rawPredict") || path.ends_with(":streamRawPredict"))
}

/// Whether a header has this value.
fn shows(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found == value)
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The status of an error.
fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An event without a name.
fn event(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// The answer that a stream or a part of it is.
fn events(content_type: &'static str, mut events: Vec<Bytes>, cut: Option<usize>) -> Answer {
    if let Some(kept) = cut {
        events.truncate(kept);
    }
    Answer::Events {
        content_type,
        events,
        is_cut: cut.is_some(),
    }
}
