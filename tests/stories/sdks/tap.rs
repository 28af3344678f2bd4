//! A tap between clients and a server: it passes requests and answers on as they come, and keeps them.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

use crate::harness::client;

/// An answer, or as much of it as the client waited for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exchange {
    /// The path that was asked for.
    pub(crate) path: String,
    /// The body of the request; null if it is no JSON.
    pub(crate) request: Value,
    /// Whether the client speaks Anthropic's API.
    pub(crate) is_anthropic: bool,
    /// The status.
    pub(crate) status: u16,
    /// The content type without parameters.
    pub(crate) media: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Exchange {
    /// The values of the answer: one, or one for each event that is complete.
    pub(crate) fn values(&self) -> Result<Vec<Value>> {
        let text = String::from_utf8_lossy(&self.body);
        match self.media.as_str() {
            "application/json" => {
                let value = serde_json::from_str(&text);
                Ok(vec![value.with_context(|| format!("reading {text}"))?])
            }
            "text/event-stream" => {
                let complete = text
                    .rsplit_once("\n\n")
                    .map_or("", |(complete, _)| complete);
                let data = complete
                    .lines()
                    .filter_map(|line| line.strip_prefix("data: "));
                let data = data.filter(|data| *data != "[DONE]");
                data.map(|data| {
                    serde_json::from_str(data).with_context(|| format!("reading {data}"))
                })
                .collect()
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// A running tap; it stops when dropped.
pub(crate) struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    server: String,
    client: reqwest::Client,
    exchanges: Mutex<Vec<Exchange>>,
}

impl Tap {
    /// Starts a tap before a server at this URL without a path.
    pub(crate) async fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            client: client(),
            exchanges: Mutex::default(),
        });
        let router = Router::new()
            .fallback(pass)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let mut running = JoinSet::new();
        running.spawn(async move {
            // Serving ends only with the story that dropped the tap.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            shared,
            _server: running,
        })
    }

    /// The base URL, with `/v1`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What has passed.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.shared.exchanges.lock().clone()
    }
}

async fn pass(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Response {
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    let request = serde_json::from_slice(&body).unwrap_or_default();
    let is_anthropic = headers.contains_key("anthropic-version");
    let place = {
        let mut exchanges = shared.exchanges.lock();
        exchanges.push(Exchange {
            path: uri.path().to_owned(),
            request,
            is_anthropic,
            ..Exchange::default()
        });
        exchanges.len() - 1
    };
    let asked = shared
        .client
        .request(method, format!("{}{uri}", shared.server))
        .headers(headers)
        .body(body)
        .send()
        .await;
    let Ok(answer) = asked else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let media = headers.get(header::CONTENT_TYPE);
    let media = media
        .and_then(|media| media.to_str().ok())
        .unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default();
    if let Some(exchange) = shared.exchanges.lock().get_mut(place) {
        exchange.status = status.as_u16();
        media.clone_into(&mut exchange.media);
    }
    headers.remove(header::TRANSFER_ENCODING);
    let pieces = answer.bytes_stream().inspect(move |piece| {
        if let Ok(piece) = piece
            && let Some(exchange) = shared.exchanges.lock().get_mut(place)
        {
            exchange.body.extend_from_slice(piece);
        }
    });
    (status, headers, Body::from_stream(pieces)).into_response()
}
