//! The writer's thread: takes what has come, appends it to the journal together, then tells everybody who waits.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{UnboundedReceiver, error::TryRecvError},
        oneshot,
    },
};
use tracing::{error, info, warn};

use super::{
    Entry, LedgerError, Outcome, Total,
    journal::Journal,
    keeper::{Desk, Question},
};

/// Rows that are synced together.
const BATCH_MAX: usize = 1024;
/// From the beginning of one sync to that of the next under load: what comes meanwhile shares it. A request that comes
/// alone does not wait.
const SYNC_INTERVAL: Duration = Duration::from_micros(500);
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

/// The end of the journal, and who is told of what is in it.
pub(super) struct Writer<'a> {
    pub(super) journal: Journal,
    pub(super) desk: Arc<Desk>,
    pub(super) is_healthy: &'a AtomicBool,
    /// Where those run who wait for their rows.
    pub(super) runtime: Handle,
    /// Ends of streams that the disk did not take.
    pub(super) kept: VecDeque<Entry>,
}

impl Writer<'_> {
    /// Writes until all senders are gone and everything is written.
    pub(super) fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        let (mut batch, mut questions) = (Vec::new(), Vec::new());
        let mut synced = Instant::now();
        while let Some(first) = commands.blocking_recv() {
            std::thread::sleep(SYNC_INTERVAL.saturating_sub(synced.elapsed()));
            synced = Instant::now();
            let mut next = Ok(first);
            loop {
                match next {
                    Ok(Command::Write { entry, reply }) => batch.push((*entry, reply)),
                    Ok(Command::Totals { key, reply }) => {
                        questions.push(Question { key, reply });
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
                if BATCH_MAX <= batch.len() {
                    break;
                }
                next = commands.try_recv();
            }
            if !batch.is_empty() {
                self.commit(&mut batch);
            }
            self.desk.ask(questions.drain(..));
        }
        let rows = self.kept.len();
        if 0 < rows
            && let Err(reason) = self.journal.append(self.kept.iter())
        {
            error!(rows, %reason, "rows of the ledger are lost, the disk takes none");
        }
        self.desk.close();
    }

    fn commit(&mut self, batch: &mut Vec<(Entry, Waiting)>) {
        let rows = self.kept.iter().chain(batch.iter().map(|(entry, _)| entry));
        let result = self.journal.append(rows);
        let answer = match result {
            Ok(end) => {
                if !self.is_healthy.swap(true, Ordering::Relaxed) {
                    info!(rows = self.kept.len(), "the ledger takes rows again");
                }
                self.kept.clear();
                self.desk.grow(end);
                Ok(())
            }
            Err(reason) => {
                if self.is_healthy.swap(false, Ordering::Relaxed) {
                    error!(%reason, "the ledger takes no rows, requests are refused until it does");
                }
                Err(LedgerError::Storage(reason.to_string()))
            }
        };
        let is_lost = answer.is_err();
        let mut waiting_for = Vec::with_capacity(batch.len());
        for (entry, waiting) in batch.drain(..) {
            // An answer that is refused for this needs no row; the end of a stream that is out does.
            if is_lost && entry.outcome != Outcome::Open && entry.is_streamed {
                self.kept.push_back(entry);
            }
            waiting_for.extend(waiting);
        }
        // One wake-up for all: a thread that was woken for the first would run before the second is told.
        self.runtime.spawn(async move {
            for waiting in waiting_for {
                // Whoever asked may have gone.
                let _ = waiting.send(answer.clone());
            }
        });
        let lost = self.kept.len().saturating_sub(KEPT_MAX);
        if 0 < lost {
            self.kept.drain(..lost);
            warn!(lost, "rows of the ledger are lost, the disk takes none");
        }
    }
}
