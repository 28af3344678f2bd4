//! The ledger's file: its schema and its statements.

use std::path::Path;

use rusqlite::{Connection, Transaction, params};

use super::{Entry, LedgerError, Outcome, Total};

/// One row a request; totals of what has ended, by key and model, kept in the same transactions.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS requests (
        id TEXT PRIMARY KEY,
        key TEXT NOT NULL,
        route TEXT NOT NULL,
        model TEXT NOT NULL,
        target TEXT NOT NULL,
        operation TEXT NOT NULL,
        status INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        is_estimated INTEGER NOT NULL,
        is_streamed INTEGER NOT NULL,
        started_at_millis INTEGER NOT NULL,
        first_byte_millis INTEGER,
        duration_millis INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS requests_open ON requests (id) WHERE outcome = 'open';
    CREATE TABLE IF NOT EXISTS totals (
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        PRIMARY KEY (key, model)
    ) STRICT, WITHOUT ROWID;
";

/// What a crash left open has ended: it is counted, with the tokens that are known of it.
const CLOSE_INTERRUPTED: &str = "
    INSERT INTO totals SELECT key, model, count(*), sum(prompt_tokens), sum(completion_tokens)
        FROM requests WHERE outcome = 'open' GROUP BY key, model
        ON CONFLICT DO UPDATE SET requests = totals.requests + excluded.requests,
            prompt_tokens = totals.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = totals.completion_tokens + excluded.completion_tokens;
    UPDATE requests SET outcome = 'interrupted' WHERE outcome = 'open';
";

/// A row that has ended is never changed, so that a repeated write counts nothing twice.
const WRITE: &str = "
    INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
    ON CONFLICT DO UPDATE SET target = excluded.target, status = excluded.status, outcome = excluded.outcome,
        prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
        is_estimated = excluded.is_estimated, is_streamed = excluded.is_streamed,
        first_byte_millis = excluded.first_byte_millis, duration_millis = excluded.duration_millis
    WHERE requests.outcome = 'open'
";

const ADD: &str = "
    INSERT INTO totals VALUES (?1, ?2, 1, ?3, ?4)
    ON CONFLICT DO UPDATE SET requests = requests + 1, prompt_tokens = prompt_tokens + ?3,
        completion_tokens = completion_tokens + ?4
";

const TOTALS: &str = "SELECT model, requests, prompt_tokens, completion_tokens FROM totals WHERE key = ?1 ORDER BY model";

/// The ledger's file.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the file and closes what a crash left open.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        Self::try_open(path).map_err(storage)
    }

    fn try_open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch(SCHEMA)?;
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {CLOSE_INTERRUPTED} COMMIT;"))?;
        Ok(Self { connection })
    }

    /// Writes rows in one transaction; all or none are on disk when it returns.
    ///
    /// # Errors
    /// The disk does not take them.
    pub(super) fn write(&mut self, entries: &[Entry]) -> Result<(), LedgerError> {
        self.try_write(entries).map_err(storage)
    }

    fn try_write(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for entry in entries {
            write_one(&transaction, entry)?;
        }
        transaction.commit()
    }

    /// What a key used, by model.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn totals(&self, key: &str) -> Result<Vec<Total>, LedgerError> {
        self.try_totals(key).map_err(storage)
    }

    fn try_totals(&self, key: &str) -> rusqlite::Result<Vec<Total>> {
        let mut statement = self.connection.prepare_cached(TOTALS)?;
        let rows = statement.query_map([key], |row| {
            Ok(Total {
                model: row.get(0)?,
                requests: count(row.get(1)?),
                prompt_tokens: count(row.get(2)?),
                completion_tokens: count(row.get(3)?),
            })
        })?;
        rows.collect()
    }
}

fn write_one(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    let (prompt, completion) = (
        integer(entry.tokens.prompt),
        integer(entry.tokens.completion),
    );
    let changed = transaction.prepare_cached(WRITE)?.execute(params![
        entry.id,
        entry.key,
        entry.route,
        entry.model,
        entry.target,
        entry.operation,
        entry.status,
        entry.outcome.word(),
        prompt,
        completion,
        entry.is_estimated,
        entry.is_streamed,
        entry.started_at.as_millisecond(),
        entry.first_byte_millis.map(integer),
        integer(entry.duration_millis),
    ])?;
    if 0 < changed && entry.outcome != Outcome::Open {
        transaction.prepare_cached(ADD)?.execute(params![
            entry.key,
            entry.model,
            prompt,
            completion
        ])?;
    }
    Ok(())
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err asks for"
)]
fn storage(error: rusqlite::Error) -> LedgerError {
    LedgerError::Storage(error.to_string())
}
