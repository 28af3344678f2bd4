//! Runs in the log: create, list, cancel, find what is open, forget what is old.

use protocol::{
    openai::Usage,
    runs::{RunEvent, RunStatus},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    NewRecord, RunId, RunRecord, Store, StoreError, StoredEvent,
    record::{Account, RUN_COLUMNS, status_text},
    step_log::{append_events, unsigned},
};
use crate::clock::Millis;

/// A list ends early when the inputs and outputs in it are longer.
const LIST_BYTES_MAX: i64 = 16 << 20;
/// Most runs of a list.
const LIST_MAX: u32 = 100;
/// Most events that are read at once.
const EVENTS_MAX: u32 = 500;
/// Most old runs that are forgotten in one transaction.
const FORGET_MAX: u32 = 500;

/// What creating a run came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Creation {
    Created(RunRecord),
    /// The idempotency key was used before, with the same input.
    Repeated(RunRecord),
    /// The idempotency key was used before, with another input.
    Mismatch,
}

/// A run that was asked to end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ended {
    pub(crate) run: RunRecord,
    /// What was written; empty if the run had ended before.
    pub(crate) events: Vec<StoredEvent>,
}

impl Store {
    /// Creates a run, or finds the one that the same idempotency key created.
    pub(crate) async fn create(&self, new: NewRecord) -> Result<Creation, StoreError> {
        self.write(move |connection| create(connection, &new)).await
    }

    /// A run by its id.
    pub(crate) async fn run(&self, id: RunId) -> Result<RunRecord, StoreError> {
        self.read(move |connection| find(connection, &id)).await
    }

    /// The newest runs that an account started on an agent.
    pub(crate) async fn runs(
        &self,
        namespace: String,
        agent: String,
        account: Account,
    ) -> Result<Vec<RunRecord>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {RUN_COLUMNS}, length(input) + COALESCE(length(output), 0) AS length FROM run WHERE namespace = ?1 AND agent = ?2 AND account = ?3 \
                 ORDER BY id DESC LIMIT {LIST_MAX}"
            ))?;
            let mut rows = statement.query(params![namespace, agent, account.0])?;
            let mut runs = Vec::new();
            let mut bytes = 0;
            while bytes < LIST_BYTES_MAX
                && let Some(row) = rows.next()?
            {
                bytes += row.get::<_, i64>("length")?;
                runs.push(RunRecord::from_row(row)?);
            }
            Ok(runs)
        })
        .await
    }

    /// The runs that have not ended and whose they are, oldest first.
    pub(crate) async fn open_runs(&self) -> Result<Vec<(RunId, Account)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, account FROM run WHERE status IN ('pending', 'running') ORDER BY id",
            )?;
            let runs =
                statement.query_map([], |row| Ok((RunId(row.get(0)?), Account(row.get(1)?))))?;
            Ok(runs.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }

    /// Events of a run after `after`, in order; a page of at most 500.
    pub(crate) async fn events(
        &self,
        id: RunId,
        after: u64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT seq, data FROM event WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT {EVENTS_MAX}"
            ))?;
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![id.0, after])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                let event = serde_json::from_str(&row.get::<_, String>(1)?)?;
                events.push(StoredEvent { seq: unsigned(row.get(0)?), event });
            }
            Ok(events)
        })
        .await
    }

    /// What all model calls of a run used.
    pub(crate) async fn usage(&self, id: RunId) -> Result<Usage, StoreError> {
        self.read(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT usage FROM step WHERE run = ?1 AND usage IS NOT NULL")?;
            let mut rows = statement.query([&id.0])?;
            let mut total = Usage::default();
            while let Some(row) = rows.next()? {
                let usage: Usage = serde_json::from_str(&row.get::<_, String>(0)?)?;
                let prompt = total.prompt_tokens + usage.prompt_tokens;
                total = Usage::new(prompt, total.completion_tokens + usage.completion_tokens);
            }
            Ok(total)
        })
        .await
    }

    /// Ends a run as cancelled unless it ended before.
    pub(crate) async fn cancel(&self, id: RunId) -> Result<Ended, StoreError> {
        self.write(move |connection| {
            let mut run = find(connection, &id)?;
            if run.status.is_final() {
                return Ok(Ended {
                    run,
                    events: Vec::new(),
                });
            }
            let now = Millis::now();
            connection
                .prepare_cached("UPDATE run SET status = 'cancelled', ended = ?2 WHERE id = ?1")?
                .execute(params![id.0, now.0])?;
            (run.status, run.ended) = (RunStatus::Cancelled, Some(now));
            let finished = RunEvent::Finished {
                status: RunStatus::Cancelled,
                output: None,
                error: None,
            };
            let events = append_events(connection, &id, vec![finished])?;
            Ok(Ended { run, events })
        })
        .await
    }

    /// Forgets runs that ended before `limit`, and revisions that no run needs; returns how many runs went.
    pub(crate) async fn forget_ended_before(&self, limit: Millis) -> Result<usize, StoreError> {
        self.write(move |connection| {
            let forgotten = connection.execute(
                &format!(
                    "DELETE FROM run WHERE id IN (SELECT id FROM run WHERE ended < ?1 LIMIT {FORGET_MAX})"
                ),
                params![limit.0],
            )?;
            connection
                .execute("DELETE FROM revision WHERE hash NOT IN (SELECT revision FROM run)", [])?;
            Ok(forgotten)
        })
        .await
    }
}

fn create(connection: &Connection, new: &NewRecord) -> Result<Creation, StoreError> {
    if let Some(key) = &new.idempotency_key {
        let existing: Option<String> = connection
            .prepare_cached(
                "SELECT id FROM run WHERE account = ?1 AND namespace = ?2 AND agent = ?3 AND idempotency_key = ?4",
            )?
            .query_row(params![new.account.0, new.namespace, new.agent, key], |row| row.get(0))
            .optional()?;
        if let Some(id) = existing {
            let run = find(connection, &RunId(id))?;
            return Ok(if run.input == new.input {
                Creation::Repeated(run)
            } else {
                Creation::Mismatch
            });
        }
    }
    connection
        .prepare_cached("INSERT OR IGNORE INTO revision (hash, definition) VALUES (?1, ?2)")?
        .execute(params![new.revision.0, new.definition])?;
    connection
        .prepare_cached(
            "INSERT INTO run (id, namespace, agent, account, revision, status, input, created, idempotency_key) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            new.id.0,
            new.namespace,
            new.agent,
            new.account.0,
            new.revision.0,
            status_text(RunStatus::Pending),
            new.input.to_string(),
            Millis::now().0,
            new.idempotency_key,
        ])?;
    Ok(Creation::Created(find(connection, &new.id)?))
}

pub(super) fn find(connection: &Connection, id: &RunId) -> Result<RunRecord, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {RUN_COLUMNS} FROM run WHERE id = ?1"))?;
    let mut rows = statement.query([&id.0])?;
    match rows.next()? {
        Some(row) => RunRecord::from_row(row),
        None => Err(StoreError::NotFound),
    }
}
