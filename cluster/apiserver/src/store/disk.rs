//! The database file: one table of objects, one of facts, one durable transaction per group.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::entry::{Entry, EventKind};
use super::memory::Memory;
use super::writer::Group;
use super::{InvalidDatabase, StoreError};

/// `group/plural/key` to the object's JSON.
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
/// Facts about the whole store.
const FACTS: TableDefinition<'_, &str, u64> = TableDefinition::new("facts");
/// The fact that holds the last committed revision.
const REVISION: &str = "revision";
/// Everything is in memory already, so the page cache need not be large.
const CACHE_BYTES: usize = 4 << 20;

/// Opens the backend anew: after an I/O error the database must be reopened to be used again.
type Opener = Box<dyn FnMut() -> Result<Database, redb::DatabaseError> + Send>;

/// One open database.
pub(super) struct Disk {
    open: Opener,
    database: Option<Database>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Disk")
            .field("open", &self.database.is_some())
            .finish()
    }
}

impl Disk {
    pub(super) fn file(path: &Path) -> Result<Self, InvalidDatabase> {
        let path = PathBuf::from(path);
        Self::new(Box::new(move || {
            redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create(&path)
        }))
    }

    /// A database on any storage; tests let it fail.
    #[cfg(test)]
    pub(super) fn backend<B: redb::StorageBackend>(
        mut make: impl FnMut() -> B + Send + 'static,
    ) -> Result<Self, InvalidDatabase> {
        Self::new(Box::new(move || {
            redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create_with_backend(make())
        }))
    }

    fn new(mut open: Opener) -> Result<Self, InvalidDatabase> {
        let database = open().map_err(|error| InvalidDatabase(error.to_string()))?;
        Ok(Self {
            open,
            database: Some(database),
        })
    }

    /// Reads everything.
    pub(super) fn load(&mut self) -> Result<Memory, InvalidDatabase> {
        let Some(database) = &self.database else {
            return Ok(Memory::default());
        };
        load(database).map_err(|error| InvalidDatabase(error.to_string()))
    }

    /// Closes and opens the database, and returns the revision that is on disk.
    pub(super) fn reopen(&mut self) -> Result<u64, StoreError> {
        self.database = None;
        let database = (self.open)().map_err(|error| refuse(&error.into()))?;
        let revision = revision(&database).map_err(|error| refuse(&error))?;
        self.database = Some(database);
        Ok(revision)
    }

    /// Makes a group durable, or leaves the disk as it was, or leaves it to [`Self::reopen`] to find out.
    pub(super) fn commit(&mut self, group: &Group) -> Result<(), StoreError> {
        let Some(database) = &self.database else {
            return Err(StoreError::Closed);
        };
        commit(database, group).map_err(|error| refuse(&error))
    }
}

fn commit(database: &Database, group: &Group) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for (resource, event) in &group.changes {
            let key = format!("{resource}/{}", event.key);
            match event.kind {
                EventKind::Put => objects.insert(key.as_str(), event.entry.bytes.as_ref())?,
                EventKind::Delete => objects.remove(key.as_str())?,
            };
        }
        transaction
            .open_table(FACTS)?
            .insert(REVISION, group.revision)?;
    }
    transaction.commit()?;
    Ok(())
}

fn revision(database: &Database) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(FACTS) {
        Ok(facts) => Ok(facts.get(REVISION)?.map_or(1, |found| found.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(1),
        Err(error) => Err(error.into()),
    }
}

fn load(database: &Database) -> Result<Memory, redb::Error> {
    let revision = revision(database)?;
    let objects = match database.begin_read()?.open_table(OBJECTS) {
        Ok(objects) => objects,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Memory::loaded(revision, [])),
        Err(error) => return Err(error.into()),
    };
    let mut loaded = Vec::new();
    for row in objects.iter()? {
        let (key, bytes) = row?;
        let Some((resource, rest)) = split(key.value()) else {
            continue;
        };
        let Some(entry) = Entry::load(bytes.value()) else {
            return Err(redb::Error::Corrupted(format!(
                "object {} is not readable",
                key.value()
            )));
        };
        loaded.push((Arc::from(resource), Arc::from(rest), entry));
    }
    Ok(Memory::loaded(revision, loaded))
}

/// `group/plural/key` into `group/plural` and `key`.
fn split(path: &str) -> Option<(&str, &str)> {
    let group = path.find('/')?;
    let plural = path.get(group + 1..)?.find('/')? + group + 1;
    Some((path.get(..plural)?, path.get(plural + 1..)?))
}

fn refuse(error: &redb::Error) -> StoreError {
    match error {
        redb::Error::Io(source) if is_full(source) => StoreError::DiskFull,
        _ => StoreError::Disk(error.to_string()),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
