//! Loading: has an engine load an adapter that it lacks, before the request that needs it is sent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::Full;
use protocol::snapshot::Adapter;
use serde_json::json;
use tracing::{info, warn};

use super::{Holding, poll};
use crate::{call::Operation, endpoint::Endpoint, provider::Provider, upstream::Upstream};

/// How long a load may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Sees to it that a replica has an adapter, as far as the target says where the engine finds it.
///
/// # Errors
/// Why the replica cannot have it now, in words.
pub(crate) async fn ensure(
    upstream: &Upstream,
    provider: &Provider,
    endpoint: &Endpoint,
    adapter: &Adapter,
    deadline: Instant,
) -> Result<(), String> {
    let (Some(path), name) = (&adapter.path, &adapter.name) else {
        return Ok(());
    };
    let held = &endpoint.adapters;
    let is_there = || {
        matches!(
            held.holding(name, Instant::now()),
            Holding::Loaded | Holding::Active
        )
    };
    if is_there() {
        return Ok(());
    }
    let by = deadline.min(Instant::now() + LOAD_TIMEOUT);
    let loaded = async {
        let _one = held.loading.acquire().await;
        match held.holding(name, Instant::now()) {
            Holding::Loaded | Holding::Active => return Ok(()),
            Holding::Refused => return Err("it could not be loaded a moment ago".to_owned()),
            Holding::Unknown | Holding::Absent => {}
        }
        load(upstream, provider, endpoint, (name, path)).await
    };
    let loaded = tokio::time::timeout_at(by.into(), loaded).await;
    let loaded = loaded.unwrap_or_else(|_| Err("loading took too long".to_owned()));
    match &loaded {
        Ok(()) => held.note_loaded(name),
        Err(reason) => {
            held.note_refused(name, Instant::now());
            let replica = endpoint.url();
            warn!(adapter = %name, replica, reason, "an adapter could not be loaded");
        }
    }
    loaded
}

async fn load(
    upstream: &Upstream,
    provider: &Provider,
    endpoint: &Endpoint,
    (name, path): (&str, &str),
) -> Result<(), String> {
    let url = endpoint.url();
    let body = json!({"lora_name": name, "lora_path": path}).to_string();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("{}/load_lora_adapter", url.trim_end_matches('/')))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    provider.authorize(Operation::Chat, &HeaderMap::new(), request.headers_mut());
    let response = upstream.request(request).await;
    let status = response.map_err(|error| error.to_string())?.status();
    // Engines refuse what they have already with the same status as what they cannot read.
    let report = poll::poll(upstream, provider, url).await;
    let is_there = report
        .as_ref()
        .is_some_and(|report| report.loaded.contains(name));
    endpoint.adapters.note(report);
    if status == StatusCode::OK {
        info!(adapter = name, replica = url, "an adapter was loaded");
    }
    match is_there || status == StatusCode::OK {
        true => Ok(()),
        false => Err(format!("status {status}")),
    }
}
