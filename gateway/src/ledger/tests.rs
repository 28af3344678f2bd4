//! What the ledger keeps, through crashes and full disks.

use std::path::Path;

use rusqlite::Connection;

use super::{Entry, FILE, Ledger, LedgerError, Outcome, Total};
use crate::provider::Tokens;

fn entry(id: &str, outcome: Outcome, prompt: u64, completion: u64) -> Entry {
    Entry {
        id: id.to_owned(),
        key: "ns/k".to_owned(),
        model: "m".to_owned(),
        operation: "chat",
        status: 200,
        outcome,
        is_streamed: true,
        tokens: Tokens { prompt, completion },
        ..Entry::default()
    }
}

fn total(requests: u64, prompt_tokens: u64, completion_tokens: u64) -> Vec<Total> {
    vec![Total {
        model: "m".to_owned(),
        requests,
        prompt_tokens,
        completion_tokens,
    }]
}

fn outcomes(folder: &Path) -> Vec<(String, String)> {
    let connection = Connection::open(folder.join(FILE)).unwrap();
    let mut statement = connection
        .prepare("SELECT id, outcome FROM requests ORDER BY id")
        .unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn an_open_row_is_completed_once_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).unwrap();
    ledger.write(entry("a", Outcome::Open, 0, 0)).await.unwrap();
    assert_eq!(ledger.totals("ns/k").await.unwrap(), []);
    ledger
        .write(entry("a", Outcome::Complete, 3, 4))
        .await
        .unwrap();
    ledger
        .write(entry("a", Outcome::Complete, 30, 40))
        .await
        .unwrap();
    ledger
        .write(entry("b", Outcome::Cancelled, 0, 1))
        .await
        .unwrap();
    assert_eq!(ledger.totals("ns/k").await.unwrap(), total(2, 3, 5));
    assert_eq!(ledger.totals("ns/other").await.unwrap(), []);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_and_what_was_open_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let crashed = Ledger::open(folder.path()).unwrap();
    crashed
        .write(entry("a", Outcome::Complete, 3, 4))
        .await
        .unwrap();
    crashed
        .write(entry("b", Outcome::Open, 0, 0))
        .await
        .unwrap();
    // A second process finds the files as they are on disk: the first one never closes them.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let ledger = Ledger::open(copy.path()).unwrap();
    assert_eq!(ledger.totals("ns/k").await.unwrap(), total(2, 3, 4));
    ledger.close();
    let expected = [("a", "complete"), ("b", "interrupted")]
        .map(|(id, word)| (id.to_owned(), word.to_owned()));
    assert_eq!(outcomes(copy.path()), expected);
    let again = Ledger::open(copy.path()).unwrap();
    assert_eq!(again.totals("ns/k").await.unwrap(), total(2, 3, 4));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_told_and_ends_of_streams_are_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).unwrap();
    ledger.write(entry("a", Outcome::Open, 0, 0)).await.unwrap();
    // Another writer that holds the lock beyond the busy timeout refuses writes as a full disk does.
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("CREATE TRIGGER full BEFORE UPDATE ON requests BEGIN SELECT RAISE(ABORT, 'disk full'); END").unwrap();
    let refused = ledger.write(entry("a", Outcome::Complete, 1, 2)).await;
    assert!(matches!(refused, Err(LedgerError::Storage(_))) && !ledger.is_healthy());
    other.execute_batch("DROP TRIGGER full").unwrap();
    ledger
        .write(entry("b", Outcome::Complete, 10, 20))
        .await
        .unwrap();
    assert!(ledger.is_healthy());
    assert_eq!(ledger.totals("ns/k").await.unwrap(), total(2, 11, 22));
}

#[tokio::test]
async fn closing_writes_what_nobody_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).unwrap();
    ledger.write_later(entry("a", Outcome::Cancelled, 0, 0));
    ledger.close();
    assert_eq!(
        outcomes(folder.path()),
        [("a".to_owned(), "cancelled".to_owned())]
    );
    assert_eq!(
        ledger.write(entry("b", Outcome::Open, 0, 0)).await,
        Err(LedgerError::Closed)
    );
}
