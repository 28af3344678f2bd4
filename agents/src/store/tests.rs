//! The log by itself: groups, fences, full disks, other processes.

use std::{path::Path, sync::Arc, time::Duration};

use protocol::runs::{RunEvent, RunStatus};
use serde_json::json;

use super::{
    Account, Advance, CallRecord, Creation, Following, NewRecord, RunId, StepKey, Store,
    StoreConfig, StoreError,
};
use crate::{clock::Millis, definition::Revision};

async fn open(folder: &Path) -> Store {
    let config = StoreConfig {
        folder: folder.to_owned(),
        commit_hook: None,
    };
    Store::open(config).await.unwrap()
}

fn new_run(input: &str, key: Option<&str>) -> NewRecord {
    NewRecord {
        id: RunId::mint(),
        namespace: "n".to_owned(),
        agent: "a".to_owned(),
        account: Account("n/key".to_owned()),
        revision: Revision("r1".to_owned()),
        definition: json!({ "model": { "name": "m" }, "program": { "loop": { "maxTurns": 1 } } })
            .to_string(),
        input: json!(input),
        idempotency_key: key.map(ToOwned::to_owned),
    }
}

fn advance(run: &RunId, epoch: i64, number: u32) -> Advance {
    Advance {
        run: run.clone(),
        epoch,
        finished: None,
        events: Vec::new(),
        following: Following::Step {
            number,
            node: "model".to_owned(),
            task: format!("task-{number}"),
        },
    }
}

#[tokio::test]
async fn only_who_took_a_run_up_last_may_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let new = new_run("x", None);
    let id = new.id.clone();
    store.create(new).await.unwrap();
    let first = store.take(id.clone()).await.unwrap();
    let second = store.take(id.clone()).await.unwrap();
    assert_eq!((first.run.resumes, second.run.resumes), (0, 1));
    let stale = store.advance(advance(&id, first.epoch, 0)).await;
    assert!(matches!(stale, Err(StoreError::NotOwner)), "{stale:?}");
    let key = StepKey {
        run: id.clone(),
        epoch: first.epoch,
        number: 0,
    };
    let record = CallRecord {
        result: json!(1),
        failed: false,
    };
    assert!(matches!(
        store.record_call(key, 0, record).await,
        Err(StoreError::NotOwner)
    ));
    store.advance(advance(&id, second.epoch, 0)).await.unwrap();
    store.cancel(id.clone()).await.unwrap();
    let late = store.advance(advance(&id, second.epoch, 1)).await;
    assert!(
        matches!(late, Err(StoreError::NotOwner)),
        "a cancelled run takes no steps"
    );
    assert!(matches!(
        store.take(id.clone()).await,
        Err(StoreError::NotOwner)
    ));
    let again = store.cancel(id).await.unwrap();
    assert_eq!(
        (again.run.status, again.events.len()),
        (RunStatus::Cancelled, 0)
    );
}

#[tokio::test]
async fn operations_that_fail_take_nothing_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let creations = (0..50).map(|index| {
        let store = store.clone();
        async move {
            if index % 5 == 0 {
                store.cancel(RunId::mint()).await.map(drop).unwrap_err();
            } else {
                store.create(new_run("x", None)).await.map(drop).unwrap();
            }
        }
    });
    futures::future::join_all(creations).await;
    assert_eq!(store.open_runs().await.unwrap().len(), 40);
}

