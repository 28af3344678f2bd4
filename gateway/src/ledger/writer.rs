//! The writer: appends rows to the journal and syncs it, as often as was asked for.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::{runtime::Handle, sync::oneshot};
use tracing::{error, info, warn};

use super::{
    Durability, Entry, LedgerError, Outcome,
    journal::{Journal, Unsynced},
    keeper::{Desk, Question},
};

/// From the beginning of one sync to that of the next under load, where answers wait for it: what comes meanwhile shares
/// it. A request that comes alone does not wait.
const SHARED_SYNC: Duration = Duration::from_micros(500);
/// Rows that are kept while the disk takes none; beyond, the oldest are lost and counted in the log.
const KEPT_MAX: usize = 10_000;

type Waiting = Option<oneshot::Sender<Result<(), LedgerError>>>;

/// The end of the journal, and who is told of what is in it.
pub(super) struct Writer {
    durability: Durability,
    shelf: Mutex<Shelf>,
    tray: Mutex<Tray>,
    bell: Condvar,
    desk: Arc<Desk>,
    is_healthy: AtomicBool,
    /// Whether there are rows that were not synced.
    is_behind: AtomicBool,
    /// Where those run who wait for their rows.
    runtime: Handle,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Writer")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

/// What is written to.
struct Shelf {
    journal: Journal,
    /// Ends of streams that the disk did not take.
    kept: VecDeque<Entry>,
}

/// What came, for the thread.
#[derive(Default)]
struct Tray {
    /// Rows that are to be on disk before those who wait are told.
    rows: Vec<(Entry, Waiting)>,
    questions: Vec<Question>,
    is_closed: bool,
}

impl Writer {
    /// A writer of a journal, whose thread is to be started.
    pub(super) fn new(journal: Journal, durability: Durability, desk: Arc<Desk>) -> Self {
        Self {
            durability,
            shelf: Mutex::new(Shelf {
                journal,
                kept: VecDeque::new(),
            }),
            tray: Mutex::default(),
            bell: Condvar::new(),
            desk,
            is_healthy: AtomicBool::new(true),
            is_behind: AtomicBool::new(false),
            runtime: Handle::current(),
        }
    }

    /// Whether the last rows were taken.
    pub(super) fn is_healthy(&self) -> bool {
        self.is_healthy.load(Ordering::Relaxed)
    }

    /// Writes a row; returns when it is as safe as was asked for.
    ///
    /// # Errors
    /// The disk does not take it; the end of a stream is kept and tried again.
    pub(super) async fn write(&self, entry: Entry) -> Result<(), LedgerError> {
        match self.durability {
            Durability::Process { .. } => self.append(entry),
            Durability::Machine => {
                let (reply, answer) = oneshot::channel();
                self.send(entry, Some(reply))?;
                answer.await.map_err(|_| LedgerError::Closed)?
            }
        }
    }

    /// Writes a row for which nobody waits.
    pub(super) fn write_later(&self, entry: Entry) {
        // A closed ledger has been drained: only a request that outlived its shutdown can come here.
        let _ = match self.durability {
            Durability::Process { .. } => self.append(entry),
            Durability::Machine => self.send(entry, None),
        };
    }

    /// Asks a question, which is answered with all rows so far.
    pub(super) fn ask(&self, question: Question) -> Result<(), LedgerError> {
        let mut tray = self.tray.lock();
        if tray.is_closed {
            return Err(LedgerError::Closed);
        }
        tray.questions.push(question);
        self.bell.notify_one();
        Ok(())
    }

    /// Lets the thread end once everything is written.
    pub(super) fn close(&self) {
        self.tray.lock().is_closed = true;
        self.bell.notify_one();
    }

    /// Appends a row here and now; the thread syncs it.
    fn append(&self, entry: Entry) -> Result<(), LedgerError> {
        let mut shelf = self.shelf.lock();
        // The thread's last look at the shelf comes after this is said.
        if self.tray.lock().is_closed {
            return Err(LedgerError::Closed);
        }
        let Shelf { journal, kept } = &mut *shelf;
        let appended = journal.append(kept.iter().chain([&entry]));
        let written = self.note(appended.map(|end| self.desk.grow(end)), kept.len());
        match &written {
            Ok(()) => kept.clear(),
            Err(_) => keep(kept, [entry].into_iter()),
        }
        drop(shelf);
        if written.is_ok() && !self.is_behind.swap(true, Ordering::AcqRel) {
            // The thread looks at the mark while it holds the tray: it is not between the look and its sleep.
            let _tray = self.tray.lock();
            self.bell.notify_one();
        }
        written
    }

