//! Home: where the journal's rows go, a file of this replica or a database of all.

use super::{Entry, LedgerError, Total, database::Database, journal::Position, store::Store};

/// A file, or a database.
pub(super) enum Home {
    /// A file of this replica's own.
    File(Store),
    /// A database that replicas share.
    Database(Box<Database>),
}

impl Home {
    /// Where the journal is to be read from, if the reader may not be there.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn resume(&mut self) -> Result<Option<Position>, LedgerError> {
        match self {
            // Whether a file has taken rows is known when it says so.
            Self::File(_) => Ok(None),
            Self::Database(database) => database.resume(),
        }
    }

    /// Writes the journal's rows up to a position, in one transaction; all or none are there when it returns.
    ///
    /// # Errors
    /// It does not take them.
    pub(super) fn write(&mut self, entries: &[Entry], end: Position) -> Result<(), LedgerError> {
        match self {
            Self::File(store) => store.write(entries, end),
            Self::Database(database) => database.write(entries, end),
        }
    }

    /// Closes what a crash left open.
    ///
    /// # Errors
    /// It does not take that.
    pub(super) fn close_interrupted(&mut self) -> Result<(), LedgerError> {
        match self {
            Self::File(store) => store.close_interrupted(),
            Self::Database(database) => database.close_interrupted(),
        }
    }

    /// What a key used, by model.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn totals(&mut self, key: &str) -> Result<Vec<Total>, LedgerError> {
        match self {
            Self::File(store) => store.totals(key),
            Self::Database(database) => database.totals(key),
        }
    }
}
