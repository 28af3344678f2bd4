//! The keeper's thread: takes the journal's rows into the store, many in one transaction, and answers questions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use rustix::{process::setpriority_process, thread::gettid};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{
    LedgerError, Total,
    home::Home,
    journal::{Position, Reader},
};

/// How long rows are gathered before they are taken, unless somebody asks for them.
const GATHER: Duration = Duration::from_millis(250);
/// How much this thread stands back.
const NICE: i32 = 10;
/// Rows of one transaction.
const BATCH_MAX: usize = 4096;

/// A question about what is in the journal so far.
#[derive(Debug)]
pub(super) struct Question {
    /// The key whose totals are asked for.
    pub(super) key: String,
    /// Who waits.
    pub(super) reply: oneshot::Sender<Result<Vec<Total>, LedgerError>>,
}

/// What the keeper is told. Rows wake it only if it sleeps: while it gathers they just move the journal's end.
#[derive(Debug, Default)]
pub(super) struct Desk {
    tray: Mutex<Tray>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Tray {
    /// Where the journal ends, if it has grown.
    end: Option<Position>,
    questions: Vec<Question>,
    is_closed: bool,
    is_gathering: bool,
}

impl Desk {
    /// The journal ends here now.
    pub(super) fn grow(&self, end: Position) {
        let mut tray = self.tray.lock();
        tray.end = Some(end);
        if !tray.is_gathering {
            self.bell.notify_one();
        }
    }

    /// Asks questions, which are answered with all rows so far.
    pub(super) fn ask(&self, questions: impl Iterator<Item = Question>) {
        let mut tray = self.tray.lock();
        tray.questions.extend(questions);
        if !tray.questions.is_empty() {
            self.bell.notify_one();
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.tray.lock().is_closed = true;
        self.bell.notify_one();
    }

    /// Waits until rows were gathered, or somebody asks, or nothing more comes.
    fn next(&self, is_behind: bool) -> (Option<Position>, Vec<Question>, bool) {
        let mut tray = self.tray.lock();
        while !is_behind && tray.end.is_none() && tray.questions.is_empty() && !tray.is_closed {
            self.bell.wait(&mut tray);
        }
        tray.is_gathering = true;
        let due = Instant::now() + GATHER;
        while tray.questions.is_empty() && !tray.is_closed {
            if self.bell.wait_until(&mut tray, due).timed_out() {
                break;
            }
        }
        tray.is_gathering = false;
        let questions = std::mem::take(&mut tray.questions);
        (tray.end.take(), questions, tray.is_closed)
    }
}

/// The store, and how far it has taken the journal.
pub(super) struct Keeper {
    pub(super) home: Home,
    pub(super) reader: Reader,
    /// Where the rows of the last run end, until they are taken.
    pub(super) before: Option<Position>,
    /// Where the journal ends.
    pub(super) end: Position,
    /// Whether the store took what it was last given.
    pub(super) is_healthy: bool,
}

impl Keeper {
    /// A keeper of rows up to a segment that this run begins with: one of the last run is never written to again.
    pub(super) const fn new(home: Home, reader: Reader, segment: u64) -> Self {
        let end = Position { segment, offset: 0 };
        Self {
            home,
            reader,
            before: Some(end),
            end,
            is_healthy: true,
        }
    }

    /// Takes rows until the desk is closed.
    pub(super) fn run(mut self, desk: &Arc<Desk>) {
        // Requests go first: thousands of rows at once would hold up all that share a core with this thread.
        let _ = setpriority_process(Some(gettid()), NICE);
        loop {
            // What failed is tried again, with what came meanwhile.
            let is_behind = !self.is_healthy || self.before.is_some();
            let (end, questions, is_closed) = desk.next(is_behind);
            self.end = end.unwrap_or(self.end);
            // What is not taken when nothing more comes is taken at the next start.
            let taken = self.take();
            for Question { key, reply } in questions {
                let totals = taken.clone().and_then(|()| self.home.totals(&key));
                // Whoever asked may have gone.
                let _ = reply.send(totals);
            }
            if is_closed {
                return;
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
        if let Some(position) = self.home.resume()? {
            self.reader.return_to(position);
        }
        if let Some(before) = self.before {
            self.take_to(before)?;
            // What is open now was cut off: nothing of this run is there yet.
            self.home.close_interrupted()?;
            self.before = None;
        }
        self.take_to(self.end)?;
        self.reader.remove_what_was_read();
        Ok(())
    }

    fn take_to(&mut self, end: Position) -> Result<(), LedgerError> {
        loop {
            let from = self.reader.position();
            let read = self.reader.read(end, BATCH_MAX);
            let taken = read
                .map_err(|error| LedgerError::Storage(error.to_string()))
                .and_then(|entries| {
                    if !entries.is_empty() {
                        self.home.write(&entries, self.reader.position())?;
                    }
                    Ok(entries.len())
                });
            match taken {
                Ok(count) if count < BATCH_MAX => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    self.reader.return_to(from);
                    return Err(error);
                }
            }
        }
    }
}
