//! The ledger in a real PostgreSQL, which is killed, hangs, and is not there.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use protocol::snapshot::Per;

use super::postgres::{PASSWORD, Postgres};
use crate::{
    cost::Cost,
    ledger::{By, Durability, Entry, Ledger, Outcome, RowQuery, SpendQuery, Total},
    limits::Scope,
    people::Kind,
    provider::Tokens,
};

/// What no test waits for in vain.
const LIMIT: Duration = Duration::from_secs(60);
const DURABILITY: Durability = Durability::synced_within(1);

fn entry(number: u64, outcome: Outcome) -> Entry {
    let pick = |names: [&str; 3]| names[usize::try_from(number % 3).unwrap()].to_owned();
    // Hours apart, so that windows and days have something to tell apart.
    let millis = 1_760_000_000_000 + i64::try_from(number).unwrap() * 1_800_000;
    Entry {
        id: format!("req_{millis:012x}-{number}"),
        key: pick(["ns/a", "ns/b", ""]),
        route: pick(["ns/r", "ns/r", "ns/s"]),
        model: pick(["m", "n\0n", "o"]),
        target: "own".to_owned(),
        status: 200,
        outcome,
        tokens: Tokens {
            prompt: number,
            completion: 2 * number,
            cached: Some(number / 2),
        },
        cost: Cost::from_nanos(1000 + number),
        is_streamed: number.is_multiple_of(2),
        started_at: Timestamp::from_millisecond(millis).unwrap(),
        first_byte_millis: (number.is_multiple_of(2)).then_some(5),
        duration_millis: 7,
        team: pick(["blue", "", "red"]),
        user: pick(["ann", "bob", ""]),
        end_user: "e".to_owned(),
        tags: vec![pick(["x", "y", "z"]), "all".to_owned()],
        ..Entry::default()
    }
}

async fn write(ledger: &Ledger, numbers: std::ops::Range<u64>, outcome: Outcome) {
    let writes = numbers.map(|number| ledger.write(entry(number, outcome)));
    futures::future::try_join_all(writes).await.unwrap();
}

fn open(folder: &Path, postgres: &Postgres) -> Ledger {
    let url = postgres.url().parse().unwrap();
    Ledger::open_shared(folder, &url, DURABILITY).unwrap()
}

/// Ends a ledger without a word to anybody, as kill -9 does: what a copy of its folder holds is all that is left.
fn crashed(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (folder.join("database"), copy.path().join("database"));
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    copy
}

