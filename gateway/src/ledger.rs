//! The ledger: one row for each request, on disk before the answer is complete.
//!
//! Rows are appended to a journal before anybody is told, so that they survive kill -9; a thread syncs it, ten
//! milliseconds later at most or, if that is asked for, before an answer is complete, so that they survive power loss.
//! Another thread takes the journal into SQLite, or into a PostgreSQL that replicas share, many rows in one transaction,
//! with totals and the mark of how far it came: each row counts once. When the disk does not take a row, the answer is
//! refused as unavailable rather than given away unaccounted; ends of streams that are already out are kept and tried
//! again with the next rows.

mod database;
mod home;
mod journal;
mod keeper;
mod migrations;
mod reading;
mod source;
mod spend;
mod store;
mod writer;

use std::{collections::HashMap, path::Path, sync::Arc, thread::JoinHandle, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::snapshot::Per;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::error;

use self::{
    database::Database,
    home::Home,
    journal::{Create, Journal, Position, Reader, create_empty, create_filled},
    keeper::{Desk, Keeper, Question},
    reading::Reading,
    source::Source,
    store::Store,
    writer::Writer,
};
pub(crate) use self::{
    database::DatabaseUrl,
    spend::{By, LoggedRow, RowQuery, Spend, SpendQuery},
};
use crate::{
    call::Operation,
    cost::{Cost, dollars},
    limits::Scope,
    provider::Tokens,
};

/// The ledger's file in the data folder.
const FILE: &str = "ledger.sqlite";
/// The folder in the data folder of a journal that goes to a database: its own, as it counts segments by itself.
const DATABASE_FOLDER: &str = "database";
/// How long a database may take for many rows.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What a row that was acknowledged survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The end of this process; that of the machine after this time.
    Process {
        /// How long rows wait for a sync at most, all that came meanwhile for one.
        sync_within: Duration,
    },
    /// The end of the machine.
    Machine,
}

impl Durability {
    /// What is asked for by milliseconds until a sync; 0 is before the answer.
    pub(crate) const fn synced_within(millis: u64) -> Self {
        match millis {
            0 => Self::Machine,
            millis => Self::Process {
                sync_within: Duration::from_millis(millis),
            },
        }
    }

    /// How segments are made.
    fn creation(self) -> Arc<Create> {
        match self {
            Self::Process { .. } => Arc::new(create_empty),
            Self::Machine => Arc::new(create_filled),
        }
    }
}

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The request's id.
    pub(crate) id: String,
    /// The key's id; empty for callers of open routes.
    pub(crate) key: String,
    /// `NAMESPACE/NAME` of the route.
    pub(crate) route: String,
    /// The model that was asked for.
    pub(crate) model: String,
    /// The target that answered, or failed last.
    pub(crate) target: String,
    /// What was asked for.
    pub(crate) operation: Operation,
    /// The HTTP status; 499 if the client went away.
    pub(crate) status: u16,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// What it used.
    pub(crate) tokens: Tokens,
    /// What that cost.
    #[serde(default)]
    pub(crate) cost: Cost,
    /// Whether the tokens are counted by us, as the upstream did not say.
    pub(crate) is_estimated: bool,
    /// Whether the answer is one that was given before.
    #[serde(default)]
    pub(crate) is_kept: bool,
    /// Whether the answer was a stream.
    pub(crate) is_streamed: bool,
    /// When it came.
    pub(crate) started_at: Timestamp,
    /// Milliseconds to the first byte of a stream.
    pub(crate) first_byte_millis: Option<u64>,
    /// Milliseconds to the end.
    pub(crate) duration_millis: u64,
    /// The team's id; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) team: String,
    /// The user's; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) user: String,
    /// Whom the client said that it asks for; empty if it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) end_user: String,
    /// The tags of the key and of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It has not ended.
    #[default]
    Open,
    /// The client got a complete answer.
    Complete,
    /// The client got an error.
    Failed,
    /// The client went away.
    Cancelled,
}

impl Outcome {
    /// The word in the ledger.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What one key used of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Total {
    /// The model.
    pub(crate) model: String,
    /// How many requests ended.
    pub(crate) requests: u64,
    /// Tokens of their prompts.
    pub(crate) prompt_tokens: u64,
    /// Tokens of their answers.
    pub(crate) completion_tokens: u64,
    /// Tokens of their prompts that upstreams had cached.
    pub(crate) cached_tokens: u64,
    /// What they cost, in US dollars, as `12.5`.
    #[serde(rename = "cost_usd", serialize_with = "as_dollars")]
    pub(crate) cost: Cost,
}

/// Why the ledger does not take or give something.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LedgerError {
    /// The file cannot be read or written.
    #[error("the ledger cannot be used: {0}")]
    Storage(String),
    /// Totals of tags by whom they are not counted by.
    #[error("tags are not counted by keys, teams and users")]
    Tags,
    /// The writer has stopped.
    #[error("the ledger is closed")]
    Closed,
}

/// The ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    writer: Arc<Writer>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// For questions that the keeper is not asked.
    reading: Reading,
}

