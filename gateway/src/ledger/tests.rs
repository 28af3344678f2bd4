//! What the ledger keeps, through crashes and full disks.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use rusqlite::Connection;
use tokio::task::JoinSet;

use super::{
    Durability, Entry, FILE, Journal, Ledger, LedgerError, Outcome, Position, Reader, Total,
    create_filled, disk::Disk, migrations::MIGRATIONS,
};
use crate::{cost::Cost, provider::Tokens};

/// Both ways to keep rows; what holds of one holds of the other.
const BOTH: [Durability; 2] = [Durability::synced_within(1), Durability::Machine];

fn entry(id: &str, outcome: Outcome, prompt: u64, completion: u64) -> Entry {
    Entry {
        id: id.to_owned(),
        key: "ns/k".to_owned(),
        model: "m".to_owned(),
        status: 200,
        outcome,
        is_streamed: true,
        tokens: Tokens {
            prompt,
            completion,
            cached: None,
        },
        ..Entry::default()
    }
}

fn total(requests: u64, prompt_tokens: u64, completion_tokens: u64) -> Vec<Total> {
    vec![Total {
        model: "m".to_owned(),
        requests,
        prompt_tokens,
        completion_tokens,
        cached_tokens: 0,
        cost: Cost::default(),
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
    for durability in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), durability).unwrap();
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
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_and_what_was_open_is_interrupted() {
    for durability in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let crashed = Ledger::open(folder.path(), durability).unwrap();
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
        let ledger = Ledger::open(copy.path(), durability).unwrap();
        assert_eq!(ledger.totals("ns/k").await.unwrap(), total(2, 3, 4));
        ledger.close();
        let expected = [("a", "complete"), ("b", "interrupted")]
            .map(|(id, word)| (id.to_owned(), word.to_owned()));
        assert_eq!(outcomes(copy.path()), expected);
        let again = Ledger::open(copy.path(), durability).unwrap();
        assert_eq!(again.totals("ns/k").await.unwrap(), total(2, 3, 4));
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_ends_of_streams_are_written_later() {
    for durability in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, is_full) = Disk::ledger(folder.path(), durability);
        ledger.write(entry("a", Outcome::Open, 0, 0)).await.unwrap();
        is_full.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let refused = ledger.write(entry("x", Outcome::Open, 0, 0)).await;
            assert!(matches!(refused, Err(LedgerError::Storage(_))) && !ledger.is_healthy());
        }
        let refused = ledger.write(entry("a", Outcome::Complete, 1, 2)).await;
        assert!(matches!(refused, Err(LedgerError::Storage(_))));
        is_full.store(false, Ordering::SeqCst);
        ledger
            .write(entry("b", Outcome::Complete, 10, 20))
            .await
            .unwrap();
        assert!(ledger.is_healthy());
        assert_eq!(ledger.totals("ns/k").await.unwrap(), total(2, 11, 22));
        ledger.close();
        let expected = [("a", "complete"), ("b", "complete")]
            .map(|(id, word)| (id.to_owned(), word.to_owned()));
        assert_eq!(outcomes(folder.path()), expected);
    }
}

#[tokio::test]
async fn a_store_that_takes_nothing_loses_nothing() {
    for durability in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), durability).unwrap();
        let other = Connection::open(folder.path().join(FILE)).unwrap();
        other
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON requests BEGIN SELECT RAISE(ABORT, 'full'); END",
        )
        .unwrap();
        ledger
            .write(entry("a", Outcome::Complete, 1, 2))
            .await
            .unwrap();
        let refused = ledger.totals("ns/k").await;
        assert!(matches!(refused, Err(LedgerError::Storage(_))) && ledger.is_healthy());
        other.execute_batch("DROP TRIGGER full").unwrap();
        ledger
            .write(entry("b", Outcome::Complete, 10, 20))
            .await
            .unwrap();
        assert_eq!(ledger.totals("ns/k").await.unwrap(), total(2, 11, 22));
    }
}

