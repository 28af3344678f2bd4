//! The ledger's file: its schema and its statements.

use std::{borrow::Cow, collections::HashMap, path::Path};

use jiff::Timestamp;
use protocol::snapshot::Per;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::{Entry, LedgerError, Outcome, Total, journal::Position, migrations::MIGRATIONS};
use crate::{cost::Cost, people::Kind, provider::Tokens};

/// What a crash left open has ended: it is counted, with the tokens that are known of it.
const CLOSE_INTERRUPTED: &str = "
    INSERT INTO usage SELECT started_at_millis / 3600000, route, key, model, team, user, count(*), sum(prompt_tokens),
            sum(completion_tokens), sum(cached_tokens), sum(cost_nanos)
        FROM requests WHERE outcome = 'open' GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT DO UPDATE SET requests = usage.requests + excluded.requests,
            prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = usage.completion_tokens + excluded.completion_tokens,
            cached_tokens = usage.cached_tokens + excluded.cached_tokens,
            cost_nanos = usage.cost_nanos + excluded.cost_nanos;
    INSERT INTO tag_usage SELECT started_at_millis / 3600000, route, tag.value, model, count(*), sum(prompt_tokens),
            sum(completion_tokens), sum(cached_tokens), sum(cost_nanos)
        FROM requests, json_each(requests.tags) AS tag WHERE outcome = 'open' GROUP BY 1, 2, 3, 4
        ON CONFLICT DO UPDATE SET requests = tag_usage.requests + excluded.requests,
            prompt_tokens = tag_usage.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = tag_usage.completion_tokens + excluded.completion_tokens,
            cached_tokens = tag_usage.cached_tokens + excluded.cached_tokens,
            cost_nanos = tag_usage.cost_nanos + excluded.cost_nanos;
    UPDATE requests SET outcome = 'interrupted' WHERE outcome = 'open';
";

/// A row that has ended is never changed, so that a repeated write counts nothing twice.
const WRITE: &str = "
    INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
        ?18, ?19, ?20, ?21, ?22)
    ON CONFLICT DO UPDATE SET target = excluded.target, status = excluded.status, outcome = excluded.outcome,
        prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
        is_estimated = excluded.is_estimated, is_streamed = excluded.is_streamed,
        first_byte_millis = excluded.first_byte_millis, duration_millis = excluded.duration_millis,
        cached_tokens = excluded.cached_tokens, cost_nanos = excluded.cost_nanos,
        is_kept = excluded.is_kept
    WHERE requests.outcome = 'open'
";

const ADD: &str = "
    INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
    ON CONFLICT DO UPDATE SET requests = requests + ?7, prompt_tokens = prompt_tokens + ?8,
        completion_tokens = completion_tokens + ?9, cached_tokens = cached_tokens + ?10, cost_nanos = cost_nanos + ?11
";

const ADD_TAG: &str = "
    INSERT INTO tag_usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
    ON CONFLICT DO UPDATE SET requests = requests + ?5, prompt_tokens = prompt_tokens + ?6,
        completion_tokens = completion_tokens + ?7, cached_tokens = cached_tokens + ?8, cost_nanos = cost_nanos + ?9
";

const MARK: &str =
    "INSERT INTO journal VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET segment = ?1, position = ?2";

const TOTALS: &str = "
    SELECT model, sum(requests), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), sum(cost_nanos)
    FROM usage WHERE key = ?1 GROUP BY model ORDER BY model
";

/// What was spent of a route, by who is counted.
fn spent_query(per: Per) -> &'static str {
    match per {
        Per::Key => {
            "SELECT key, sum(cost_nanos) FROM usage WHERE route = ?1 AND ?2 <= hour GROUP BY key"
        }
        Per::Team => {
            "SELECT team, sum(cost_nanos) FROM usage WHERE route = ?1 AND ?2 <= hour GROUP BY team"
        }
        Per::User => {
            "SELECT user, sum(cost_nanos) FROM usage WHERE route = ?1 AND ?2 <= hour GROUP BY user"
        }
        Per::Model => {
            "SELECT model, sum(cost_nanos) FROM usage WHERE route = ?1 AND ?2 <= hour GROUP BY model"
        }
        Per::Tag => {
            "SELECT tag, sum(cost_nanos) FROM tag_usage WHERE route = ?1 AND ?2 <= hour GROUP BY tag"
        }
        Per::Route => {
            "SELECT '', sum(cost_nanos) FROM usage WHERE route = ?1 AND ?2 <= hour GROUP BY 1"
        }
    }
}

