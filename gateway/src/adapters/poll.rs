//! Polls: asks the replicas of targets with adapters what they hold, each one once in a while.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Collected, Full, Limited};
use tokio_util::sync::CancellationToken;

use super::report::{self, Report};
use crate::{
    call::Operation, endpoint::Endpoint, gateway::Gateway, provider::Provider, table::Table,
    upstream::Upstream,
};

/// How long what a replica said is believed.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a replica may take to say it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Replicas that are asked at once.
const AT_ONCE: usize = 16;
/// Bytes of an answer; the metrics of an engine are some hundred kilobytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Keeps what replicas hold up to date until shutdown; at rest while no route has adapters.
pub(crate) async fn follow(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let mut changes = gateway.changes();
    loop {
        changes.mark_unchanged();
        let table = gateway.table().ok();
        let is_any = match &table {
            Some(table) => poll_all(&gateway, table).await,
            None => false,
        };
        drop(table);
        let due = async {
            if is_any {
                tokio::time::sleep(PERIOD).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = due => {}
        }
    }
}

/// Asks all replicas of targets with adapters; whether there are any. A server is asked once, however many routes name it.
async fn poll_all(gateway: &Gateway, table: &Table) -> bool {
    let mut replicas: HashMap<&str, (&Provider, Vec<&Endpoint>)> = HashMap::new();
    let targets = table.routes.iter().flat_map(|route| &route.targets);
    for target in targets.filter(|target| !target.adapters.is_empty()) {
        for endpoint in &target.endpoints {
            let replica = replicas
                .entry(endpoint.url())
                .or_insert_with(|| (&target.provider, Vec::new()));
            replica.1.push(endpoint);
        }
    }
    let is_any = !replicas.is_empty();
    let mut polls: Vec<BoxFuture<'_, ()>> = Vec::new();
    for (url, (provider, endpoints)) in replicas {
        polls.push(Box::pin(async move {
            let report = poll(gateway.upstream(), provider, url).await;
            for endpoint in endpoints {
                endpoint.adapters.note(report.clone());
            }
        }));
    }
    stream::iter(polls)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    is_any
}

/// What a replica says that it holds; `None` if it does not say.
pub(super) async fn poll(upstream: &Upstream, provider: &Provider, url: &str) -> Option<Report> {
    let base = url.trim_end_matches('/');
    let models = get(upstream, provider, &format!("{base}/models")).await?;
    let loaded = report::loaded(&models)?;
    if loaded.is_empty() {
        return Some(Report::default());
    }
    let root = base.strip_suffix("/v1").unwrap_or(base);
    let metrics = get(upstream, provider, &format!("{root}/metrics")).await;
    let metrics = metrics.unwrap_or_default();
    let metrics = String::from_utf8_lossy(&metrics);
    Some(Report {
        loaded,
        active: report::active(&metrics),
        busyness: report::busyness(&metrics),
    })
}

async fn get(upstream: &Upstream, provider: &Provider, url: &str) -> Option<Bytes> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(url)
        .header(header::ACCEPT_ENCODING, "identity")
        .body(Full::default())
        .ok()?;
    provider.authorize(Operation::Chat, &HeaderMap::new(), request.headers_mut());
    let asked = async {
        let response = upstream.request(request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        body.collect().await.ok().map(Collected::to_bytes)
    };
    tokio::time::timeout(TIMEOUT, asked).await.ok().flatten()
}
