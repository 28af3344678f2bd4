//! The writer: one thread, one connection, one transaction for all operations that wait.
//!
//! While a commit waits for the disk, more operations queue; they share the next one. Each operation is a savepoint,
//! so that one that fails takes nothing else with it.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::StoreError;

/// Most operations of one commit.
const GROUP_MAX: usize = 256;
/// Most operations that wait.
const QUEUE_MAX: usize = 4096;

/// Where the hook is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitPoint {
    Before,
    After,
}

/// What the hook decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Continue,
    /// The process dies here: nobody hears anything any more.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests crash"))]
    Crash,
    /// The disk is full: this commit fails.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests fill the disk"))]
    Full,
}

/// Asked at each commit, with the commit's number.
pub(crate) type CommitHook = Arc<dyn Fn(CommitPoint, u64) -> Verdict + Send + Sync>;

/// Tells the caller how it went: `None` means that the group is on disk.
type Reply = Box<dyn FnOnce(Option<StoreError>) + Send>;
/// Runs on the connection; on none if the transaction has failed already, then only the reply matters.
type Operation = Box<dyn FnOnce(Option<&Connection>) -> (bool, Reply) + Send>;

/// The way to the writer thread.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Operation>,
    closed: CancellationToken,
    is_healthy: Arc<AtomicBool>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(connection: Connection, hook: Option<CommitHook>) -> io::Result<Self> {
        let (queue, operations) = mpsc::channel(QUEUE_MAX);
        let closed = CancellationToken::new();
        let is_healthy = Arc::new(AtomicBool::new(true));
        let thread = Thread {
            connection,
            operations,
            hook,
            commits: 0,
            is_healthy: Arc::clone(&is_healthy),
            _closed: closed.clone().drop_guard(),
        };
        thread::Builder::new()
            .name("run-log".to_owned())
            .spawn(move || thread.run())?;
        Ok(Self {
            queue,
            closed,
            is_healthy,
        })
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let job: Operation = Box::new(move |connection| {
            let result = connection.map_or(Err(StoreError::Full), operation);
            let is_kept = result.is_ok();
            let reply: Reply = Box::new(move |failure| {
                // A caller that went away does not need the answer.
                let _ = sender.send(match failure {
                    None => result,
                    Some(failure) => Err(failure),
                });
            });
            (is_kept, reply)
        });
        self.queue.send(job).await.map_err(|_| StoreError::Closed)?;
        receiver.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) const fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.is_healthy.load(Ordering::Relaxed)
    }
}

struct Thread {
    connection: Connection,
    operations: mpsc::Receiver<Operation>,
    hook: Option<CommitHook>,
    commits: u64,
    is_healthy: Arc<AtomicBool>,
    _closed: DropGuard,
}

/// The process is to behave as if it had died.
struct Crashed;

impl Thread {
    fn run(mut self) {
        let mut group = Vec::new();
        while let Some(first) = self.operations.blocking_recv() {
            group.push(first);
            while group.len() < GROUP_MAX {
                let Ok(next) = self.operations.try_recv() else {
                    break;
                };
                group.push(next);
            }
            if self.commit(std::mem::take(&mut group)).is_err() {
                return;
            }
        }
    }

    fn commit(&mut self, group: Vec<Operation>) -> Result<(), Crashed> {
        let number = self.commits;
        self.commits += 1;
        let mut replies = Vec::with_capacity(group.len());
        let outcome = self.transaction(group, &mut replies, number)?;
        if outcome.is_err() && !self.connection.is_autocommit() {
            // What cannot be rolled back is rolled back when the connection is next used: SQLite never half commits.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.is_healthy.store(outcome.is_ok(), Ordering::Relaxed);
        if let Err(error) = &outcome {
            tracing::error!(%error, "nothing could be written to the run log");
        }
        for reply in replies {
            reply(outcome.as_ref().err().cloned());
        }
        Ok(())
    }

    /// Runs a group in one transaction. The outer error is a crash, the inner one means that nothing was kept.
    fn transaction(
        &self,
        group: Vec<Operation>,
        replies: &mut Vec<Reply>,
        number: u64,
    ) -> Result<Result<(), StoreError>, Crashed> {
        let mut outcome = self.execute("BEGIN IMMEDIATE");
        for operation in group {
            if outcome.is_ok() {
                outcome = self.execute("SAVEPOINT operation");
            }
            // Outside of a transaction each statement would be kept by itself.
            let (is_kept, reply) = operation(outcome.is_ok().then_some(&self.connection));
            replies.push(reply);
            if outcome.is_err() {
                continue;
            }
            outcome = if self.connection.is_autocommit() {
                // SQLite rolls the whole transaction back itself when the disk is full or fails.
                Err(StoreError::Full)
            } else if is_kept {
                self.execute("RELEASE operation")
            } else {
                self.execute("ROLLBACK TO operation; RELEASE operation")
            };
        }
        match self.ask(CommitPoint::Before, number) {
            Verdict::Crash => return Err(Crashed),
            Verdict::Full => outcome = outcome.and(Err(StoreError::Full)),
            Verdict::Continue => {}
        }
        let outcome = outcome.and_then(|()| self.execute("COMMIT"));
        match self.ask(CommitPoint::After, number) {
            Verdict::Crash => Err(Crashed),
            Verdict::Continue | Verdict::Full => Ok(outcome),
        }
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch(sql)?)
    }

    fn ask(&self, point: CommitPoint, number: u64) -> Verdict {
        self.hook
            .as_ref()
            .map_or(Verdict::Continue, |hook| hook(point, number))
    }
}