#[tokio::test]
async fn a_disk_that_is_really_full_is_an_error_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let limit = |pages: i64| {
        let store = store.clone();
        async move {
            store
                .write(move |connection| {
                    let set = format!("PRAGMA max_page_count = {pages}");
                    connection.query_row(&set, [], |_| Ok(()))?;
                    Ok(())
                })
                .await
                .unwrap();
        }
    };
    store.create(new_run("small", Some("k"))).await.unwrap();
    limit(1).await;
    let large = || new_run(&"x".repeat(100_000), Some("large"));
    let runs = futures::future::join_all((0..4).map(|_| store.create(large()))).await;
    assert!(
        runs.iter().all(|run| matches!(run, Err(StoreError::Full))),
        "{runs:?}"
    );
    assert!(!store.is_writable());
    assert_eq!(
        store.open_runs().await.unwrap().len(),
        1,
        "nothing of it was kept"
    );
    limit(1_000_000).await;
    assert!(matches!(
        store.create(large()).await,
        Ok(Creation::Created(_))
    ));
    assert!(store.is_writable());
    let check: String = store
        .read(
            |connection| Ok(connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?),
        )
        .await
        .unwrap();
    assert_eq!(check, "ok");
}

#[tokio::test]
async fn events_are_numbered_without_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let new = new_run("x", None);
    let id = new.id.clone();
    store.create(new).await.unwrap();
    let started = store.take(id.clone()).await.unwrap();
    store.advance(advance(&id, started.epoch, 0)).await.unwrap();
    store.cancel(id.clone()).await.unwrap();
    let events = store.events(id.clone(), 0).await.unwrap();
    let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(matches!(events[2].event, RunEvent::Finished { .. }));
    assert_eq!(store.events(id, 2).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_process_waits_for_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await;
    let second = open(folder.path());
    tokio::pin!(second);
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
    assert!(waited.is_err(), "the lock is held");
    first.create(new_run("x", None)).await.unwrap();
    drop(first);
    let second = second.await;
    assert_eq!(second.open_runs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn old_runs_are_forgotten_with_all_that_belongs_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (old, kept) = (new_run("old", None), new_run("kept", None));
    let (old_id, kept_id) = (old.id.clone(), kept.id.clone());
    store.create(old).await.unwrap();
    store.create(kept).await.unwrap();
    store.cancel(old_id.clone()).await.unwrap();
    assert_eq!(store.forget_ended_before(Millis(0)).await.unwrap(), 0);
    assert_eq!(
        store
            .forget_ended_before(Millis(Millis::now().0 + 1000))
            .await
            .unwrap(),
        1
    );
    assert!(matches!(
        store.run(old_id.clone()).await,
        Err(StoreError::NotFound)
    ));
    assert_eq!(store.events(old_id, 0).await.unwrap(), []);
    assert!(store.run(kept_id.clone()).await.is_ok());
    assert!(
        store.take(kept_id).await.is_ok(),
        "the revision of a kept run is kept"
    );
}

#[tokio::test]
async fn a_log_from_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await);
    let connection = rusqlite::Connection::open(folder.path().join("runs.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let config = StoreConfig {
        folder: folder.path().to_owned(),
        commit_hook: None,
    };
    let error = Store::open(config).await.unwrap_err().to_string();
    assert!(error.contains("has schema 99"), "{error}");
}

#[tokio::test]
async fn steps_of_many_runs_share_commits() {
    let commits = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&commits);
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        folder: folder.path().to_owned(),
        commit_hook: Some(Arc::new(move |_, number| {
            counted.store(number, std::sync::atomic::Ordering::Relaxed);
            super::Verdict::Continue
        })),
    };
    let store = Store::open(config).await.unwrap();
    futures::future::join_all((0..200).map(|_| store.create(new_run("x", None)))).await;
    let commits = commits.load(std::sync::atomic::Ordering::Relaxed);
    assert!(commits < 50, "200 runs took {commits} commits");
}

#[tokio::test]
async fn a_list_of_large_runs_ends_early() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let large = "x".repeat(6 << 20);
    for _ in 0..5 {
        store.create(new_run(&large, None)).await.unwrap();
    }
    let account = Account("n/key".to_owned());
    let runs = store
        .runs("n".to_owned(), "a".to_owned(), account)
        .await
        .unwrap();
    assert_eq!(runs.len(), 3, "16 MiB are reached");
}

#[tokio::test]
async fn nobody_else_reads_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.create(new_run("x", None)).await.unwrap();
    for file in ["runs.db", "runs.db-wal", "runs.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{file} has mode {mode:o}");
    }
}
