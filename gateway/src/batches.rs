//! Batches: files of requests that the gateway answers by its own way, line by line, however often it is started.
//!
//! The answers of a batch are appended to its files and synced before they count as done. After a crash the lines that
//! are there are not asked again; a line whose answer was on its way is.

mod handover;
mod input;
mod line;
mod results;
mod runner;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::runner::Runner;
use crate::{
    call::Operation,
    gateway::Gateway,
    objects::OpenBatch,
    paths::{Place, place},
};

/// Batches that are under way at once, those included that a provider runs; the others wait.
const BATCHES_AT_ONCE: usize = 64;
/// Batches whose lines the gateway asks at once.
const ASKED_AT_ONCE: usize = 4;
/// How often to look for batches that nobody told of, and for files whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long lines in progress get at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// The operation of a batch's endpoint; `None` for what has no body of JSON or no answer of it.
pub(crate) fn operation(endpoint: &str) -> Option<Operation> {
    if !endpoint.starts_with("/v1/") {
        return None;
    }
    match place(endpoint)? {
        Place::Call(operation, None) if !operation.takes_form() => {
            (operation != Operation::Speech).then_some(operation)
        }
        _ => None,
    }
}

/// Runs the batches of the data folder until shutdown.
pub(crate) async fn run(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let mut running: JoinSet<String> = JoinSet::new();
    let mut known = HashSet::new();
    let slots = Arc::new(Semaphore::new(ASKED_AT_ONCE));
    while !shutdown.is_cancelled() {
        match gateway.objects.open_batches().await {
            Ok(open) => {
                for batch in open {
                    if BATCHES_AT_ONCE <= running.len() {
                        break;
                    }
                    if known.insert(batch.batch.id.clone()) {
                        let signals = (shutdown.clone(), Arc::clone(&slots));
                        running.spawn(run_one(Arc::clone(&gateway), batch, signals));
                    }
                }
            }
            Err(fault) => error!(error = fault.message, "batches cannot be read"),
        }
        if let Err(fault) = gateway.objects.remove_expired().await {
            error!(
                error = fault.message,
                "files whose time is over cannot be removed"
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = gateway.objects.changed.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            Some(ended) = running.join_next() => {
                if let Ok(id) = ended {
                    known.remove(&id);
                }
            }
        }
    }
    let drained = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        warn!("lines of batches are cut off and will be asked again");
    }
}

async fn run_one(
    gateway: Arc<Gateway>,
    open: OpenBatch,
    (shutdown, slots): (CancellationToken, Arc<Semaphore>),
) -> String {
    let id = open.batch.id.clone();
    let stop = gateway.objects.note_running(&id);
    let objects = Arc::clone(&gateway.objects);
    let runner = Runner {
        gateway,
        open,
        stop,
        shutdown: shutdown.clone(),
        slots,
    };
    if let Err(fault) = runner.run().await {
        error!(
            batch = id,
            error = fault.message,
            "a batch cannot go on, it is tried again"
        );
        // What is wrong with the disk does not pass at once.
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    objects.note_stopped(&id);
    id
}
