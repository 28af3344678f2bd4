//! The objects in memory: shelves that are copied on write only while a reader holds them, and a bounded history per shelf.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

use super::entry::{Entry, Event, EventKind};

/// How many changes a shelf remembers for watches and for lists at an older revision.
const HISTORY_LENGTH_MAX: usize = 2048;

/// Everything, as of one revision.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) revision: u64,
    shelves: HashMap<Arc<str>, Shelf>,
    /// Revisions at and before this one were made by an earlier process: their history is gone.
    born: u64,
}

/// The objects of one resource.
#[derive(Debug)]
pub(super) struct Shelf {
    entries: Arc<BTreeMap<Arc<str>, Arc<Entry>>>,
    history: VecDeque<Arc<Event>>,
    /// The newest revision whose successor may have been forgotten.
    floor: u64,
    changed: watch::Sender<u64>,
}

/// The objects of one resource at one revision.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The revision.
    pub revision: u64,
    /// The objects, ordered by key.
    pub entries: Arc<BTreeMap<Arc<str>, Arc<Entry>>>,
}

impl Default for Memory {
    fn default() -> Self {
        // Revision 0 means "any" in requests, so the first state is revision 1.
        Self {
            revision: 1,
            shelves: HashMap::new(),
            born: 1,
        }
    }
}

impl Shelf {
    fn new(floor: u64) -> Self {
        Self {
            entries: Arc::default(),
            history: VecDeque::new(),
            floor,
            changed: watch::Sender::new(floor),
        }
    }

    fn newest(&self) -> u64 {
        self.history
            .back()
            .map_or(self.floor, |event| event.revision)
    }
}

impl Memory {
    /// What a database held when it was opened.
    pub(super) fn loaded(
        revision: u64,
        objects: impl IntoIterator<Item = (Arc<str>, Arc<str>, Entry)>,
    ) -> Self {
        let mut shelves: HashMap<Arc<str>, Shelf> = HashMap::new();
        for (resource, key, entry) in objects {
            let shelf = shelves
                .entry(resource)
                .or_insert_with(|| Shelf::new(revision));
            Arc::make_mut(&mut shelf.entries).insert(key, Arc::new(entry));
        }
        Self {
            revision,
            shelves,
            born: revision,
        }
    }

    pub(super) fn get(&self, resource: &str, key: &str) -> Option<Arc<Entry>> {
        self.shelves.get(resource)?.entries.get(key).cloned()
    }

    pub(super) fn snapshot(&self, resource: &str) -> Snapshot {
        let entries = self
            .shelves
            .get(resource)
            .map(|shelf| Arc::clone(&shelf.entries))
            .unwrap_or_default();
        Snapshot {
            revision: self.revision,
            entries,
        }
    }

    pub(super) fn snapshot_at(&self, resource: &str, revision: u64) -> Option<Snapshot> {
        let Some(shelf) = self.shelves.get(resource) else {
            return Some(Snapshot {
                revision,
                entries: Arc::default(),
            });
        };
        if shelf.newest() <= revision {
            return Some(Snapshot {
                revision,
                entries: Arc::clone(&shelf.entries),
            });
        }
        if revision < shelf.floor {
            return None;
        }
        let mut entries = (*shelf.entries).clone();
        for event in shelf
            .history
            .iter()
            .rev()
            .take_while(|event| event.revision > revision)
        {
            match &event.previous {
                Some(previous) => entries.insert(Arc::clone(&event.key), Arc::clone(previous)),
                None => entries.remove(&event.key),
            };
        }
        Some(Snapshot {
            revision,
            entries: Arc::new(entries),
        })
    }

    /// The changes after `revision` and the current revision, or the floor when they are forgotten.
    pub(super) fn changes(
        &self,
        resource: &str,
        revision: u64,
    ) -> Result<(Vec<Arc<Event>>, u64), u64> {
        let Some(shelf) = self.shelves.get(resource) else {
            return Ok((Vec::new(), self.revision));
        };
        if revision < shelf.floor {
            return Err(shelf.floor);
        }
        let start = shelf
            .history
            .partition_point(|event| event.revision <= revision);
        Ok((
            shelf.history.range(start..).cloned().collect(),
            self.revision,
        ))
    }

    /// The revision of the last change of a shelf.
    pub(super) fn shelf_revision(&self, resource: &str) -> u64 {
        self.shelves.get(resource).map_or(0, Shelf::newest)
    }

    pub(super) fn subscribe(&mut self, resource: &str) -> watch::Receiver<u64> {
        self.shelf(resource).changed.subscribe()
    }

    pub(super) fn open_shelf(&mut self, resource: &str) {
        let revision = self.revision;
        let shelf = self.shelf(resource);
        if shelf.entries.is_empty() && shelf.history.is_empty() {
            shelf.floor = revision;
        }
    }

    pub(super) fn close_shelf(&mut self, resource: &str) {
        self.shelves.remove(resource);
    }

    fn shelf(&mut self, resource: &str) -> &mut Shelf {
        if !self.shelves.contains_key(resource) {
            self.shelves
                .insert(Arc::from(resource), Shelf::new(self.born));
        }
        self.shelves
            .entry(Arc::from(resource))
            .or_insert_with(|| Shelf::new(self.born))
    }

    /// Makes a committed group visible at once.
    pub(super) fn apply(&mut self, revision: u64, changes: Vec<(Arc<str>, Event)>) {
        let mut touched: Vec<Arc<str>> = Vec::new();
        for (resource, event) in changes {
            let shelf = self.shelf(&resource);
            let entries = Arc::make_mut(&mut shelf.entries);
            match event.kind {
                EventKind::Put => entries.insert(Arc::clone(&event.key), Arc::clone(&event.entry)),
                EventKind::Delete => entries.remove(&event.key),
            };
            shelf.history.push_back(Arc::new(event));
            if shelf.history.len() > HISTORY_LENGTH_MAX
                && let Some(oldest) = shelf.history.pop_front()
            {
                shelf.floor = oldest.revision;
            }
            if touched.last() != Some(&resource) {
                touched.push(resource);
            }
        }
        self.revision = revision;
        for resource in touched {
            self.shelf(&resource).changed.send_replace(revision);
        }
    }
}
