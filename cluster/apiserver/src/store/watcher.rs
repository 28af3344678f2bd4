//! A cursor into a shelf's history: watchers share the history, so a slow one costs nothing and is told when it fell behind.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::entry::Event;
use super::memory::Memory;

/// Reads the changes of one resource in order.
#[derive(Debug)]
pub struct Watcher {
    memory: Arc<RwLock<Memory>>,
    resource: Arc<str>,
    cursor: u64,
    changed: watch::Receiver<u64>,
}

/// Why a watch cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEnded {
    /// The changes after the cursor are forgotten; the oldest revision to ask for.
    Expired {
        /// Where the cursor stood.
        asked: u64,
        /// The oldest revision that can be watched from.
        oldest: u64,
    },
    /// The resource is not served any more.
    Closed,
}

impl Watcher {
    pub(super) fn new(memory: Arc<RwLock<Memory>>, resource: &str, cursor: u64) -> Self {
        let changed = memory.write().subscribe(resource);
        Self {
            memory,
            resource: Arc::from(resource),
            cursor,
            changed,
        }
    }

    /// Changes that are there already, possibly none.
    ///
    /// # Errors
    /// [`WatchEnded::Expired`] when some are forgotten.
    pub fn ready(&mut self) -> Result<Vec<Arc<Event>>, WatchEnded> {
        self.changed.mark_unchanged();
        let changes = self.memory.read().changes(&self.resource, self.cursor);
        let (events, revision) = changes.map_err(|oldest| WatchEnded::Expired {
            asked: self.cursor,
            oldest,
        })?;
        self.cursor = self.cursor.max(revision);
        Ok(events)
    }

    /// Waits for the next changes.
    ///
    /// # Errors
    /// See [`WatchEnded`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, WatchEnded> {
        loop {
            let events = self.ready()?;
            if !events.is_empty() {
                return Ok(events);
            }
            self.changed
                .changed()
                .await
                .map_err(|_| WatchEnded::Closed)?;
        }
    }

    /// Everything up to this revision was delivered.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }
}
