//! The run log: SQLite with one writer that commits in groups, and readers beside it.
//!
//! `synchronous=FULL`: a call that returned success is on disk. A failed commit leaves the log as it was, and every
//! operation that belonged to it hears so.

mod lock;
mod open;
mod read;
mod record;
mod run_log;
mod step_log;
mod writer;

pub(crate) use open::{OpenError, StoreConfig};
pub(crate) use record::{
    Account, CallRecord, NewRecord, RunId, RunRecord, StepStatus, StoredEvent, StoredStep,
};
pub(crate) use run_log::Creation;
pub(crate) use step_log::{Advance, Following, Started, StepKey};
pub(crate) use writer::CommitHook;
#[cfg(test)]
pub(crate) use writer::{CommitPoint, Verdict};

use std::sync::Arc;

use rusqlite::Connection;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use read::Readers;
use writer::Writer;

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub(crate) enum StoreError {
    /// The run ended or another process has it: stop working on it.
    #[error("the run is not ours any more")]
    NotOwner,
    #[error("there is no such run")]
    NotFound,
    /// Nothing was written; the same operation may succeed later.
    #[error("the disk is full")]
    Full,
    /// Nothing was written; the same operation may succeed later.
    #[error("using the run log")]
    Database(#[source] Arc<rusqlite::Error>),
    #[error("a row of the run log cannot be read: {reason}")]
    Corrupt { reason: String },
    /// The writer is gone; the process must end.
    #[error("the run log is closed")]
    Closed,
}

impl StoreError {
    /// Whether nothing was written and a later try may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            Self::Full => true,
            Self::Database(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::CannotOpen
                        | ErrorCode::ReadOnly
                        | ErrorCode::OutOfMemory
                )
            ),
            Self::NotOwner | Self::NotFound | Self::Corrupt { .. } | Self::Closed => false,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Database(Arc::new(error)),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt {
            reason: error.to_string(),
        }
    }
}

/// The run log; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    writer: Writer,
    readers: Arc<Readers>,
    /// Keeps a second process out for as long as any clone lives.
    _lock: Arc<lock::Lock>,
}

impl Store {
    /// Does `operation` in a transaction that is on disk when this returns success.
    async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(operation).await
    }

    /// Does `operation` on a snapshot of the log.
    async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(&self.readers);
        tokio::task::spawn_blocking(move || readers.with(operation))
            .await
            .map_err(|error| StoreError::Corrupt {
                reason: error.to_string(),
            })?
    }

    /// Is cancelled when the writer ended: nothing can be written any more.
    pub(crate) fn closed(&self) -> &CancellationToken {
        self.writer.closed()
    }

    /// Whether the last commit succeeded.
    pub(crate) fn is_writable(&self) -> bool {
        self.writer.is_healthy()
    }
}

#[cfg(test)]
mod tests;
