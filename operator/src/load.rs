//! How far engines are: the load reports of Pods, asked for at most every two seconds.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use protocol::load::LoadReport;

/// How long an answer counts, and so how often an engine is asked at most.
pub(crate) const PERIOD: Duration = Duration::from_secs(2);
/// How long an engine may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of an answer.
const REPORT_BYTES_MAX: usize = 64 << 10;
/// Reports that are kept; older ones go first.
const REPORTS_MAX: usize = 10_000;

/// When an engine was asked, and what it answered.
type Answer = (Instant, Option<LoadReport>);

/// Asks engines how far they are.
#[derive(Clone)]
pub(crate) struct LoadReports {
    client: Client<HttpConnector, Empty<Bytes>>,
    known: Arc<Mutex<HashMap<String, Answer>>>,
}

impl LoadReports {
    pub(crate) fn new() -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            known: Arc::default(),
        }
    }

    /// The report of the engine at `address`; none if it does not answer.
    pub(crate) async fn of(&self, address: &str) -> Option<LoadReport> {
        if let Some(report) = self.fresh(address) {
            return report;
        }
        let report = tokio::time::timeout(TIMEOUT, self.fetch(address))
            .await
            .ok()
            .flatten();
        let mut known = self.known.lock();
        if REPORTS_MAX <= known.len() {
            known.retain(|_, (asked, _)| asked.elapsed() < PERIOD);
        }
        known.insert(address.to_owned(), (Instant::now(), report.clone()));
        report
    }

    /// An answer that still counts; the loading of an engine is no news within the period.
    fn fresh(&self, address: &str) -> Option<Option<LoadReport>> {
        let known = self.known.lock();
        let (asked, report) = known.get(address)?;
        // A little less than the period, so that a reconcile after exactly the period asks again.
        (asked.elapsed() < PERIOD * 9 / 10).then(|| report.clone())
    }

    async fn fetch(&self, address: &str) -> Option<LoadReport> {
        let request = Request::get(format!("http://{address}/health/load"))
            .body(Empty::new())
            .ok()?;
        let response = self.client.request(request).await.ok()?;
        let body = Limited::new(response.into_body(), REPORT_BYTES_MAX)
            .collect()
            .await
            .ok()?;
        serde_json::from_slice(&body.to_bytes()).ok()
    }
}
