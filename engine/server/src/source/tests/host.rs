//! A web server on loopback that answers as a test says, cuts connections, and remembers what it was asked.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, yield_now};

/// What the server was asked.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
}

impl Ask {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The first byte that a range asks for.
    pub(super) fn start(&self) -> usize {
        let range = self.header("range").strip_prefix("bytes=");
        range
            .and_then(|range| range.strip_suffix('-')?.parse().ok())
            .unwrap_or(0)
    }
}

/// What the server answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Breaks the connection after so many bytes.
    cut: Option<usize>,
    /// Leaves the length out.
    is_endless: bool,
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn body(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            ..Self::default()
        }
    }

    /// A file with a tag, or the rest of it that a range asks for.
    pub(super) fn file(ask: &Ask, content: &[u8], tag: &str) -> Self {
        let condition = [ask.header("if-range"), ask.header("if-match")];
        let is_same = condition
            .iter()
            .all(|value| value.is_empty() || *value == tag);
        let start = if is_same { ask.start() } else { 0 };
        if !is_same && !ask.header("if-match").is_empty() {
            return Self::status(412);
        }
        let length = content.len();
        let reply = Self::body(content[start.min(length)..].to_vec()).with("etag", tag);
        if 0 < start {
            let range = format!("bytes {start}-{}/{length}", length - 1);
            return reply.with_status(206).with("content-range", &range);
        }
        reply
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(super) fn cut_after(self, bytes: usize) -> Self {
        Self {
            cut: Some(bytes),
            ..self
        }
    }

    pub(super) fn endless(self) -> Self {
        Self {
            is_endless: true,
            ..self
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let sent = self.cut.unwrap_or(usize::MAX).min(self.body.len());
        let mut pieces: Vec<Result<Bytes, std::io::Error>> =
            vec![Ok(Bytes::from(self.body[..sent].to_vec()))];
        if sent < self.body.len() {
            pieces.push(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        // A pause before the break lets the server send what it has.
        let pieces = stream::iter(pieces).then(|piece| async {
            if piece.is_err() {
                yield_now().await;
            }
            piece
        });
        let mut response = Response::new(Body::from_stream(pieces));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        let headers = response.headers_mut();
        if !self.is_endless {
            headers.insert("content-length", self.body.len().into());
        }
        for (name, value) in self.headers {
            headers.insert(name, value.parse().unwrap());
        }
        response
    }
}

type Handler = Arc<dyn Fn(&Ask, usize) -> Reply + Send + Sync>;

/// The server; it ends with this value.
pub(super) struct Host {
    address: String,
    asks: Arc<Mutex<Vec<Ask>>>,
    _server: JoinSet<()>,
}

impl Host {
    /// A server that answers by `handler`, which gets the request and how many there were before.
    pub(super) async fn start(
        handler: impl Fn(&Ask, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (handler, asks): (Handler, _) = (Arc::new(handler), Arc::new(Mutex::new(Vec::new())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::clone(&asks);
        let answer = move |request: Request| {
            let ask = Ask {
                path: request.uri().path().to_owned(),
                query: request.uri().query().unwrap_or_default().to_owned(),
                headers: request.headers().clone(),
            };
            let before = {
                let mut seen = seen.lock();
                seen.push(ask.clone());
                seen.len() - 1
            };
            let reply = handler(&ask, before);
            async move { reply }
        };
        let router = Router::new().fallback(answer);
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            asks,
            _server: server,
        }
    }

    /// A server with one file under every name.
    pub(super) async fn with(content: Vec<u8>) -> Self {
        Self::start(move |ask, _| Reply::file(ask, &content, "\"1\"")).await
    }

    /// The host and the port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    pub(super) fn asks(&self) -> Vec<Ask> {
        self.asks.lock().clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.asks.lock().len()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.asks().into_iter().map(|ask| ask.path).collect()
    }
}