#[test]
fn a_journal_that_was_cut_off_anywhere_gives_its_whole_rows() {
    let folder = tempfile::tempdir().unwrap();
    let written: Vec<Entry> = (0..3)
        .map(|number| entry(&number.to_string(), Outcome::Complete, number, 1))
        .collect();
    let mut journal = Journal::new(folder.path(), 7, Arc::new(create_filled));
    let ends: Vec<u64> = written
        .iter()
        .map(|entry| journal.append([entry].into_iter()).unwrap().offset)
        .collect();
    let path = folder.path().join("journal-000000000007.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(usize::try_from(ends[2]).unwrap());
    let end = Position {
        segment: 9,
        offset: 0,
    };
    for length in (0..=bytes.len()).rev() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let mut reader = Reader::new(folder.path(), Position::default());
        let read = reader.read(end, 100).unwrap();
        let whole = ends.iter().filter(|end| **end <= length as u64).count();
        assert_eq!(read, written[..whole], "cut off at {length}");
    }
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x20;
        std::fs::write(&path, &damaged).unwrap();
        let mut reader = Reader::new(folder.path(), Position::default());
        let read = reader.read(end, 100).unwrap();
        let before = ends.iter().filter(|end| **end <= place as u64).count();
        assert_eq!(read, written[..before], "damaged at {place}");
    }
}

#[tokio::test]
async fn a_file_of_the_first_version_is_taken_over_with_what_it_counted() {
    for durability in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let old = Connection::open(folder.path().join(FILE)).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        for (id, outcome) in [("a", "complete"), ("b", "open")] {
            let row = format!(
                "INSERT INTO requests VALUES ('{id}', 'ns/k', 'ns/r', 'm', 't', 'chat', 200, '{outcome}', 3, 4, 0, 0, 1, 1, 1)"
            );
            old.execute_batch(&row).unwrap();
        }
        drop(old);
        for _ in 0..2 {
            let ledger = Ledger::open(folder.path(), durability).unwrap();
            assert_eq!(ledger.totals("ns/k").await.unwrap(), total(2, 6, 8));
            ledger.close();
        }
    }
}

#[test]
fn a_journal_goes_on_in_the_next_segment() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(folder.path(), 0, Arc::new(create_filled));
    let long = Entry {
        model: "m".repeat(500_000),
        ..entry("a", Outcome::Complete, 1, 1)
    };
    let ends: Vec<Position> = (0..40)
        .map(|_| journal.append([&long].into_iter()).unwrap())
        .collect();
    let end = *ends.last().unwrap();
    assert_eq!((end.segment, ends.is_sorted()), (2, true));
    let mut reader = Reader::new(folder.path(), Position::default());
    assert_eq!(reader.read(end, 100).unwrap(), vec![long; 40]);
    assert_eq!(reader.position(), end);
}

#[tokio::test]
async fn each_row_counts_once_however_the_process_ends() {
    for durability in BOTH {
        let folder = tempfile::tempdir().unwrap();
        for round in 1..=5 {
            let ledger = Ledger::open(folder.path(), durability).unwrap();
            for number in 0..3 {
                let id = format!("{round}-{number}");
                ledger
                    .write(entry(&id, Outcome::Complete, 1, 2))
                    .await
                    .unwrap();
                if number == 1 {
                    ledger.totals("ns/k").await.unwrap();
                }
            }
            if round % 2 == 0 {
                ledger.close();
            } else {
                // As after kill -9: nobody takes the rest into the store.
                std::mem::forget(ledger);
            }
            let copy = tempfile::tempdir().unwrap();
            for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
                std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
            }
            let again = Ledger::open(copy.path(), durability).unwrap();
            let expected = total(3 * round, 3 * round, 6 * round);
            assert_eq!(again.totals("ns/k").await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn closing_writes_what_nobody_waits_for() {
    for durability in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path(), durability).unwrap();
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_wrote_at_once_until_it_was_closed_is_there_once() {
    for durability in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Ledger::open(folder.path(), durability).unwrap());
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let ledger = Arc::clone(&ledger);
            writers.spawn(async move {
                let mut taken = 0;
                loop {
                    let id = format!("{writer}-{taken}");
                    match ledger.write(entry(&id, Outcome::Complete, 1, 2)).await {
                        Ok(()) => taken += 1,
                        Err(error) => {
                            assert_eq!(error, LedgerError::Closed);
                            return taken;
                        }
                    }
                }
            });
        }
        while ledger.totals("ns/k").await.unwrap().is_empty() {}
        let closing = Arc::clone(&ledger);
        tokio::task::spawn_blocking(move || closing.close())
            .await
            .unwrap();
        let taken = writers.join_all().await.into_iter().sum();
        let again = Ledger::open(folder.path(), durability).unwrap();
        let expected = total(taken, taken, 2 * taken);
        assert_eq!(again.totals("ns/k").await.unwrap(), expected);
    }
}