/// What somebody spent, by model.
fn spent_by_query(kind: Kind) -> &'static str {
    match kind {
        Kind::Key => {
            "SELECT model, sum(cost_nanos) FROM usage WHERE key = ?1 AND ?2 <= hour GROUP BY model"
        }
        Kind::Team => {
            "SELECT model, sum(cost_nanos) FROM usage WHERE team = ?1 AND team != '' AND ?2 <= hour GROUP BY model"
        }
        Kind::User => {
            "SELECT model, sum(cost_nanos) FROM usage WHERE user = ?1 AND user != '' AND ?2 <= hour GROUP BY model"
        }
        Kind::Tag => {
            "SELECT model, sum(cost_nanos) FROM tag_usage WHERE tag = ?1 AND ?2 <= hour GROUP BY model"
        }
    }
}

/// Milliseconds of an hour.
pub(super) const HOUR: i64 = 3_600_000;

/// The ledger's file.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the file.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        Self::try_open(path).map_err(storage)
    }

    fn try_open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
            let mark = format!("PRAGMA user_version = {}", index + 1);
            connection.execute_batch(&format!("BEGIN IMMEDIATE; {migration} {mark}; COMMIT;"))?;
        }
        Ok(Self { connection })
    }

    /// Closes what a crash left open.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn close_interrupted(&mut self) -> Result<(), LedgerError> {
        let statements = format!("BEGIN IMMEDIATE; {CLOSE_INTERRUPTED} COMMIT;");
        self.connection.execute_batch(&statements).map_err(storage)
    }

    /// How far the journal was taken.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn position(&self) -> Result<Position, LedgerError> {
        let query = "SELECT segment, position FROM journal";
        let read = |row: &Row<'_>| {
            Ok(Position {
                segment: count(row.get(0)?),
                offset: count(row.get(1)?),
            })
        };
        let position = self.connection.query_row(query, [], read).optional();
        position.map_err(storage).map(Option::unwrap_or_default)
    }

    /// Writes the journal's rows up to a position, in one transaction; all or none are on disk when it returns.
    ///
    /// # Errors
    /// The disk does not take them.
    pub(super) fn write(&mut self, entries: &[Entry], end: Position) -> Result<(), LedgerError> {
        self.try_write(entries, end).map_err(storage)
    }

    fn try_write(&mut self, entries: &[Entry], end: Position) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut sums: HashMap<Place<'_>, Sum> = HashMap::new();
        let mut tag_sums: HashMap<(i64, &str, &str, &str), Sum> = HashMap::new();
        let mut write = transaction.prepare_cached(WRITE)?;
        for entry in entries {
            if write_one(&mut write, entry)? && entry.outcome != Outcome::Open {
                let hour = entry.started_at.as_millisecond() / HOUR;
                let place = Place {
                    hour,
                    route: &entry.route,
                    key: &entry.key,
                    model: &entry.model,
                    team: &entry.team,
                    user: &entry.user,
                };
                sums.entry(place).or_default().add(entry);
                for tag in &entry.tags {
                    let place = (hour, &*entry.route, &**tag, &*entry.model);
                    tag_sums.entry(place).or_default().add(entry);
                }
            }
        }
        drop(write);
        for (place, sum) in sums {
            add(&transaction, &place, &sum)?;
        }
        for ((hour, route, tag, model), sum) in tag_sums {
            let Sum {
                requests,
                tokens,
                cached,
                cost,
            } = sum;
            transaction.prepare_cached(ADD_TAG)?.execute(params![
                hour,
                route,
                tag,
                model,
                integer(requests),
                integer(tokens.prompt),
                integer(tokens.completion),
                integer(cached),
                integer(cost.nanos())
            ])?;
        }
        let place = [integer(end.segment), integer(end.offset)];
        transaction.prepare_cached(MARK)?.execute(place)?;
        transaction.commit()
    }

    /// What a key used, by model.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn totals(&self, key: &str) -> Result<Vec<Total>, LedgerError> {
        self.try_totals(key).map_err(storage)
    }

    fn try_totals(&self, key: &str) -> rusqlite::Result<Vec<Total>> {
        let mut statement = self.connection.prepare_cached(TOTALS)?;
        let rows = statement.query_map([key], |row| {
            Ok(Total {
                model: row.get(0)?,
                requests: count(row.get(1)?),
                prompt_tokens: count(row.get(2)?),
                completion_tokens: count(row.get(3)?),
                cached_tokens: count(row.get(4)?),
                cost: Cost::from_nanos(count(row.get(5)?)),
            })
        })?;
        rows.collect()
    }

    /// What was spent of a route from the hour of `since` on, by account.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn spent(
        &self,
        route: &str,
        per: Per,
        since: Timestamp,
    ) -> Result<HashMap<String, u64>, LedgerError> {
        self.try_spent(route, per, since).map_err(storage)
    }

    fn try_spent(
        &self,
        route: &str,
        per: Per,
        since: Timestamp,
    ) -> rusqlite::Result<HashMap<String, u64>> {
        let mut statement = self.connection.prepare_cached(spent_query(per))?;
        let hour = since.as_millisecond() / HOUR;
        let rows = statement.query_map(params![route, hour], |row| {
            Ok((row.get(0)?, count(row.get(1)?)))
        })?;
        rows.collect()
    }

    /// What somebody spent from the hour of `since` on, by model.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn spent_by(
        &self,
        kind: Kind,
        id: &str,
        since: Timestamp,
    ) -> Result<HashMap<String, u64>, LedgerError> {
        let query = || {
            let mut statement = self.connection.prepare_cached(spent_by_query(kind))?;
            let hour = since.as_millisecond() / HOUR;
            let rows = statement.query_map(params![id, hour], |row| {
                Ok((row.get(0)?, count(row.get(1)?)))
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(storage)
    }
}

/// What totals are kept by.
#[derive(PartialEq, Eq, Hash)]
struct Place<'a> {
    hour: i64,
    route: &'a str,
    key: &'a str,
    model: &'a str,
    team: &'a str,
    user: &'a str,
}

fn add(connection: &Connection, place: &Place<'_>, sum: &Sum) -> rusqlite::Result<usize> {
    connection.prepare_cached(ADD)?.execute(params![
        place.hour,
        place.route,
        place.key,
        place.model,
        place.team,
        place.user,
        integer(sum.requests),
        integer(sum.tokens.prompt),
        integer(sum.tokens.completion),
        integer(sum.cached),
        integer(sum.cost.nanos())
    ])
}

/// What some requests used.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) requests: u64,
    pub(super) tokens: Tokens,
    pub(super) cached: u64,
    pub(super) cost: Cost,
}

