//! Places for runs that are worked on; a run that waits for something gives its place to another.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place, held or given up for a while.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Semaphore>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Slot {
    /// Waits for a free place.
    pub(super) async fn take(slots: &Arc<Semaphore>) -> Self {
        let held = Arc::clone(slots).acquire_owned().await.ok();
        Self {
            slots: Arc::clone(slots),
            held: Mutex::new(held),
        }
    }

    /// Gives the place up while `pause` lasts, then waits for one again.
    pub(super) async fn without(&self, pause: impl Future<Output = ()>) {
        self.held.lock().take();
        pause.await;
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok();
        *self.held.lock() = permit;
    }
}
