//! Reading the run log beside the writer: a few connections that are lent.

use std::path::PathBuf;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::{StoreError, open};

/// Most connections that are kept open.
const IDLE_MAX: usize = 8;

/// Connections that only read.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Lends a connection to `operation`, inside a transaction so that it sees one moment.
    pub(super) fn with<T>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lent = self.idle.lock().pop();
        let connection = match lent {
            Some(connection) => connection,
            None => open::reader(&self.path)?,
        };
        let transaction = connection.unchecked_transaction()?;
        let result = operation(&transaction);
        transaction.finish()?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        result
    }
}
