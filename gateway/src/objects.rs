//! Objects of OpenAI's API that the gateway keeps itself: files and batches. Rows lie in SQLite, contents in a folder.
//!
//! A file's row is written when its content is on disk, so that a file that is listed is there. Contents without a row,
//! which a crash may leave, are removed at the next start.

mod batch;
mod file;
mod handover;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use protocol::openai::ErrorKind;
use rusqlite::Connection;
use tokio::{sync::Notify, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::error;
use uuid::Uuid;

pub(crate) use self::{
    batch::{Batch, BatchError, Counts, Errors, OpenBatch, Status},
    file::{File, Purpose},
    handover::Handover,
};
use crate::fault::Fault;

/// The rows.
const FILE: &str = "objects.sqlite";
/// The folder of contents.
const FOLDER: &str = "files";
/// Entries of a list, at most and if nobody says how many.
pub(crate) const PAGE_MAX: usize = 1000;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS files (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        key TEXT NOT NULL,
        purpose TEXT NOT NULL,
        filename TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER
    ) STRICT;
    CREATE INDEX IF NOT EXISTS files_by_key ON files (key, place);
    CREATE TABLE IF NOT EXISTS batches (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        key TEXT NOT NULL,
        is_open INTEGER NOT NULL,
        output TEXT NOT NULL,
        errors TEXT NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS batches_by_key ON batches (key, place);
    CREATE INDEX IF NOT EXISTS batches_open ON batches (place) WHERE is_open;
";

/// Files and batches.
#[derive(Debug)]
pub(crate) struct Objects {
    connection: Mutex<Connection>,
    folder: PathBuf,
    /// Bytes of files that one key may have.
    bytes_per_key_max: u64,
    /// Rings when a batch was made or is to end early.
    pub(crate) changed: Notify,
    /// The batches that are running, by id.
    running: Mutex<HashMap<String, CancellationToken>>,
}

/// A part of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    /// The id that it begins after.
    pub(crate) after: Option<String>,
    /// How many entries it has.
    pub(crate) limit: usize,
    /// Whether the oldest come first.
    pub(crate) is_ascending: bool,
}

impl Objects {
    /// Opens those of a data folder, and removes what a crash left.
    ///
    /// # Errors
    /// The file or the folder cannot be used, in words.
    pub(crate) fn open(data_dir: &Path, bytes_per_key_max: u64) -> Result<Self, String> {
        let folder = data_dir.join(FOLDER);
        fs::create_dir_all(&folder).map_err(|error| format!("{FOLDER}: {error}"))?;
        let connect = || {
            let connection = Connection::open(data_dir.join(FILE))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            connection.execute_batch(handover::SCHEMA)?;
            Ok(connection)
        };
        let connection = connect().map_err(|error: rusqlite::Error| format!("{FILE}: {error}"))?;
        let objects = Self {
            connection: Mutex::new(connection),
            folder,
            bytes_per_key_max,
            changed: Notify::new(),
            running: Mutex::default(),
        };
        objects.sweep()?;
        Ok(objects)
    }

    /// Removes contents that nothing names.
    fn sweep(&self) -> Result<(), String> {
        let connection = self.connection.lock();
        let named = |name: &str| file::is_named(&connection, name);
        let entries = fs::read_dir(&self.folder).map_err(|error| format!("{FOLDER}: {error}"))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_named = name
                .to_str()
                .is_some_and(|name| named(name).unwrap_or(true));
            if !is_named && let Err(error) = fs::remove_file(entry.path()) {
                error!(%error, "what a crash left in the data folder cannot be removed");
            }
        }
        handover::sweep(&connection, &self.folder)
    }

    /// Where the content of a file lies.
    pub(crate) fn path(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// The folder of contents.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of files that one key may have.
    pub(crate) const fn bytes_per_key_max(&self) -> u64 {
        self.bytes_per_key_max
    }

    /// Reads or writes rows, in one transaction.
    ///
    /// # Errors
    /// The rows cannot be read or written now.
    async fn with<T, F>(self: &Arc<Self>, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let objects = Arc::clone(self);
        let worked = spawn_blocking(move || {
            let mut connection = objects.connection.lock();
            let transaction = connection.transaction()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok::<_, rusqlite::Error>(result)
        });
        match worked.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(unusable(&error)),
            Err(error) => Err(unusable(&error)),
        }
    }

    /// Notes that a batch runs; the token rings when it is to end early.
    pub(crate) fn note_running(&self, id: &str) -> CancellationToken {
        let mut running = self.running.lock();
        running.entry(id.to_owned()).or_default().clone()
    }

    /// Notes that a batch runs no more.
    pub(crate) fn note_stopped(&self, id: &str) {
        self.running.lock().remove(id);
    }

    /// Ends a batch early, if it runs.
    pub(crate) fn stop(&self, id: &str) {
        if let Some(running) = self.running.lock().get(id) {
            running.cancel();
        }
        self.changed.notify_one();
    }
}

/// A new id, with what its kind begins with.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}{}", Uuid::now_v7().simple())
}

/// What the client is told when rows or contents cannot be used.
pub(crate) fn unusable(error: &dyn std::error::Error) -> Fault {
    error!(%error, "files and batches cannot be used");
    let message = "Files and batches cannot be used now. Try again later.";
    Fault::new(ErrorKind::Unavailable, message)
}
