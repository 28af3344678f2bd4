//! The last changes of the prefix cache, for whoever routes requests: a ring of batches with consecutive numbers.

use std::collections::VecDeque;
use std::sync::Arc;

use engine_core::{AdapterId, BlockHash, CacheEvent, Tier};
use futures::{Stream, stream};
use parking_lot::Mutex;
use protocol::kv_events::{KvCacheEvent, KvEventBatch, Medium};
use tokio::sync::watch;

/// Batches that a subscriber may be behind.
const BATCHES_MAX: usize = 4096;

/// The ring.
#[derive(Debug)]
pub(crate) struct EventLog {
    block_tokens: u32,
    batches: Mutex<VecDeque<Arc<KvEventBatch>>>,
    last: watch::Sender<u64>,
}

impl EventLog {
    pub(crate) fn new(block_tokens: u32) -> Self {
        Self {
            block_tokens,
            batches: Mutex::default(),
            last: watch::channel(0).0,
        }
    }

    /// Adds what a step has changed.
    pub(super) fn append(&self, events: Vec<CacheEvent>) {
        if events.is_empty() {
            return;
        }
        let seq = *self.last.borrow() + 1;
        let batch = KvEventBatch {
            seq,
            ts: jiff::Timestamp::now().as_microsecond() as f64 / 1e6,
            events: events.into_iter().map(|event| self.encode(event)).collect(),
        };
        let mut batches = self.batches.lock();
        if batches.len() == BATCHES_MAX {
            batches.pop_front();
        }
        batches.push_back(Arc::new(batch));
        drop(batches);
        self.last.send_replace(seq);
    }

    /// The batches behind number `after`, as far as they are still there, and all that follow; without a number only
    /// those that follow.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        after: Option<u64>,
    ) -> impl Stream<Item = Arc<KvEventBatch>> + Send + use<> {
        let changes = self.last.subscribe();
        let after = after.unwrap_or_else(|| *changes.borrow());
        let state = (Arc::clone(self), changes, after);
        stream::unfold(state, |(log, mut changes, after)| async move {
            loop {
                changes.mark_unchanged();
                if let Some(batch) = log.next(after) {
                    let seq = batch.seq;
                    return Some((batch, (log, changes, seq)));
                }
                changes.changed().await.ok()?;
            }
        })
    }

    fn next(&self, after: u64) -> Option<Arc<KvEventBatch>> {
        let batches = self.batches.lock();
        let place = batches.partition_point(|batch| batch.seq <= after);
        batches.get(place).cloned()
    }

    fn encode(&self, event: CacheEvent) -> KvCacheEvent {
        match event {
            CacheEvent::Stored {
                blocks,
                parent,
                tokens,
                adapter,
                tier,
            } => KvCacheEvent::BlockStored {
                block_hashes: blocks.iter().map(name).collect(),
                parent_block_hash: parent.as_ref().map(name),
                token_ids: tokens,
                block_size: self.block_tokens,
                lora_id: adapter.map(|AdapterId(id)| id),
                medium: medium(tier),
            },
            CacheEvent::Removed { blocks, tier } => KvCacheEvent::BlockRemoved {
                block_hashes: blocks.iter().map(name).collect(),
                medium: medium(tier),
            },
            CacheEvent::Cleared => KvCacheEvent::AllBlocksCleared,
        }
    }
}

const fn medium(tier: Tier) -> Medium {
    match tier {
        Tier::Device => Medium::Gpu,
        Tier::Host => Medium::Cpu,
    }
}

/// Half of a digest is enough to tell blocks apart.
fn name(hash: &BlockHash) -> String {
    let half = &hash.bytes()[..16];
    half.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use engine_core::CacheEvent;
    use futures::{FutureExt, StreamExt};

    use super::EventLog;

    #[tokio::test]
    async fn subscribers_get_what_they_missed_and_what_follows() {
        let log = Arc::new(EventLog::new(16));
        for _ in 0..3 {
            log.append(vec![CacheEvent::Cleared]);
        }
        log.append(Vec::new());
        let mut all = pin!(log.subscribe(Some(1)));
        let mut new = pin!(log.subscribe(None));
        assert_eq!(all.next().await.unwrap().seq, 2);
        assert_eq!(all.next().await.unwrap().seq, 3);
        assert!(all.next().now_or_never().is_none() && new.next().now_or_never().is_none());
        log.append(vec![CacheEvent::Cleared]);
        assert_eq!(all.next().await.unwrap().seq, 4);
        assert_eq!(new.next().await.unwrap().seq, 4);
    }
}
