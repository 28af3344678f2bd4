//! The hub: what happens in runs, told to those who listen now; the log tells everybody else.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use protocol::runs::RunEvent;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::store::{RunId, StoredEvent};

/// Events that a listener may lag behind; beyond that it reads the log and misses deltas.
const LAG_MAX: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Published {
    /// It is in the log.
    Stored(Arc<StoredEvent>),
    /// Text of a model; it is not in the log.
    Delta(Arc<RunEvent>),
}

/// Listeners by run.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    runs: Mutex<HashMap<RunId, broadcast::Sender<Published>>>,
    closing: CancellationToken,
}

impl Hub {
    /// Listens to a run from now on.
    pub(crate) fn subscribe(&self, run: &RunId) -> broadcast::Receiver<Published> {
        let mut runs = self.runs.lock();
        // Runs that nobody listens to any more are dropped when somebody new comes: the map is as long as the crowd.
        runs.retain(|id, sender| id == run || 0 < sender.receiver_count());
        runs.entry(run.clone())
            .or_insert_with(|| broadcast::channel(LAG_MAX).0)
            .subscribe()
    }

    /// Tells what was written.
    pub(crate) fn publish_stored(&self, run: &RunId, events: Vec<StoredEvent>) {
        let sender = self.runs.lock().get(run).cloned();
        if let Some(sender) = sender {
            for event in events {
                // Without listeners there is nothing to do.
                let _ = sender.send(Published::Stored(Arc::new(event)));
            }
        }
    }

    /// Tells new text of a model.
    pub(crate) fn publish_delta(&self, run: &RunId, step: u32, text: &str) {
        let sender = self.runs.lock().get(run).cloned();
        if let Some(sender) = sender {
            let _ = sender.send(Published::Delta(Arc::new(RunEvent::Delta {
                step,
                text: text.to_owned(),
            })));
        }
    }

    /// Is cancelled when listeners are to go home.
    pub(crate) const fn closing(&self) -> &CancellationToken {
        &self.closing
    }
}