impl Sum {
    /// Adds what a request used.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.requests += 1;
        let Tokens {
            prompt,
            completion,
            cached,
        } = entry.tokens;
        self.tokens.prompt = self.tokens.prompt.saturating_add(prompt);
        self.tokens.completion = self.tokens.completion.saturating_add(completion);
        self.cached = self.cached.saturating_add(cached.unwrap_or(0));
        self.cost += entry.cost;
    }
}

/// Writes a row; whether that changed anything.
fn write_one(write: &mut Statement<'_>, entry: &Entry) -> rusqlite::Result<bool> {
    let tags = match entry.tags.is_empty() {
        true => Cow::Borrowed("[]"),
        // A list of texts serialises without fail.
        false => Cow::Owned(serde_json::to_string(&entry.tags).unwrap_or_default()),
    };
    let changed = write.execute(params![
        entry.id,
        entry.key,
        entry.route,
        entry.model,
        entry.target,
        entry.operation.name(),
        entry.status,
        entry.outcome.word(),
        integer(entry.tokens.prompt),
        integer(entry.tokens.completion),
        entry.is_estimated,
        entry.is_streamed,
        entry.started_at.as_millisecond(),
        entry.first_byte_millis.map(integer),
        integer(entry.duration_millis),
        integer(entry.tokens.cached.unwrap_or(0)),
        integer(entry.cost.nanos()),
        entry.is_kept,
        entry.team,
        entry.user,
        entry.end_user,
        tags,
    ])?;
    Ok(0 < changed)
}

/// A number as the stores take it.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that is never below zero.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err asks for"
)]
fn storage(error: rusqlite::Error) -> LedgerError {
    LedgerError::Storage(error.to_string())
}