    /// Leaves a row to the thread.
    fn send(&self, entry: Entry, reply: Waiting) -> Result<(), LedgerError> {
        let mut tray = self.tray.lock();
        if tray.is_closed {
            return Err(LedgerError::Closed);
        }
        tray.rows.push((entry, reply));
        if tray.rows.len() == 1 {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Syncs, and writes what was left to it, until it is closed and everything is on disk.
    pub(super) fn run(&self) {
        let mut synced = Instant::now();
        loop {
            let mut tray = self.tray.lock();
            while tray.rows.is_empty()
                && tray.questions.is_empty()
                && !tray.is_closed
                && !self.is_behind.load(Ordering::Acquire)
            {
                self.bell.wait(&mut tray);
            }
            let due = synced + self.interval();
            while tray.questions.is_empty() && !tray.is_closed {
                if self.bell.wait_until(&mut tray, due).timed_out() {
                    break;
                }
            }
            synced = Instant::now();
            let Tray {
                rows,
                questions,
                is_closed,
            } = &mut *tray;
            let (rows, questions) = (std::mem::take(rows), std::mem::take(questions));
            let is_closed = *is_closed;
            drop(tray);
            if !rows.is_empty() {
                self.commit(rows);
            }
            if self.is_behind.swap(false, Ordering::AcqRel) {
                self.sync();
            }
            self.desk.ask(questions.into_iter());
            if is_closed {
                break;
            }
        }
        self.end();
    }

    const fn interval(&self) -> Duration {
        match self.durability {
            Durability::Process { sync_within } => sync_within,
            Durability::Machine => SHARED_SYNC,
        }
    }

    /// Appends rows that others wait for, and tells them.
    fn commit(&self, rows: Vec<(Entry, Waiting)>) {
        let mut shelf = self.shelf.lock();
        let Shelf { journal, kept } = &mut *shelf;
        let entries = kept.iter().chain(rows.iter().map(|(entry, _)| entry));
        let appended = journal.append_synced(entries);
        let answer = self.note(appended.map(|end| self.desk.grow(end)), kept.len());
        let (entries, waiting): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        match &answer {
            Ok(()) => kept.clear(),
            Err(_) => keep(kept, entries.into_iter()),
        }
        drop(shelf);
        // One wake-up for all: a thread that was woken for the first would run before the second is told.
        self.runtime.spawn(async move {
            for waiting in waiting.into_iter().flatten() {
                // Whoever asked may have gone.
                let _ = waiting.send(answer.clone());
            }
        });
    }

    /// Syncs what was appended; requests go on meanwhile.
    fn sync(&self) {
        let unsynced = self.shelf.lock().journal.take_unsynced();
        if let Err(reason) = unsynced.iter().try_for_each(Unsynced::sync) {
            self.is_healthy.store(false, Ordering::Relaxed);
            error!(%reason, "the ledger's rows cannot be synced: those of this moment are lost if the machine fails");
        }
    }

    /// Notes whether rows were taken.
    fn note(&self, appended: std::io::Result<()>, kept: usize) -> Result<(), LedgerError> {
        match appended {
            Ok(()) => {
                if !self.is_healthy.swap(true, Ordering::Relaxed) {
                    info!(rows = kept, "the ledger takes rows again");
                }
                Ok(())
            }
            Err(reason) => {
                if self.is_healthy.swap(false, Ordering::Relaxed) {
                    error!(%reason, "the ledger takes no rows, requests are refused until it does");
                }
                Err(LedgerError::Storage(reason.to_string()))
            }
        }
    }

    fn end(&self) {
        // Nobody appends any more.
        self.sync();
        let mut shelf = self.shelf.lock();
        let Shelf { journal, kept } = &mut *shelf;
        let rows = kept.len();
        if 0 < rows {
            match journal.append_synced(kept.iter()) {
                Ok(end) => self.desk.grow(end),
                Err(reason) => {
                    error!(rows, %reason, "rows of the ledger are lost, the disk takes none");
                }
            }
        }
        self.desk.close();
    }
}

/// Keeps the ends of streams among rows that the disk did not take: their answers are out. An answer that is refused
/// needs no row.
fn keep(kept: &mut VecDeque<Entry>, entries: impl Iterator<Item = Entry>) {
    kept.extend(entries.filter(|entry| entry.outcome != Outcome::Open && entry.is_streamed));
    let lost = kept.len().saturating_sub(KEPT_MAX);
    if 0 < lost {
        kept.drain(..lost);
        warn!(lost, "rows of the ledger are lost, the disk takes none");
    }
}
