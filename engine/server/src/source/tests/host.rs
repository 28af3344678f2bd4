//! A web server with one file, which can break connections and change the file's version.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, yield_now};

#[derive(Default)]
struct Behaviour {
    content: Vec<u8>,
    break_after: Option<usize>,
    changes_version: bool,
    requests: Vec<(String, String)>,
}

type Shared = Arc<Mutex<Behaviour>>;

/// The server; it ends with this value.
pub(super) struct Host {
    address: String,
    behaviour: Shared,
    _server: JoinSet<()>,
}

impl Host {
    pub(super) async fn start(content: Vec<u8>) -> Self {
        let behaviour = Shared::new(Mutex::new(Behaviour {
            content,
            ..Behaviour::default()
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&behaviour));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            behaviour,
            _server: server,
        }
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Breaks each connection after so many bytes.
    pub(super) fn break_after(&self, bytes: usize) {
        self.behaviour.lock().break_after = Some(bytes);
    }

    /// Gives each answer another version, and breaks only the first.
    pub(super) fn change_version_each_time(&self) {
        self.behaviour.lock().changes_version = true;
    }

    pub(super) fn requests(&self) -> usize {
        self.behaviour.lock().requests.len()
    }

    pub(super) fn ranges(&self) -> Vec<String> {
        self.behaviour
            .lock()
            .requests
            .iter()
            .map(|(_, range)| range.clone())
            .collect()
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.behaviour
            .lock()
            .requests
            .iter()
            .map(|(path, _)| path.clone())
            .collect()
    }
}

/// The first byte that a range asks for.
pub(super) fn start_of(range: &str) -> u64 {
    range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-')?.parse().ok())
        .unwrap_or(0)
}

async fn serve(State(behaviour): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    let text = |name: header::HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let mut behaviour = behaviour.lock();
    let range = text(header::RANGE);
    behaviour
        .requests
        .push((uri.path().to_owned(), range.to_owned()));
    if uri.path().ends_with("missing") {
        return StatusCode::NOT_FOUND.into_response();
    }
    if uri.path().ends_with("secret") && text(header::AUTHORIZATION) != "Bearer t" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let version = if behaviour.changes_version {
        behaviour.requests.len()
    } else {
        1
    };
    let tag = format!("\"{version}\"");
    let start = if text(header::IF_RANGE) == tag {
        start_of(range) as usize
    } else {
        0
    };
    let rest = behaviour.content[start..].to_vec();
    let is_broken = !behaviour.changes_version || behaviour.requests.len() == 1;
    let sent = behaviour
        .break_after
        .filter(|_| is_broken)
        .map_or(rest.len(), |bytes| bytes.min(rest.len()));
    let length = rest.len();
    let mut pieces: Vec<Result<Bytes, std::io::Error>> =
        vec![Ok(Bytes::from(rest[..sent].to_vec()))];
    if sent < length {
        pieces.push(Err(std::io::ErrorKind::ConnectionReset.into()));
    }
    let status = if 0 < start {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let headers = [
        (header::ETAG, tag),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    // A pause before the break lets the server send what it has.
    let pieces = stream::iter(pieces).then(|piece| async {
        if piece.is_err() {
            yield_now().await;
        }
        piece
    });
    (status, headers, Body::from_stream(pieces)).into_response()
}
