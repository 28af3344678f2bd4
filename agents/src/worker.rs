//! Workers: runs wait in a queue, a bounded number of them is driven at once.

mod attempt;
mod backoff;
mod drive;
mod prepare;
mod queue;
mod slot;

use std::{
    collections::{HashMap, hash_map::Entry},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    steps::Services,
    store::{Account, RunId, Store, StoreError},
};

use queue::FairQueue;
use slot::Slot;

pub(crate) use backoff::Backoff;

/// How long drivers may take to end after a shutdown before they are dropped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// How long workers are patient.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// With something that a step needs and that cannot be reached.
    pub(crate) unavailable: Duration,
    /// With somebody who does not know us or what we ask for.
    pub(crate) unsettled: Duration,
    /// With a step that is being done when the process is told to end.
    pub(crate) shutdown: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            unavailable: Duration::from_secs(300),
            unsettled: Duration::from_secs(10),
            shutdown: Duration::from_secs(3),
        }
    }
}

/// The queue of runs, and the way to stop one.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    waiting: Mutex<FairQueue>,
    arrived: Notify,
    abandoned: mpsc::UnboundedSender<RunId>,
    /// Runs that wait or are driven.
    known: Mutex<HashMap<RunId, CancellationToken>>,
    known_max: usize,
}

impl Dispatcher {
    /// A queue that is full with `known_max` runs, and the runs that clients abandon.
    pub(crate) fn new(known_max: usize) -> (Arc<Self>, mpsc::UnboundedReceiver<RunId>) {
        let (abandoned, receiver) = mpsc::unbounded_channel();
        let dispatcher = Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            abandoned,
            known: Mutex::default(),
            known_max,
        };
        (Arc::new(dispatcher), receiver)
    }

    /// Reports a run whose client went away; it is to be cancelled.
    pub(crate) fn abandon(&self, run: RunId) {
        // Nobody listens any more when the process ends; the run goes on at the next start.
        let _ = self.abandoned.send(run);
    }

    /// Whether another run would be too many.
    pub(crate) fn is_full(&self) -> bool {
        self.known_max <= self.known.lock().len()
    }

    /// Queues a run unless it waits or is driven already.
    pub(crate) fn enqueue(&self, account: Account, run: RunId) {
        if let Entry::Vacant(vacant) = self.known.lock().entry(run.clone()) {
            vacant.insert(CancellationToken::new());
            self.waiting.lock().push(account, run);
            self.arrived.notify_one();
        }
    }

    /// Waits for the next run.
    async fn next(&self) -> RunId {
        loop {
            let next = self.waiting.lock().pop();
            match next {
                Some(run) => return run,
                None => self.arrived.notified().await,
            }
        }
    }

    /// Stops work on a run; it is cancelled in the log already.
    pub(crate) fn stop(&self, run: &RunId) {
        if let Some(token) = self.known.lock().get(run) {
            token.cancel();
        }
    }

    fn token(&self, run: &RunId) -> CancellationToken {
        self.known.lock().get(run).cloned().unwrap_or_default()
    }

    fn forget(&self, run: &RunId) {
        self.known.lock().remove(run);
    }
}

/// What drivers need.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    pub(crate) services: Arc<Services>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) patience: Patience,
    pub(crate) shutdown: CancellationToken,
}

/// Drives runs until shutdown, `concurrent` at once beside those that wait for something; returns when the last driver has ended.
pub(crate) async fn work(workshop: Workshop, concurrent: usize) {
    let slots = Arc::new(Semaphore::new(concurrent));
    let mut drivers = JoinSet::new();
    loop {
        let next = async {
            let slot = Slot::take(&slots).await;
            (slot, workshop.dispatcher.next().await)
        };
        tokio::select! {
            () = workshop.shutdown.cancelled() => break,
            () = workshop.services.store.closed().cancelled() => break,
            Some(_) = drivers.join_next(), if !drivers.is_empty() => {}
            (slot, run) = next => {
                drivers.spawn(drive_one(workshop.clone(), run, slot));
            }
        }
    }
    let drained = async { while drivers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!("some runs did not come to rest; they are picked up at the next start");
    }
    drivers.shutdown().await;
}

async fn drive_one(workshop: Workshop, run: RunId, slot: Slot) {
    let cancel = workshop.dispatcher.token(&run);
    let driving = AssertUnwindSafe(drive::drive(&workshop, &run, &cancel, &slot)).catch_unwind();
    if driving.await.is_err() {
        tracing::error!(%run, "the driver of a run panicked");
        drive::give_up(&workshop, &run).await;
    }
    workshop.dispatcher.forget(&run);
}

/// Repeats a write until it is on disk: what a step did must not be lost because the disk is full for a while.
///
/// # Errors
/// What no repetition heals: the run is not ours, or the log is gone.
pub(crate) async fn persist<T, F>(store: &Store, write: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut backoff = Backoff::default();
    loop {
        match write().await {
            Err(error) if error.is_retryable() => {
                tokio::select! {
                    () = store.closed().cancelled() => return Err(StoreError::Closed),
                    () = backoff.pause(None) => {}
                }
            }
            result => return result,
        }
    }
}