/// The totals of a key, as soon as the database tells them.
async fn totals(ledger: &Ledger, key: &str) -> Vec<Total> {
    let begun = Instant::now();
    loop {
        match ledger.totals(key).await {
            Ok(totals) => return totals,
            Err(error) => assert!(begun.elapsed() < LIMIT, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// What totals are made by, and for whom.
type Query = (&'static [By], &'static [(By, &'static str)]);

fn time(number: u64) -> Timestamp {
    entry(number, Outcome::Complete).started_at
}

/// Everything that a ledger can be asked, as text.
async fn told(ledger: &Ledger) -> Vec<String> {
    [
        told_totals(ledger).await,
        told_rows(ledger).await,
        told_spent(ledger),
    ]
    .concat()
}

async fn told_totals(ledger: &Ledger) -> Vec<String> {
    let mut told = Vec::new();
    for key in ["ns/a", "ns/b", ""] {
        told.push(format!("{:?}", totals(ledger, key).await));
    }
    let queries: [Query; 6] = [
        (&[], &[]),
        (&[By::Day, By::User], &[]),
        (&[By::Key, By::Team, By::Model], &[(By::User, "ann")]),
        (&[By::Tag], &[]),
        (&[By::Day, By::Tag], &[(By::Tag, "y")]),
        (&[By::Route], &[(By::Key, "nobody")]),
    ];
    for (by, only) in queries {
        for (since, until) in [(None, None), (Some(time(9)), Some(time(60)))] {
            let query = SpendQuery {
                by: by.to_vec(),
                only: only
                    .iter()
                    .map(|(by, name)| (*by, (*name).to_owned()))
                    .collect(),
                since,
                until,
                most: 1000,
            };
            let mut spend = ledger.spend(query).await.unwrap();
            spend.sort_by(|left, right| left.names.cmp(&right.names));
            let names: Vec<_> = spend.iter().map(|spend| spend.names.clone()).collect();
            told.push(format!("{spend:?} {names:?}"));
        }
    }
    let wrong = SpendQuery {
        by: vec![By::Tag, By::Key],
        ..SpendQuery::default()
    };
    told.push(format!("{:?}", ledger.spend(wrong).await));
    told
}

async fn told_rows(ledger: &Ledger) -> Vec<String> {
    let mut told = Vec::new();
    for query in [
        RowQuery::default(),
        RowQuery {
            user: Some("bob".to_owned()),
            since: Some(time(9)),
            until: Some(time(60)),
            ..RowQuery::default()
        },
        RowQuery {
            id: Some(entry(7, Outcome::Complete).id),
            ..RowQuery::default()
        },
    ] {
        let query = RowQuery { most: 20, ..query };
        told.push(format!("{:?}", ledger.rows(query).await.unwrap()));
    }
    told
}

fn told_spent(ledger: &Ledger) -> Vec<String> {
    let mut told = Vec::new();
    for per in [
        Per::Key,
        Per::Team,
        Per::User,
        Per::Model,
        Per::Tag,
        Per::Route,
    ] {
        let spent = ledger.spent(&Scope::Route("ns/r".to_owned()), per, time(9));
        told.push(format!("{:?}", sorted(spent)));
    }
    for (kind, id) in [
        (Kind::Key, "ns/a"),
        (Kind::Team, "blue"),
        (Kind::User, "bob"),
        (Kind::Tag, "all"),
    ] {
        for model in [None, Some("m"), Some("o*")] {
            let scope = Scope::Party {
                kind,
                id: id.to_owned(),
                model: model.map(str::to_owned),
            };
            told.push(format!(
                "{:?}",
                sorted(ledger.spent(&scope, Per::Key, time(9)))
            ));
        }
    }
    told
}

fn sorted(spent: HashMap<String, u64>) -> Vec<(String, u64)> {
    let mut spent: Vec<_> = spent.into_iter().collect();
    spent.sort();
    spent
}

#[tokio::test]
async fn a_database_tells_what_a_file_tells() {
    let postgres = Postgres::start();
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let file = Ledger::open(folders[0].path(), DURABILITY).unwrap();
    let shared = open(folders[1].path(), &postgres);
    for ledger in [&file, &shared] {
        write(ledger, 0..90, Outcome::Open).await;
        write(ledger, 0..80, Outcome::Complete).await;
        // What has ended is not changed any more.
        let again = Entry {
            cost: Cost::from_nanos(1_000_000),
            ..entry(3, Outcome::Failed)
        };
        ledger.write(again).await.unwrap();
    }
    let expected: Vec<String> = told(&file).await;
    let expected = expected.iter().map(|text| text.replace("\\0", "\u{fffd}"));
    assert_eq!(told(&shared).await, expected.collect::<Vec<_>>());
    // What a crash leaves open has ended, in both.
    let copy = crashed(folders[1].path());
    file.close();
    shared.close();
    let file = Ledger::open(folders[0].path(), DURABILITY).unwrap();
    let again = open(copy.path(), &postgres);
    let expected = told(&file).await;
    let expected = expected.iter().map(|text| text.replace("\\0", "\u{fffd}"));
    assert_eq!(told(&again).await, expected.collect::<Vec<_>>());
    assert_eq!(
        postgres
            .ask("SELECT count(*) FROM quarterdeck.requests WHERE outcome = 'interrupted'")
            .await,
        10
    );
    // Another replica, with a journal of its own, sees the same, and what is open there stays open.
    let other = open(folders[2].path(), &postgres);
    write(&other, 200..210, Outcome::Open).await;
    write(&other, 200..205, Outcome::Complete).await;
    totals(&other, "").await;
    let third = open(crashed(copy.path()).path(), &postgres);
    assert_eq!(told(&other).await, told(&third).await);
    let rows = "SELECT count(*) FROM quarterdeck.requests WHERE outcome = 'open'";
    assert_eq!(postgres.ask(rows).await, 5);
    assert_eq!(
        postgres
            .ask("SELECT sum(requests)::bigint FROM quarterdeck.usage")
            .await,
        95
    );
    assert_eq!(
        postgres
            .ask("SELECT count(*) FROM quarterdeck.journal")
            .await,
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_lost_or_doubled_when_the_database_is_killed_under_load() {
    const ROWS: u64 = 3000;
    let mut postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), &postgres);
    for round in 0..6 {
        let numbers = round * ROWS / 6..(round + 1) * ROWS / 6;
        let writing = async {
            for number in numbers {
                ledger.write(entry(number, Outcome::Open)).await.unwrap();
                ledger
                    .write(entry(number, Outcome::Complete))
                    .await
                    .unwrap();
            }
        };
        let asking = async {
            // In the midst of a transaction, as often as not.
            let _ = ledger.totals("ns/a").await;
            let _ = ledger.totals("ns/a").await;
            tokio::task::spawn_blocking(move || {
                postgres.kill();
                postgres.start_again();
                postgres
            })
            .await
            .unwrap()
        };
        ((), postgres) = futures::join!(writing, asking);
    }
    let counted = totals(&ledger, "ns/a").await;
    let requests: u64 = counted.iter().map(|total| total.requests).sum();
    assert_eq!(requests, ROWS / 3);
    assert_eq!(
        postgres
            .ask("SELECT count(*) FROM quarterdeck.requests")
            .await,
        3000
    );
    assert_eq!(
        postgres
            .ask("SELECT sum(requests)::bigint FROM quarterdeck.usage")
            .await,
        3000
    );
    let cost = (0..ROWS).map(|number| 1000 + number).sum::<u64>();
    let sum = postgres
        .ask("SELECT sum(cost_nanos)::bigint FROM quarterdeck.usage")
        .await;
    assert_eq!(u64::try_from(sum).unwrap(), cost);
}

#[tokio::test]
async fn a_gateway_without_its_database_keeps_rows_and_ships_them_when_it_is_there() {
    let mut postgres = Postgres::start();
    postgres.kill();
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let ledger = open(folder.path(), &postgres);
    write(&ledger, 0..50, Outcome::Open).await;
    write(&ledger, 0..40, Outcome::Complete).await;
    assert!(ledger.totals("ns/a").await.is_err());
    assert_eq!(
        ledger.spent(
            &Scope::Route("ns/r".to_owned()),
            Per::Route,
            Timestamp::UNIX_EPOCH
        ),
        HashMap::new()
    );
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    // The gateway dies, with rows that nobody has taken, and starts before the database does.
    let copy = crashed(folder.path());
    ledger.close();
    let again = open(copy.path(), &postgres);
    write(&again, 100..110, Outcome::Open).await;
    postgres.start_again();
    totals(&again, "ns/a").await;
    let count = async |outcome: &str| {
        let query =
            format!("SELECT count(*) FROM quarterdeck.requests WHERE outcome = '{outcome}'");
        postgres.ask(&query).await
    };
    let counts = (
        count("complete").await,
        count("interrupted").await,
        count("open").await,
    );
    assert_eq!(counts, (40, 10, 10));
    // One that hangs holds up no row.
    postgres.hang(true);
    let begun = Instant::now();
    write(&again, 100..110, Outcome::Complete).await;
    let spent = again.spent(
        &Scope::Route("ns/r".to_owned()),
        Per::Route,
        Timestamp::UNIX_EPOCH,
    );
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    postgres.hang(false);
    assert_eq!(spent, HashMap::new());
    totals(&again, "ns/a").await;
    assert_eq!(count("complete").await, 50);
    again.close();
    for file in std::fs::read_dir(copy.path().join("database")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(memchr::memmem::find(&bytes, PASSWORD.as_bytes()).is_none());
    }
}
