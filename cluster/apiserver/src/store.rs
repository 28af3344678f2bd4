//! The store: authoritative objects in memory, one rising revision, and a database underneath that commits before anybody is told.
//!
//! Invariants: memory never runs ahead of the disk; a revision is never handed out twice; readers see whole commits only.

mod disk;
mod entry;
mod memory;
mod watcher;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

pub use entry::{Entry, Event, EventKind};
pub use memory::Snapshot;
pub use watcher::{WatchEnded, Watcher};

use disk::Disk;
use memory::Memory;
use writer::{Job, Writer};

/// How many writers may wait for one commit before the next ones are held back.
const QUEUE_LENGTH_MAX: usize = 1024;

/// What a write needs to find in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing may be stored under the key.
    Absent,
    /// Exactly this revision must be stored under the key.
    Revision(u64),
}

/// What a write leaves behind.
#[derive(Debug)]
pub enum Change {
    /// The object, without a valid resource version: the store sets it.
    Put(serde_json::Value),
    /// Nothing; the value is the last state, told to watchers.
    Delete(serde_json::Value),
}

/// One compare-and-swap of one object.
#[derive(Debug)]
pub struct Write {
    /// The shelf: `group/plural`.
    pub resource: Arc<str>,
    /// The key on the shelf: `namespace/name` or `name`.
    pub key: String,
    /// The precondition.
    pub expect: Expect,
    /// The effect.
    pub change: Change,
}

/// Why a write was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The object exists already.
    #[error("the object exists already")]
    Exists,
    /// The object is not there.
    #[error("the object is not there")]
    Missing,
    /// Another write came first.
    #[error("another write came first")]
    Stale,
    /// The disk has no room; nothing was changed.
    #[error("the disk is full")]
    DiskFull,
    /// The disk failed; nothing was changed.
    #[error("cannot write to the database: {0}")]
    Disk(String),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the database: {0}")]
pub struct InvalidDatabase(pub(crate) String);

/// Objects by resource and key.
#[derive(Debug)]
pub struct Store {
    memory: Arc<RwLock<Memory>>,
    path: WritePath,
}

/// How a write reaches memory.
#[derive(Debug)]
enum WritePath {
    /// At once, under a lock.
    Memory(Mutex<Writer>),
    /// Through the thread that commits groups to disk.
    Disk(mpsc::Sender<Job>),
}

impl Store {
    /// A store that forgets everything when it is dropped.
    pub fn in_memory() -> Self {
        let memory = Arc::new(RwLock::new(Memory::default()));
        let writer = Writer::new(Arc::clone(&memory), None);
        Self {
            memory,
            path: WritePath::Memory(Mutex::new(writer)),
        }
    }

    /// Opens or creates the database file at `path` and loads it.
    ///
    /// # Errors
    /// When the file cannot be created, read or understood.
    pub fn open(path: &Path) -> Result<Self, InvalidDatabase> {
        Self::start(Disk::file(path)?)
    }

    fn start(mut disk: Disk) -> Result<Self, InvalidDatabase> {
        let memory = Arc::new(RwLock::new(disk.load()?));
        let (sender, queue) = mpsc::channel(QUEUE_LENGTH_MAX);
        let writer = Writer::new(Arc::clone(&memory), Some(disk));
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|error| InvalidDatabase(error.to_string()))?;
        Ok(Self {
            memory,
            path: WritePath::Disk(sender),
        })
    }

    /// The revision of the last commit.
    pub fn revision(&self) -> u64 {
        self.memory.read().revision
    }

    /// One object.
    pub fn get(&self, resource: &str, key: &str) -> Option<Arc<Entry>> {
        self.memory.read().get(resource, key)
    }

    /// All objects of a resource at one revision.
    pub fn snapshot(&self, resource: &str) -> Snapshot {
        self.memory.read().snapshot(resource)
    }

    /// All objects of a resource as they were at `revision`; nothing when that is too long ago.
    pub fn snapshot_at(&self, resource: &str, revision: u64) -> Option<Snapshot> {
        self.memory.read().snapshot_at(resource, revision)
    }

    /// Changes of a resource after `revision`, and the oldest revision that could be asked for.
    pub fn watch(&self, resource: &str, revision: u64) -> Watcher {
        Watcher::new(Arc::clone(&self.memory), resource, revision)
    }

    /// The revision of the last change of a resource; 0 when there never was one.
    pub fn shelf_revision(&self, resource: &str) -> u64 {
        self.memory.read().shelf_revision(resource)
    }

    /// Starts the history of a resource now: older revisions are expired for it.
    pub fn open_shelf(&self, resource: &str) {
        self.memory.write().open_shelf(resource);
    }

    /// Forgets a resource and ends its watches.
    pub fn close_shelf(&self, resource: &str) {
        self.memory.write().close_shelf(resource);
    }

    /// Makes one write and returns what is stored now; for a deletion, the last state.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing was changed then.
    ///
    /// # Cancel safety
    /// A dropped future may still write.
    pub async fn write(&self, write: Write) -> Result<Arc<Entry>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Job { write, answer };
        match &self.path {
            WritePath::Memory(writer) => writer.lock().commit(vec![job]),
            WritePath::Disk(sender) => sender.send(job).await.map_err(|_| StoreError::Closed)?,
        }
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}
