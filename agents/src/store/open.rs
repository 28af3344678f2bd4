//! Opening the run log: folder, lock, schema.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

use super::{
    Store,
    lock::{self, Lock},
    read::Readers,
    writer::{CommitHook, Writer},
};

/// The schema's version; a newer log is not touched.
const SCHEMA_VERSION: i64 = 1;
/// How often the lock is tried while another process still holds it.
const LOCK_RETRY: Duration = Duration::from_millis(200);

const SCHEMA: &str = "
CREATE TABLE revision (hash TEXT PRIMARY KEY, definition TEXT NOT NULL) STRICT;
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    agent TEXT NOT NULL,
    account TEXT NOT NULL,
    revision TEXT NOT NULL REFERENCES revision (hash),
    status TEXT NOT NULL,
    input TEXT NOT NULL,
    output TEXT,
    error TEXT,
    steps INTEGER NOT NULL DEFAULT 0,
    resumes INTEGER NOT NULL DEFAULT 0,
    events INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    started INTEGER,
    ended INTEGER,
    idempotency_key TEXT
) STRICT;
CREATE UNIQUE INDEX run_idempotency ON run (account, namespace, agent, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX run_open ON run (id) WHERE status IN ('pending', 'running');
CREATE INDEX run_by_agent ON run (namespace, agent, account, id);
CREATE INDEX run_ended ON run (ended) WHERE ended IS NOT NULL;
CREATE INDEX run_revision ON run (revision);
CREATE TABLE step (
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    node TEXT NOT NULL,
    task TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    writes TEXT,
    tool_calls INTEGER NOT NULL DEFAULT 0,
    usage TEXT,
    started INTEGER NOT NULL,
    finished INTEGER,
    PRIMARY KEY (run, number)
) STRICT;
CREATE TABLE call (
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    step INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (run, step, ordinal)
) STRICT;
CREATE TABLE event (
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT;
";

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error("preparing the data folder {path}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("opening the run log {path}")]
    Database {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error(
        "the run log {path} has schema {found}, and this version knows {SCHEMA_VERSION}; start the newer version"
    )]
    TooNew { path: PathBuf, found: i64 },
}

/// Where the log is.
#[derive(Clone)]
pub(crate) struct StoreConfig {
    pub(crate) folder: PathBuf,
    /// Told about every commit; tests crash there.
    pub(crate) commit_hook: Option<CommitHook>,
}

impl Store {
    /// Opens the log and creates it if there is none; waits while another process has it.
    ///
    /// # Errors
    /// [`OpenError`]; a log from a newer version is left alone.
    pub(crate) async fn open(config: StoreConfig) -> Result<Self, OpenError> {
        let StoreConfig {
            folder,
            commit_hook,
        } = config;
        let in_folder = |source| OpenError::Folder {
            path: folder.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(in_folder)?;
        let lock = wait_for_lock(&folder.join("runs.lock"))
            .await
            .map_err(in_folder)?;
        let path = folder.join("runs.db");
        // Inputs and answers are the users' own: nobody else on the host reads them. SQLite gives its other files the
        // permissions of this one.
        fs::File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(in_folder)?;
        let connection = prepare(&path)?;
        let writer = Writer::start(connection, commit_hook).map_err(in_folder)?;
        Ok(Self {
            writer,
            readers: Arc::new(Readers::new(path)),
            _lock: Arc::new(lock),
        })
    }
}

async fn wait_for_lock(path: &Path) -> io::Result<Lock> {
    let mut is_told = false;
    loop {
        if let Some(lock) = lock::take(path)? {
            return Ok(lock);
        }
        if !is_told {
            tracing::warn!(path = %path.display(), "another process has the run log; waiting for it to end");
            is_told = true;
        }
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

fn prepare(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let connection = Connection::open(path).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    match found {
        0 => {
            let create = format!(
                "BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            );
            connection.execute_batch(&create).map_err(failed)?;
        }
        SCHEMA_VERSION => {}
        found => {
            return Err(OpenError::TooNew {
                path: path.to_owned(),
                found,
            });
        }
    }
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
