//! Tells a collector of spans, logs and metrics: in batches, by OTLP over HTTP in JSON.

mod exposition;
mod logs;
mod metrics;
mod outbox;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use serde_json::json;
use thiserror::Error;

pub(crate) use self::metrics::push;
use self::outbox::{Batches, Outbox};
use super::{Ended, context::Trace, span::span};
use crate::upstream::Upstream;

/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Spans that wait to be sent.
const SPANS_MAX: usize = 4096;
/// Lines of the access log that wait to be sent.
const LINES_MAX: usize = 8192;

/// What a collector is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    /// Where collectors take it, below the address that is given.
    const fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }

    /// The names of its lists: of resources, of scopes, and of records.
    const fn lists(self) -> [&'static str; 3] {
        match self {
            Self::Traces => ["resourceSpans", "scopeSpans", "spans"],
            Self::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
            Self::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
        }
    }
}

/// A collector, which knows who tells.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    base: String,
    resource: Arc<str>,
}

/// An address that no collector can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not an http or https URL of a collector")]
pub(crate) struct InvalidCollector(pub(crate) String);

impl Collector {
    /// The collector at an address, which is told of this replica.
    ///
    /// # Errors
    /// [`InvalidCollector`].
    pub(crate) fn new(base: &str, node: &str) -> Result<Self, InvalidCollector> {
        let invalid = || InvalidCollector(base.to_owned());
        let trimmed = base.trim_end_matches('/');
        let uri = format!("{trimmed}{}", Signal::Traces.path()).parse::<Uri>();
        let uri = uri.map_err(|_| invalid())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(invalid());
        }
        let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
        let resource = [
            text("service.name", "quarterdeck-gateway"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", node),
        ];
        Ok(Self {
            base: trimmed.to_owned(),
            resource: json!({"attributes": resource}).to_string().into(),
        })
    }

    /// Tells of records, each of which is JSON.
    ///
    /// # Errors
    /// They did not arrive, in words.
    async fn tell(
        &self,
        client: &Upstream,
        signal: Signal,
        records: &[String],
    ) -> Result<(), String> {
        let [resources, scopes, list] = signal.lists();
        let body = format!(
            r#"{{"{resources}":[{{"resource":{},"{scopes}":[{{"scope":{{"name":"quarterdeck.gateway"}},"{list}":[{}]}}]}}]}}"#,
            self.resource,
            records.join(",")
        );
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{}", self.base, signal.path()))
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )
            .body(Full::new(Bytes::from(body)))
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
}

/// Where spans of ended requests go.
#[derive(Debug)]
pub(crate) struct Exporter {
    outbox: Outbox,
    /// The share of new traces that is sampled.
    pub(crate) ratio: f64,
    /// Whether spans tell what was said.
    pub(crate) tells_content: bool,
}

impl Exporter {
    /// An exporter, and what it takes.
    pub(crate) fn new(ratio: f64) -> (Self, Batches) {
        let (outbox, batches) = Outbox::new(Signal::Traces, SPANS_MAX);
        let exporter = Self {
            outbox,
            ratio,
            tells_content: false,
        };
        (exporter, batches)
    }

    /// The same, with or without what was said.
    pub(crate) fn telling_content(self, tells_content: bool) -> Self {
        Self {
            tells_content,
            ..self
        }
    }

    /// Spans that did not reach the collector.
    pub(crate) fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    /// Adds a span, without waiting.
    pub(super) fn send(&self, ended: &Ended<'_>, trace: &Trace) {
        self.outbox.send(|| span(ended, trace).to_string());
    }
}

/// Where lines of the access log go.
#[derive(Debug)]
pub(crate) struct LogExporter {
    outbox: Outbox,
}

impl LogExporter {
    /// An exporter, and what it takes.
    pub(crate) fn new() -> (Self, Batches) {
        let (outbox, batches) = Outbox::new(Signal::Logs, LINES_MAX);
        (Self { outbox }, batches)
    }

    /// Lines that did not reach the collector.
    pub(crate) fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    /// Adds a line, without waiting.
    pub(super) fn send(&self, ended: &Ended<'_>) {
        self.outbox.send(|| logs::record(ended).to_string());
    }
}
