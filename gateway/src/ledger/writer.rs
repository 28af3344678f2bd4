//! The writer's thread: takes what has come, commits it together, then tells everybody who waits.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::{
    mpsc::{UnboundedReceiver, error::TryRecvError},
    oneshot,
};
use tracing::{error, info, warn};

use super::{Entry, LedgerError, Outcome, Total, store::Store};

/// Rows of one transaction.
const BATCH_MAX: usize = 256;
/// Rows that are kept while the disk takes none; beyond, the oldest are lost and counted in the log.
const KEPT_MAX: usize = 10_000;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Write a row.
    Write {
        /// The row.
        entry: Box<Entry>,
        /// Who waits.
        reply: Option<oneshot::Sender<Result<(), LedgerError>>>,
    },
    /// Read the totals of a key.
    Totals {
        /// The key's id.
        key: String,
        /// Who waits.
        reply: oneshot::Sender<Result<Vec<Total>, LedgerError>>,
    },
}

type Waiting = Option<oneshot::Sender<Result<(), LedgerError>>>;

/// Writes until all senders are gone and everything is written.
pub(super) fn run(
    mut store: Store,
    mut commands: UnboundedReceiver<Command>,
    is_healthy: &AtomicBool,
) {
    let mut kept: VecDeque<Entry> = VecDeque::new();
    while let Some(first) = commands.blocking_recv() {
        let mut batch = Vec::new();
        take(first, &mut batch, &store);
        while batch.len() < BATCH_MAX {
            match commands.try_recv() {
                Ok(command) => take(command, &mut batch, &store),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if !batch.is_empty() {
            commit(&mut store, batch, &mut kept, is_healthy);
        }
    }
    if !kept.is_empty()
        && let Err(reason) = store.write(kept.make_contiguous())
    {
        error!(rows = kept.len(), %reason, "rows of the ledger are lost, the disk takes none");
    }
}

fn take(command: Command, batch: &mut Vec<(Entry, Waiting)>, store: &Store) {
    match command {
        Command::Write { entry, reply } => batch.push((*entry, reply)),
        Command::Totals { key, reply } => {
            // Whoever asked may have gone.
            let _ = reply.send(store.totals(&key));
        }
    }
}

fn commit(
    store: &mut Store,
    batch: Vec<(Entry, Waiting)>,
    kept: &mut VecDeque<Entry>,
    is_healthy: &AtomicBool,
) {
    let (entries, waiting): (Vec<Entry>, Vec<Waiting>) = batch.into_iter().unzip();
    let mut rows: Vec<Entry> = kept.iter().cloned().collect();
    rows.extend(entries.iter().cloned());
    let result = store.write(&rows);
    match &result {
        Ok(()) => {
            if !is_healthy.swap(true, Ordering::Relaxed) {
                info!(rows = kept.len(), "the ledger takes rows again");
            }
            kept.clear();
        }
        Err(reason) => {
            if is_healthy.swap(false, Ordering::Relaxed) {
                error!(%reason, "the ledger takes no rows, requests are refused until it does");
            }
            // An answer that is refused for this needs no row; the end of a stream that is out does.
            kept.extend(
                entries
                    .into_iter()
                    .filter(|entry| entry.outcome != Outcome::Open && entry.is_streamed),
            );
            let lost = kept.len().saturating_sub(KEPT_MAX);
            if 0 < lost {
                kept.drain(..lost);
                warn!(lost, "rows of the ledger are lost, the disk takes none");
            }
        }
    }
    for reply in waiting.into_iter().flatten() {
        // Whoever asked may have gone.
        let _ = reply.send(result.clone());
    }
}