impl Ledger {
    /// Opens the ledger of a data folder, which is created if need be. Call it within a runtime of tokio's.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub(crate) fn open(data_dir: &Path, durability: Durability) -> Result<Self, LedgerError> {
        Self::open_with(data_dir, durability, durability.creation())
    }

    fn open_with(
        data_dir: &Path,
        durability: Durability,
        create: Arc<Create>,
    ) -> Result<Self, LedgerError> {
        std::fs::create_dir_all(data_dir).map_err(|error| storage(&error))?;
        let file = data_dir.join(FILE);
        let store = Store::open(&file)?;
        let position = store.position()?;
        let last = last_segment(data_dir)?.max(position.segment);
        let reader = Reader::new(data_dir, position);
        let mut keeper = Keeper::new(Home::File(store), reader, last + 1);
        keeper.take()?;
        let journal = Journal::new(data_dir, keeper.end.segment, create);
        Self::begin(keeper, (journal, durability), Reading::of_file(file))
    }

    /// Opens the ledger of a data folder whose rows go to a database. Call it within a runtime of tokio's; it blocks
    /// for a while where the database does not answer.
    ///
    /// # Errors
    /// The journal cannot be opened or written. A database that is not there is no error: it gets its rows later.
    pub(crate) fn open_shared(
        data_dir: &Path,
        url: &DatabaseUrl,
        durability: Durability,
    ) -> Result<Self, LedgerError> {
        let folder = data_dir.join(DATABASE_FOLDER);
        std::fs::create_dir_all(&folder).map_err(|error| storage(&error))?;
        let source = Source::begin(&folder, last_segment(&folder)?);
        let source = source.map_err(|error| storage(&error))?;
        let database = Database::new(url, &source.id, WRITE_LIMIT)?;
        let reader = Reader::new(&folder, Position::default());
        let home = Home::Database(Box::new(database));
        let mut keeper = Keeper::new(home, reader, source.segment);
        // Budgets begin with what was spent before, if the database says so now; it is no thread of this runtime.
        let _ = std::thread::scope(|scope| scope.spawn(|| keeper.take()).join());
        let journal = Journal::new(&folder, keeper.end.segment, durability.creation());
        Self::begin(keeper, (journal, durability), Reading::of_database(url)?)
    }

    /// Begins to write the journal, which goes on where the keeper's part ends.
    fn begin(
        keeper: Keeper,
        (journal, durability): (Journal, Durability),
        reading: Reading,
    ) -> Result<Self, LedgerError> {
        let desk = Arc::new(Desk::default());
        let keepers = Arc::clone(&desk);
        let writer = Arc::new(Writer::new(journal, durability, desk));
        let writers = Arc::clone(&writer);
        let keeping = start("ledger-keeper", move || keeper.run(&keepers))?;
        let writing = start("ledger", move || writers.run())?;
        Ok(Self {
            writer,
            threads: Mutex::new(vec![writing, keeping]),
            reading,
        })
    }

    /// Whether the last rows were taken.
    pub(crate) fn is_healthy(&self) -> bool {
        self.writer.is_healthy()
    }

    /// Writes a row, or completes an open one; returns when it is as safe as was asked for.
    ///
    /// # Errors
    /// The disk does not take it; a row that ends a stream is kept and tried again.
    pub(crate) async fn write(&self, entry: Entry) -> Result<(), LedgerError> {
        self.writer.write(entry).await
    }

    /// Writes a row for which nobody waits.
    pub(crate) fn write_later(&self, entry: Entry) {
        self.writer.write_later(entry);
    }

    /// What a key used, by model.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) async fn totals(&self, key: &str) -> Result<Vec<Total>, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.writer.ask(Question {
            key: key.to_owned(),
            reply,
        })?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// What was spent in a scope since then, in nano-dollars, by account; blocks. Not all of the last second.
    pub(crate) fn spent(&self, scope: &Scope, per: Per, since: Timestamp) -> HashMap<String, u64> {
        let spent = self.reading.spent(scope, per, since);
        spent.unwrap_or_else(|error| {
            error!(?scope, %error, "what was spent of a budget cannot be read, it counts from now on");
            HashMap::new()
        })
    }

    /// The totals that are asked for, with all rows so far.
    ///
    /// # Errors
    /// The file cannot be read, or tags are asked for together with what they are not counted by.
    pub(crate) async fn spend(&self, query: SpendQuery) -> Result<Vec<Spend>, LedgerError> {
        self.taken().await?;
        self.reading.spend(query).await
    }

    /// The rows that are asked for, the latest first.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(crate) async fn rows(&self, query: RowQuery) -> Result<Vec<LoggedRow>, LedgerError> {
        self.taken().await?;
        self.reading.rows(query).await
    }

    /// Waits until the keeper has taken what was written before.
    async fn taken(&self) -> Result<(), LedgerError> {
        // It answers questions then; the key of nobody has no totals.
        self.totals("").await.map(drop)
    }

    /// Writes what is left and closes the file; blocks.
    pub(crate) fn close(&self) {
        self.writer.close();
        for thread in self.threads.lock().drain(..) {
            // A thread that panicked has told so on standard error.
            let _ = thread.join();
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn as_dollars<S: Serializer>(cost: &Cost, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&dollars(cost.nanos()))
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LedgerError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| storage(&error))
}

/// The last segment in a folder; 0 if there is none.
fn last_segment(folder: &Path) -> Result<u64, LedgerError> {
    let segments = journal::segments(folder).map_err(|error| storage(&error))?;
    Ok(segments.last().copied().unwrap_or(0))
}

fn storage(error: &std::io::Error) -> LedgerError {
    LedgerError::Storage(error.to_string())
}

#[cfg(test)]
pub(crate) mod disk;
#[cfg(test)]
mod tests;
