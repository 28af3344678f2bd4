//! What waits to be told to a collector: so many records, and so many bytes of them; what is beyond is dropped and counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use tracing::warn;

use super::{Collector, Signal};
use crate::upstream::Upstream;

/// Bytes that wait.
const BYTES_MAX: usize = 32 << 20;
/// Records of one batch.
const BATCH_MAX: usize = 256;
/// How long a batch waits for more.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// Takes records.
#[derive(Debug)]
pub(super) struct Outbox {
    records: mpsc::Sender<String>,
    counts: Arc<Counts>,
}

/// Records on their way to a collector.
#[derive(Debug)]
pub(crate) struct Batches {
    signal: Signal,
    records: mpsc::Receiver<String>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Outbox {
    /// An outbox for so many records, and what it takes.
    pub(super) fn new(signal: Signal, records_max: usize) -> (Self, Batches) {
        let (sender, receiver) = mpsc::channel(records_max);
        let counts: Arc<Counts> = Arc::default();
        let outbox = Self {
            records: sender,
            counts: Arc::clone(&counts),
        };
        let batches = Batches {
            signal,
            records: receiver,
            counts,
        };
        (outbox, batches)
    }

    /// Records that did not reach the collector.
    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }

    /// Adds a record, which is made only if there is room, without waiting.
    pub(super) fn send(&self, record: impl FnOnce() -> String) {
        let Counts {
            waiting_bytes,
            dropped,
        } = &*self.counts;
        let sent = self.records.try_reserve().ok().and_then(|place| {
            if BYTES_MAX <= waiting_bytes.load(Relaxed) {
                return None;
            }
            let record = record();
            waiting_bytes.fetch_add(record.len(), Relaxed);
            place.send(record);
            Some(())
        });
        if sent.is_none() {
            dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Batches {
    /// Tells the collector until the last gateway that makes records is gone.
    pub(crate) async fn export(mut self, client: Upstream, collector: Collector) {
        let mut batch = Vec::new();
        while let Some(first) = self.records.recv().await {
            batch.push(first);
            let more = async {
                while batch.len() < BATCH_MAX
                    && let Some(next) = self.records.recv().await
                {
                    batch.push(next);
                }
            };
            // What is there when the time is over is sent.
            let _ = tokio::time::timeout(BATCH_WAIT, more).await;
            let bytes = batch.iter().map(String::len).sum();
            self.counts.waiting_bytes.fetch_sub(bytes, Relaxed);
            if let Err(reason) = collector.tell(&client, self.signal, &batch).await {
                let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                self.counts.dropped.fetch_add(count, Relaxed);
                let path = self.signal.path();
                warn!(path, reason, "records did not reach the collector");
            }
            batch.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, Outbox, Signal};

    #[test]
    fn what_is_beyond_the_bounds_is_dropped_unmade_and_counted() {
        let unmade = || panic!("there is no place for it");
        let (outbox, mut batches) = Outbox::new(Signal::Traces, 2);
        for _ in 0..2 {
            outbox.send(|| "{}".to_owned());
        }
        outbox.send(unmade);
        assert_eq!(outbox.dropped(), 1);
        assert_eq!(batches.records.try_recv().unwrap(), "{}");
        outbox.send(|| "x".repeat(BYTES_MAX));
        assert_eq!(batches.records.try_recv().unwrap(), "{}");
        outbox.send(unmade);
        assert_eq!(outbox.dropped(), 2);
    }
}
