//! Our engine's way: server-sent events at `/kv_events`, a batch each, in JSON.

use ::http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use protocol::{
    kv_events::{KvCacheEvent, KvEventBatch, Medium as Told},
    sse::Parser,
};

use super::{BATCH_BYTES_MAX, Batch, CONNECT_TIMEOUT, IDLE_TIMEOUT};
use crate::{
    prefix::{Change, Medium, hash},
    upstream::Upstream,
};

/// Listens until the connection ends; why it did.
pub(super) async fn listen(upstream: &Upstream, url: &str, take: impl FnMut(Batch)) -> String {
    match try_listen(upstream, url, take).await {
        Ok(()) => "the replica ended it".to_owned(),
        Err(reason) => reason,
    }
}

async fn try_listen(
    upstream: &Upstream,
    url: &str,
    mut take: impl FnMut(Batch),
) -> Result<(), String> {
    let base = url.trim_end_matches('/');
    let root = base.strip_suffix("/v1").unwrap_or(base);
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("{root}/kv_events"))
        .header(header::ACCEPT, protocol::sse::CONTENT_TYPE)
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    let response = tokio::time::timeout(CONNECT_TIMEOUT, upstream.request(request)).await;
    let response = response
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status()));
    }
    let mut body = response.into_body();
    let mut parser = Parser::new(BATCH_BYTES_MAX);
    loop {
        let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await;
        let Some(frame) = frame.map_err(|_| "silence".to_owned())? else {
            return Ok(());
        };
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let events = parser.push(&data).map_err(|error| error.to_string())?;
        for event in events.iter().filter(|event| !event.data.is_empty()) {
            let batch: KvEventBatch = serde_json::from_str(&event.data)
                .map_err(|error| format!("an event is none: {error}"))?;
            take(Batch {
                sequence: batch.seq,
                changes: batch.events.into_iter().map(change).collect(),
            });
        }
    }
}

fn change(event: KvCacheEvent) -> Change {
    let names = |names: &[String]| names.iter().map(|name| hash(name.as_bytes())).collect();
    match event {
        KvCacheEvent::BlockStored {
            block_hashes,
            parent_block_hash,
            block_size,
            medium,
            ..
        } => Change::Stored {
            blocks: names(&block_hashes),
            parent: parent_block_hash.map(|name| hash(name.as_bytes())),
            block_tokens: block_size,
            medium: place(medium),
        },
        KvCacheEvent::BlockRemoved {
            block_hashes,
            medium,
        } => Change::Removed {
            blocks: names(&block_hashes),
            medium: place(medium),
        },
        KvCacheEvent::AllBlocksCleared => Change::Cleared,
    }
}

const fn place(medium: Told) -> Medium {
    match medium {
        Told::Gpu => Medium::Device,
        Told::Cpu => Medium::Host,
    }
}
