//! The keeper's thread: takes the journal's rows into the store, many in one transaction, and answers questions.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::{error, info};

use super::{
    LedgerError, Total,
    journal::{Position, Reader},
    store::Store,
};

/// How long rows are gathered before they are taken, unless somebody asks for them.
const GATHER: Duration = Duration::from_millis(250);
/// Rows of one transaction.
const BATCH_MAX: usize = 4096;

/// What the keeper is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Take the journal up to here.
    Take(Position),
    /// Read the totals of a key.
    Totals {
        /// The key's id.
        key: String,
        /// Who waits.
        reply: oneshot::Sender<Result<Vec<Total>, LedgerError>>,
    },
}

/// The store, and how far it has taken the journal.
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) reader: Reader,
    /// Where the journal ends.
    pub(super) end: Position,
    /// Whether the store took what it was last given.
    pub(super) is_healthy: bool,
}

impl Keeper {
    /// Takes rows until all senders are gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut due: Option<Instant> = None;
        loop {
            let command = match due {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => commands.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match command {
                Ok(Command::Take(end)) => {
                    self.end = end;
                    due.get_or_insert_with(|| Instant::now() + GATHER);
                }
                Ok(Command::Totals { key, reply }) => {
                    let totals = self.take().and_then(|()| self.store.totals(&key));
                    // Whoever asked may have gone.
                    let _ = reply.send(totals);
                }
                Err(RecvTimeoutError::Timeout) => {
                    // What fails is tried again, with what comes meanwhile.
                    due = self.take().is_err().then(|| Instant::now() + GATHER);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    // What is not taken now is taken at the next start.
                    let _ = self.take();
                    return;
                }
            }
        }
    }

    /// Takes all rows up to the journal's end.
    ///
    /// # Errors
    /// The journal cannot be read or the store cannot be written; the rows stay in the journal.
    pub(super) fn take(&mut self) -> Result<(), LedgerError> {
        let result = self.try_take();
        match &result {
            Ok(()) if !self.is_healthy => info!("the ledger's store takes rows again"),
            Err(reason) if self.is_healthy => {
                error!(%reason, "the ledger's store takes no rows, they stay in the journal");
            }
            _ => {}
        }
        self.is_healthy = result.is_ok();
        result
    }

    fn try_take(&mut self) -> Result<(), LedgerError> {
        loop {
            let from = self.reader.position();
            let read = self.reader.read(self.end, BATCH_MAX);
            let taken = read
                .map_err(|error| LedgerError::Storage(error.to_string()))
                .and_then(|entries| {
                    if !entries.is_empty() {
                        self.store.write(&entries, self.reader.position())?;
                    }
                    Ok(entries.len())
                });
            match taken {
                Ok(count) if count < BATCH_MAX => break,
                Ok(_) => {}
                Err(error) => {
                    self.reader.return_to(from);
                    return Err(error);
                }
            }
        }
        self.reader.remove_what_was_read();
        Ok(())
    }
}
