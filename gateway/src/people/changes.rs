//! Changes of keys, teams, users and tags, as replicas tell them to each other.
//!
//! Each change has the time at which it was made, later than that of what it replaces. Of two changes of one record the
//! later one counts on every replica, in whatever order they come; what was deleted is remembered as long.

use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};

use super::{
    Kind, People, Record,
    edit::{Edit, Staged, digests_of, storage},
    store::{self, Store},
};
use crate::fault::Fault;

/// Changes of one page.
const PAGE: usize = 500;

/// The last thing that happened to a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Change {
    kind: Kind,
    id: String,
    /// When, in microseconds since 1970.
    at: i64,
    /// What it is now; nothing if it was deleted.
    record: Option<Record>,
}

/// Changes of a replica, in its order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Page {
    /// The file that they are from.
    store: String,
    /// The number of the last one.
    upto: i64,
    changes: Vec<Change>,
    /// Whether there are more.
    pub(crate) has_more: bool,
}

impl People {
    /// How far the changes of a replica are taken, and of which file.
    pub(super) fn cursor(&self, replica: &str) -> (String, i64) {
        let cursors = self.cursors.lock();
        cursors.get(replica).cloned().unwrap_or_default()
    }

    /// How many changes there were here.
    pub(crate) fn changes(&self) -> i64 {
        self.store.lock().as_ref().map_or(0, Store::changes)
    }

    /// The changes after a number, or all if that was of another file; blocks.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn changes_after(&self, file: &str, after: i64) -> Result<Page, Fault> {
        let mut guard = self.store.lock();
        let Some(store) = guard.as_mut() else {
            return Ok(Page {
                store: file.to_owned(),
                upto: after,
                changes: Vec::new(),
                has_more: false,
            });
        };
        let read = |store: &mut Store| {
            let transaction = store.transaction()?;
            let identity = store::identity(&transaction)?;
            let after = if identity == file { after } else { 0 };
            page(&transaction, identity, after)
        };
        read(store).map_err(|error| storage(&error))
    }

    /// Takes changes of another replica; blocks. What of them is later than what is here is on disk and in use when this
    /// returns.
    ///
    /// # Errors
    /// The disk's, or a change cannot be understood.
    pub(super) fn heed(&self, replica: &str, page: Page) -> Result<(), Fault> {
        let Page {
            store,
            upto,
            changes,
            ..
        } = page;
        if !changes.is_empty() {
            self.open_store()?;
            self.edit(replica, |edit| {
                changes.into_iter().try_for_each(|change| edit.heed(change))
            })?;
        }
        let mut cursors = self.cursors.lock();
        cursors.insert(replica.to_owned(), (store, upto));
        Ok(())
    }
}

impl Edit<'_> {
    /// Takes a change of another replica, if it is later than what is here.
    fn heed(&mut self, change: Change) -> Result<(), Fault> {
        let Change {
            kind,
            id,
            at,
            record,
        } = change;
        let before = self.find(kind, &id)?;
        let known = store::changed_at(&self.transaction, kind, &id);
        let known = known.map_err(|error| storage(&error))?;
        let is_later = match known {
            None => true,
            Some(known) if known != at => known < at,
            // Made at once on two replicas: any rule will do that is the same on both.
            Some(_) => text(before.as_ref()) < text(record.as_ref()),
        };
        if !is_later {
            return Ok(());
        }
        let mut staged = match &record {
            Some(record) => self.compile(record)?,
            None => Staged::gone(kind, &id),
        };
        if let (
            Staged::Key {
                before: digests, ..
            },
            Some(before),
        ) = (&mut staged, &before)
        {
            *digests = digests_of(before);
        }
        let written = match record {
            Some(record) => write(&self.transaction, record),
            None => store::delete(&self.transaction, kind, &id).map(|()| true),
        };
        let is_written = written.map_err(|error| storage(&error))?;
        store::note_change(&self.transaction, kind, &id, at).map_err(|error| storage(&error))?;
        if is_written {
            self.stage(staged);
        }
        Ok(())
    }
}

/// Writes a record of another replica's; whether it was. Of two that were given one alias on two replicas the first by id
/// keeps it, and of two with one secret the first by id is kept.
fn write(transaction: &Transaction<'_>, mut record: Record) -> rusqlite::Result<bool> {
    if let Some(other) = store::holder_of_secret(transaction, &record)? {
        if other < record.id {
            return Ok(false);
        }
        store::delete(transaction, record.kind, &other)?;
    }
    if let Some(other) = store::holder_of_alias(transaction, &record)? {
        if other < record.id {
            record.spec.alias = None;
        } else if let Some(mut other) = store::get(transaction, record.kind, &other)? {
            other.spec.alias = None;
            store::put(transaction, &other)?;
        }
    }
    store::put(transaction, &record).map(|()| true)
}

fn text(record: Option<&Record>) -> String {
    record
        .and_then(|record| serde_json::to_string(record).ok())
        .unwrap_or_default()
}

fn page(connection: &Connection, identity: String, after: i64) -> rusqlite::Result<Page> {
    let mut listed = store::changes_after(connection, after, PAGE + 1)?;
    let has_more = PAGE < listed.len();
    listed.truncate(PAGE);
    let mut page = Page {
        store: identity,
        upto: after,
        changes: Vec::new(),
        has_more,
    };
    for (number, kind, id, at) in listed {
        page.upto = number;
        let record = store::get(connection, kind, &id)?;
        page.changes.push(Change {
            kind,
            id,
            at,
            record,
        });
    }
    Ok(page)
}

#[cfg(test)]
mod tests;
