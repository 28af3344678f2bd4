//! What the store promises: nothing acknowledged is lost, revisions only rise, a full disk changes nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::disk::Disk;
use super::*;

fn put(key: &str, expect: Expect, size: usize) -> Write {
    let object =
        json!({"metadata": {"name": key, "labels": {"key": key}}, "data": "x".repeat(size)});
    Write {
        resource: Arc::from("/things"),
        key: key.to_owned(),
        expect,
        change: Change::Put(object),
    }
}

fn remove(key: &str, revision: u64) -> Write {
    let change = Change::Delete(json!({"metadata": {"name": key}}));
    Write {
        resource: Arc::from("/things"),
        key: key.to_owned(),
        expect: Expect::Revision(revision),
        change,
    }
}

#[tokio::test]
async fn writes_need_what_they_expect() {
    let store = Store::in_memory();
    let first = store.write(put("a", Expect::Absent, 1)).await.unwrap();
    assert_eq!(
        first.value()["metadata"]["resourceVersion"],
        first.revision.to_string()
    );
    assert!(matches!(
        store.write(put("a", Expect::Absent, 1)).await,
        Err(StoreError::Exists)
    ));
    let second = store
        .write(put("a", Expect::Revision(first.revision), 2))
        .await
        .unwrap();
    assert!(second.revision > first.revision);
    assert!(matches!(
        store
            .write(put("a", Expect::Revision(first.revision), 3))
            .await,
        Err(StoreError::Stale)
    ));
    assert!(matches!(
        store.write(put("b", Expect::Revision(1), 3)).await,
        Err(StoreError::Missing)
    ));
    store.write(remove("a", second.revision)).await.unwrap();
    assert!(store.get("/things", "a").is_none());
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_copy_of_the_file_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("objects.redb");
    let store = Arc::new(Store::open(&path).unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in 0..25 {
                store
                    .write(put(&format!("{writer}/{number}"), Expect::Absent, 100))
                    .await
                    .unwrap();
            }
        });
    }
    while writers.join_next().await.is_some() {}
    // A copy is what a machine finds that lost the process: nothing was closed.
    let copy = folder.path().join("copy.redb");
    std::fs::copy(&path, &copy).unwrap();
    let found = Store::open(&copy).unwrap();
    assert_eq!(found.snapshot("/things").entries.len(), 200);
    assert_eq!(found.revision(), store.revision());
    let next = found.write(put("next", Expect::Absent, 1)).await.unwrap();
    assert!(next.revision > store.revision());
    let entry = found.get("/things", "0/0").unwrap();
    assert_eq!(entry.labels.get("key").map(String::as_str), Some("0/0"));
}

#[tokio::test]
async fn a_reopened_store_knows_no_history_from_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("objects.redb");
    let store = Store::open(&path).unwrap();
    let entry = store.write(put("a", Expect::Absent, 1)).await.unwrap();
    let copy = folder.path().join("copy.redb");
    std::fs::copy(&path, &copy).unwrap();
    let found = Store::open(&copy).unwrap();
    let ended = found
        .watch("/things", entry.revision - 1)
        .ready()
        .unwrap_err();
    assert!(matches!(ended, WatchEnded::Expired { .. }));
    assert!(
        found
            .watch("/things", entry.revision)
            .ready()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_watch_gets_every_change_in_order() {
    let store = Store::in_memory();
    let mut watcher = store.watch("/things", store.revision());
    let entry = store.write(put("a", Expect::Absent, 1)).await.unwrap();
    store
        .write(put("a", Expect::Revision(entry.revision), 2))
        .await
        .unwrap();
    let events = watcher.next().await.unwrap();
    let kinds: Vec<(EventKind, bool)> = events
        .iter()
        .map(|event| (event.kind, event.previous.is_some()))
        .collect();
    assert_eq!(kinds, [(EventKind::Put, false), (EventKind::Put, true)]);
    store.close_shelf("/things");
    assert_eq!(watcher.next().await.unwrap_err(), WatchEnded::Closed);
}

#[tokio::test]
async fn a_watch_that_fell_behind_is_told() {
    let store = Store::in_memory();
    let start = store.revision();
    let mut watcher = store.watch("/things", start);
    for number in 0..3000 {
        store
            .write(put(&number.to_string(), Expect::Absent, 1))
            .await
            .unwrap();
    }
    assert!(
        matches!(watcher.ready(), Err(WatchEnded::Expired { asked, oldest }) if asked == start && oldest > asked)
    );
    assert!(store.snapshot_at("/things", start).is_none());
}

/// A storage that has room for so many bytes.
#[derive(Debug, Clone)]
struct SmallDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    room: Arc<AtomicU64>,
}

impl redb::StorageBackend for SmallDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let bytes = self.bytes.lock();
        let found = bytes
            .get(start..start + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.room.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.lock().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        if offset + data.len() as u64 > self.room.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = self.bytes.lock();
        let end = start + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        Ok(())
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_forgets_nothing() {
    let disk = SmallDisk {
        bytes: Arc::default(),
        room: Arc::new(AtomicU64::new(4 << 20)),
    };
    let backend = disk.clone();
    let store = Store::start(Disk::backend(move || backend.clone()).unwrap()).unwrap();
    let mut stored = 0;
    let error = loop {
        match store
            .write(put(&stored.to_string(), Expect::Absent, 100_000))
            .await
        {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "the disk never became full");
    };
    assert!(
        matches!(error, StoreError::DiskFull | StoreError::Disk(_)),
        "{error:?}"
    );
    assert_eq!(
        store.snapshot("/things").entries.len(),
        stored,
        "memory ran ahead of the disk"
    );
    let before = store.revision();
    disk.room.store(64 << 20, Ordering::SeqCst);
    let entry = store
        .write(put("after", Expect::Absent, 100_000))
        .await
        .unwrap();
    assert!(entry.revision > before);
    let copy = SmallDisk {
        bytes: Arc::new(Mutex::new(disk.bytes.lock().clone())),
        room: Arc::clone(&disk.room),
    };
    let found = Store::start(Disk::backend(move || copy.clone()).unwrap()).unwrap();
    assert_eq!(found.snapshot("/things").entries.len(), stored + 1);
}

fn names(snapshot: &Snapshot) -> Vec<(String, Value)> {
    snapshot
        .entries
        .iter()
        .map(|(key, entry)| (key.to_string(), entry.value()))
        .collect()
}

proptest! {
    #[test]
    fn a_snapshot_of_the_past_is_what_a_list_showed_then(steps in proptest::collection::vec((0u8..6, any::<bool>()), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::in_memory();
            store.open_shelf("/things");
            let mut seen = Vec::new();
            for (key, deletes) in steps {
                let key = key.to_string();
                let found = store.get("/things", &key);
                let write = match (&found, deletes) {
                    (Some(entry), true) => remove(&key, entry.revision),
                    (Some(entry), false) => put(&key, Expect::Revision(entry.revision), 1),
                    (None, _) => put(&key, Expect::Absent, 1),
                };
                store.write(write).await.unwrap();
                seen.push((store.revision(), names(&store.snapshot("/things"))));
            }
            for (revision, expected) in seen {
                let past = store.snapshot_at("/things", revision).unwrap();
                assert_eq!(names(&past), expected);
            }
        });
    }
}
