//! The ledger: one row for each request, on disk before the answer is complete.
//!
//! Rows are appended to a journal before anybody is told, so that they survive kill -9; a thread syncs it, ten
//! milliseconds later at most or, if that is asked for, before an answer is complete, so that they survive power loss.
//! Another thread takes the journal into SQLite, many rows in one transaction, with totals by key and model and the mark
//! of how far it came: each row counts once. When the disk does not take a row, the answer is refused as unavailable
//! rather than given away unaccounted; ends of streams that are already out are kept and tried again with the next rows.

mod journal;
mod keeper;
mod migrations;
mod spend;
mod store;
mod writer;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::snapshot::Per;
use rusqlite::Connection;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::error;

pub(crate) use self::spend::{By, LoggedRow, RowQuery, Spend, SpendQuery};
use self::{
    journal::{Create, Journal, Position, Reader, create_empty, create_filled},
    keeper::{Desk, Keeper, Question},
    store::Store,
    writer::Writer,
};
use crate::{
    call::Operation,
    cost::{Cost, dollars},
    limits::Scope,
    provider::Tokens,
    table::Pattern,
};

/// The ledger's file in the data folder.
const FILE: &str = "ledger.sqlite";

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
    file: PathBuf,
    writer: Arc<Writer>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// A connection for questions that the keeper is not asked.
    reading: Mutex<Option<Store>>,
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
        let segments = journal::segments(data_dir).map_err(|error| storage(&error))?;
        let last = segments.last().copied().unwrap_or(0).max(position.segment);
        let mut keeper = Keeper {
            store,
            reader: Reader::new(data_dir, position),
            // All that is there: a segment of the last run is never written to again.
            end: Position {
                segment: last + 1,
                offset: 0,
            },
            is_healthy: true,
        };
        keeper.take()?;
        keeper.store.close_interrupted()?;
        let desk = Arc::new(Desk::default());
        let keepers = Arc::clone(&desk);
        let journal = Journal::new(data_dir, last + 1, create);
        let writer = Arc::new(Writer::new(journal, durability, desk));
        let writers = Arc::clone(&writer);
        let keeping = start("ledger-keeper", move || keeper.run(&keepers))?;
        let writing = start("ledger", move || writers.run())?;
        Ok(Self {
            file,
            writer,
            threads: Mutex::new(vec![writing, keeping]),
            reading: Mutex::default(),
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
        let spent = self.read(|store| match scope {
            Scope::Route(route) => store.spent(route, per, since),
            Scope::Party { kind, id, model } => {
                let pattern = model.as_ref().and_then(|model| Pattern::parse(model).ok());
                let counts = |model: &str| pattern.as_ref().is_none_or(|only| only.matches(model));
                let by_model = store.spent_by(*kind, id, since)?.into_iter();
                let counted = by_model.filter(|(model, _)| counts(model));
                let sum = counted
                    .map(|(_, amount)| amount)
                    .fold(0, u64::saturating_add);
                Ok(HashMap::from([(String::new(), sum)]))
            }
        });
        spent.unwrap_or_else(|error| {
            error!(?scope, %error, "what was spent of a budget cannot be read, it counts from now on");
            HashMap::new()
        })
    }

    /// Reads the file, beside the keeper; blocks.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read<T>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let mut reading = self.reading.lock();
        let store = match reading.take() {
            Some(store) => store,
            None => Store::open(&self.file)?,
        };
        let read = work(&store);
        // A connection that failed is not used again.
        *reading = read.is_ok().then_some(store);
        read
    }

    /// The totals that are asked for, with all rows so far.
    ///
    /// # Errors
    /// The file cannot be read, or tags are asked for together with what they are not counted by.
    pub(crate) async fn spend(&self, query: SpendQuery) -> Result<Vec<Spend>, LedgerError> {
        self.ask(move |connection| spend::spend(connection, &query))
            .await
    }

    /// The rows that are asked for, the latest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) async fn rows(&self, query: RowQuery) -> Result<Vec<LoggedRow>, LedgerError> {
        let read = move |connection: &Connection| spend::rows(connection, &query);
        self.ask(move |connection| {
            read(connection).map_err(|error| LedgerError::Storage(error.to_string()))
        })
        .await
    }

    /// Reads the file on a thread that may wait, once all rows so far are in it.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        // The keeper answers once it has taken what was written before; the key of nobody has no totals.
        self.totals("").await?;
        let file = self.file.clone();
        let read = move || {
            let opened = spend::reader(&file);
            let connection = opened.map_err(|error| LedgerError::Storage(error.to_string()))?;
            work(&connection)
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|error| Err(LedgerError::Storage(error.to_string())))
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

fn storage(error: &std::io::Error) -> LedgerError {
    LedgerError::Storage(error.to_string())
}

#[cfg(test)]
pub(crate) mod disk;
#[cfg(test)]
mod tests;
