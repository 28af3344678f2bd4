//! Sends spans to a collector, in batches, by OTLP over HTTP in JSON.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::warn;

use super::{Ended, context::Trace, span::span};
use crate::upstream::Upstream;

/// Spans that wait to be sent.
const SPANS_MAX: usize = 4096;
/// Spans of one batch.
const BATCH_MAX: usize = 256;
/// How long a batch waits for more.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where collectors take traces, below the address that is given.
const PATH: &str = "/v1/traces";

/// Where spans of ended requests go.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: mpsc::Sender<Value>,
    dropped: Arc<AtomicU64>,
    /// The share of new traces that is sampled.
    pub(crate) ratio: f64,
}

/// Spans on their way to a collector.
#[derive(Debug)]
pub(crate) struct Spans {
    spans: mpsc::Receiver<Value>,
    dropped: Arc<AtomicU64>,
}

/// An address that no collector can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not an http or https URL of a collector")]
pub(crate) struct InvalidCollector(pub(crate) String);

impl Exporter {
    /// An exporter, and what it takes.
    pub(crate) fn new(ratio: f64) -> (Self, Spans) {
        let (sender, receiver) = mpsc::channel(SPANS_MAX);
        let dropped = Arc::default();
        let exporter = Self {
            spans: sender,
            dropped: Arc::clone(&dropped),
            ratio,
        };
        let spans = Spans {
            spans: receiver,
            dropped,
        };
        (exporter, spans)
    }

    /// Spans that did not reach the collector.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Adds a span, without waiting.
    pub(super) fn send(&self, ended: &Ended<'_>, trace: &Trace) {
        if self.spans.try_send(span(ended, trace)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The address of a collector's traces.
///
/// # Errors
/// [`InvalidCollector`].
pub(crate) fn collector(base: &str) -> Result<Uri, InvalidCollector> {
    let invalid = || InvalidCollector(base.to_owned());
    let url = format!("{}{PATH}", base.trim_end_matches('/'));
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    is_http.then_some(uri).ok_or_else(invalid)
}

impl Spans {
    /// Sends spans until the last gateway that makes some is gone.
    pub(crate) async fn export(mut self, client: Upstream, collector: Uri, node: String) {
        let mut batch = Vec::new();
        while let Some(first) = self.spans.recv().await {
            batch.push(first);
            let more = async {
                while batch.len() < BATCH_MAX
                    && let Some(next) = self.spans.recv().await
                {
                    batch.push(next);
                }
            };
            // What is there when the time is over is sent.
            let _ = tokio::time::timeout(BATCH_WAIT, more).await;
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let body = body(&batch, &node);
            batch.clear();
            if let Err(reason) = post(&client, &collector, body).await {
                self.dropped.fetch_add(count, Ordering::Relaxed);
                warn!(reason, "spans did not reach the collector");
            }
        }
    }
}

fn body(spans: &[Value], node: &str) -> Bytes {
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let resource = [
        text("service.name", "quarterdeck-gateway"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", node),
    ];
    let scope = json!({"name": "quarterdeck.gateway"});
    let traces = json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]});
    Bytes::from(traces.to_string())
}

async fn post(client: &Upstream, collector: &Uri, body: Bytes) -> Result<(), String> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(collector.clone())
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let asking = tokio::time::timeout(TIMEOUT, client.request(request));
    let response = asking
        .await
        .map_err(|_| format!("no answer within {TIMEOUT:?}"))?;
    let status = response.map_err(|error| error.to_string())?.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("status {status}")),
    }
}
