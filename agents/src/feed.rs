//! The feed of a run: what the log has, then what happens, in order and without gaps.

use std::{collections::VecDeque, sync::Arc};

use protocol::runs::RunEvent;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    hub::{Hub, Published},
    store::{RunId, Store, StoreError, StoredEvent},
};

/// One thing that a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// Its number in the log; deltas have none.
    pub(crate) seq: Option<u64>,
    pub(crate) event: RunEvent,
}

/// The events of a run, until it ends.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Store,
    hub: Arc<Hub>,
    run: RunId,
    live: Receiver<Published>,
    last: u64,
    read: VecDeque<StoredEvent>,
    /// Whether the log may have more than was read.
    is_behind: bool,
    is_ended: bool,
}

impl Feed {
    /// The events after number `last`.
    pub(crate) fn new(store: Store, hub: Arc<Hub>, run: RunId, last: u64) -> Self {
        // Listening starts before reading, so that nothing falls between.
        let live = hub.subscribe(&run);
        Self {
            store,
            hub,
            run,
            live,
            last,
            read: VecDeque::new(),
            is_behind: true,
            is_ended: false,
        }
    }

    /// The next event; `None` after the last one, and when the process ends.
    ///
    /// # Cancel safety
    /// No event is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, StoreError> {
        loop {
            if let Some(stored) = self.read.pop_front() {
                if stored.seq <= self.last {
                    continue;
                }
                self.last = stored.seq;
                self.is_ended = matches!(stored.event, RunEvent::Finished { .. });
                return Ok(Some(Item {
                    seq: Some(stored.seq),
                    event: stored.event,
                }));
            }
            if self.is_ended {
                return Ok(None);
            }
            if self.is_behind {
                self.catch_up().await?;
                continue;
            }
            let closing = self.hub.closing().clone();
            let published = tokio::select! {
                published = self.live.recv() => published,
                () = closing.cancelled() => return Ok(None),
            };
            match published {
                Ok(Published::Delta(event)) => {
                    return Ok(Some(Item {
                        seq: None,
                        event: event.as_ref().clone(),
                    }));
                }
                Ok(Published::Stored(stored)) if stored.seq == self.last + 1 => {
                    self.read.push_back(stored.as_ref().clone());
                }
                Ok(Published::Stored(stored)) => self.is_behind = self.last < stored.seq,
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let page = self.store.events(self.run.clone(), self.last).await?;
        self.is_behind = !page.is_empty();
        self.read.extend(page);
        if !self.is_behind {
            // Nothing is left to read: a run that had ended before has been told to its end.
            let run = self.store.run(self.run.clone()).await?;
            self.is_ended = run.status.is_final()
                && self
                    .store
                    .events(self.run.clone(), self.last)
                    .await?
                    .is_empty();
            self.is_behind = run.status.is_final() && !self.is_ended;
        }
        Ok(())
    }
}
