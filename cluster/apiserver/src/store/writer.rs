//! The only place where objects change: takes writers in order, decides each, commits the group, then tells everybody.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use super::disk::Disk;
use super::entry::{Entry, Event, EventKind};
use super::memory::Memory;
use super::{Change, Expect, StoreError, Write};

/// How many writes share one commit at most.
const GROUP_LENGTH_MAX: usize = 512;

/// Who waits for a write.
type Answer = oneshot::Sender<Result<Arc<Entry>, StoreError>>;

/// A write and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) answer: Answer,
}

/// Decides and commits groups of writes.
#[derive(Debug)]
pub(super) struct Writer {
    memory: Arc<RwLock<Memory>>,
    disk: Option<Disk>,
    /// A group whose commit failed without telling whether it is on disk.
    doubtful: Option<Group>,
}

/// Writes that were accepted together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) revision: u64,
    pub(super) changes: Vec<(Arc<str>, Event)>,
    waiting: Vec<(Answer, Arc<Entry>)>,
    /// What the group leaves under each key, for later writes of the same group.
    overlay: HashMap<(Arc<str>, String), Option<Arc<Entry>>>,
}

impl Writer {
    pub(super) fn new(memory: Arc<RwLock<Memory>>, disk: Option<Disk>) -> Self {
        Self {
            memory,
            disk,
            doubtful: None,
        }
    }

    /// Commits until every sender is gone. Whoever queues while a commit is being synced shares the next one.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut jobs = vec![first];
            while jobs.len() < GROUP_LENGTH_MAX {
                let Ok(job) = queue.try_recv() else { break };
                jobs.push(job);
            }
            self.commit(jobs);
        }
    }

    pub(super) fn commit(&mut self, jobs: Vec<Job>) {
        if let Err(error) = self.settle_doubt() {
            for job in jobs {
                drop(job.answer.send(Err(error.clone())));
            }
            return;
        }
        let group = self.decide(jobs);
        if group.changes.is_empty() {
            return;
        }
        if let Some(disk) = &mut self.disk
            && let Err(error) = disk.commit(&group)
        {
            tracing::error!(%error, "commit failed");
            self.fail(group, &error);
            return;
        }
        self.publish(group);
    }

    fn publish(&mut self, group: Group) {
        let Group {
            revision,
            changes,
            waiting,
            overlay: _,
        } = group;
        self.memory.write().apply(revision, changes);
        for (answer, entry) in waiting {
            drop(answer.send(Ok(entry)));
        }
    }

    /// A failed commit is usually not on disk, but only the disk knows: ask now, or before the next commit.
    fn fail(&mut self, mut group: Group, error: &StoreError) {
        let waiting = std::mem::take(&mut group.waiting);
        let revision = group.revision;
        self.doubtful = Some(group);
        let settled = self.settle_doubt();
        let committed = settled.is_ok() && self.memory.read().revision == revision;
        for (answer, entry) in waiting {
            drop(answer.send(if committed {
                Ok(entry)
            } else {
                Err(error.clone())
            }));
        }
    }

    fn settle_doubt(&mut self) -> Result<(), StoreError> {
        let (Some(disk), Some(group)) = (&mut self.disk, self.doubtful.take()) else {
            return Ok(());
        };
        match disk.reopen() {
            Ok(revision) if revision == group.revision => self.publish(group),
            Ok(_) => {}
            Err(error) => {
                self.doubtful = Some(group);
                return Err(error);
            }
        }
        Ok(())
    }

    fn decide(&self, jobs: Vec<Job>) -> Group {
        let memory = self.memory.read();
        let mut group = Group {
            revision: memory.revision,
            ..Group::default()
        };
        for Job { write, answer } in jobs {
            let place = (Arc::clone(&write.resource), write.key.clone());
            let found = group.overlay.get(&place).cloned();
            let previous = found.unwrap_or_else(|| memory.get(&write.resource, &write.key));
            if let Err(error) = check(write.expect, previous.as_deref()) {
                drop(answer.send(Err(error)));
                continue;
            }
            group.revision += 1;
            let (kind, object) = match write.change {
                Change::Put(object) => (EventKind::Put, object),
                Change::Delete(object) => (EventKind::Delete, object),
            };
            let entry = Arc::new(Entry::new(object, group.revision));
            let stays = (kind == EventKind::Put).then(|| Arc::clone(&entry));
            group.overlay.insert(place, stays);
            let key = Arc::from(write.key);
            let event = Event {
                revision: group.revision,
                kind,
                key,
                entry: Arc::clone(&entry),
                previous,
            };
            group.changes.push((write.resource, event));
            group.waiting.push((answer, entry));
        }
        group
    }
}

fn check(expect: Expect, found: Option<&Entry>) -> Result<(), StoreError> {
    match (expect, found) {
        (Expect::Absent, None) => Ok(()),
        (Expect::Absent, Some(_)) => Err(StoreError::Exists),
        (Expect::Revision(_), None) => Err(StoreError::Missing),
        (Expect::Revision(revision), Some(entry)) if entry.revision == revision => Ok(()),
        (Expect::Revision(_), Some(_)) => Err(StoreError::Stale),
    }
}
