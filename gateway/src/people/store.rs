//! The file of keys, teams, users and tags, and of who changed them.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, types::Type};
use serde::Serialize;
use serde_json::Value;

use super::{Kind, record::Record};

/// What makes the file of each version from that of the version before.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE records (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        alias TEXT,
        team TEXT,
        user TEXT,
        hash TEXT,
        document TEXT NOT NULL,
        PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX records_alias ON records (kind, alias) WHERE alias IS NOT NULL;
    CREATE UNIQUE INDEX records_hash ON records (hash) WHERE hash IS NOT NULL;
    CREATE INDEX records_team ON records (team) WHERE team IS NOT NULL;
    CREATE INDEX records_user ON records (user) WHERE user IS NOT NULL;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at_millis INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        changed TEXT NOT NULL
    ) STRICT;
    ",
    // What has happened to each record last, in order, for other replicas; also to those that are deleted.
    "
    CREATE TABLE identity (id TEXT NOT NULL) STRICT;
    INSERT INTO identity VALUES (lower(hex(randomblob(16))));
    CREATE TABLE changes (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        at_micros INTEGER NOT NULL,
        UNIQUE (kind, id)
    ) STRICT;
    INSERT INTO changes (kind, id, at_micros) SELECT kind, id, 0 FROM records;
    ",
];

/// What was deleted so long ago is not remembered any more, in microseconds.
const REMEMBERED_MICROS: i64 = 90 * 86_400 * 1_000_000;

const FORGET: &str = "
    DELETE FROM changes WHERE at_micros < ?1 AND NOT EXISTS (
        SELECT 1 FROM records WHERE records.kind = changes.kind AND records.id = changes.id)
";

const PUT: &str = "
    INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (kind, id) DO UPDATE SET
        alias = excluded.alias, team = excluded.team, user = excluded.user, hash = excluded.hash,
        document = excluded.document
";

const LIST: &str = "
    SELECT document FROM records WHERE kind = ?1 AND (?2 IS NULL OR ?2 < id) AND (?3 IS NULL OR team = ?3)
        AND (?4 IS NULL OR user = ?4) AND (?5 IS NULL OR alias = ?5) AND (?6 IS NULL OR hash = ?6)
    ORDER BY id LIMIT ?7
";

/// Which records are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Those behind this id.
    pub(crate) after: Option<String>,
    /// Keys of this team.
    pub(crate) team: Option<String>,
    /// Keys of this user.
    pub(crate) user: Option<String>,
    /// Those of this name.
    pub(crate) alias: Option<String>,
    /// The key with this SHA-256, in hexadecimal digits.
    pub(crate) hash: Option<String>,
}

/// Who changed what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AuditRow {
    /// Its number.
    pub(crate) id: i64,
    /// When.
    pub(crate) at: Timestamp,
    /// Who.
    pub(crate) actor: String,
    /// What was done.
    pub(crate) action: String,
    /// What it was done to.
    pub(crate) kind: String,
    /// Which one.
    pub(crate) subject: String,
    /// What was said, without metadata.
    pub(crate) changed: Value,
}

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the file.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit returns when it is on disk.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
            let mark = format!("PRAGMA user_version = {}", index + 1);
            connection.execute_batch(&format!("BEGIN IMMEDIATE; {migration} {mark}; COMMIT;"))?;
        }
        let long_ago = Timestamp::now().as_microsecond() - REMEMBERED_MICROS;
        connection.execute(FORGET, [long_ago])?;
        Ok(Self { connection })
    }

    /// The number of the last change.
    pub(super) fn changes(&self) -> i64 {
        let query = "SELECT coalesce(max(number), 0) FROM changes";
        let read = self.connection.query_row(query, [], |row| row.get(0));
        read.unwrap_or(0)
    }

    /// A transaction, in which everything is seen and changed together.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn transaction(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.transaction()
    }
}

/// A record.
///
/// # Errors
/// The file cannot be read.
pub(super) fn get(
    connection: &Connection,
    kind: Kind,
    id: &str,
) -> rusqlite::Result<Option<Record>> {
    let query = "SELECT document FROM records WHERE kind = ?1 AND id = ?2";
    let mut statement = connection.prepare_cached(query)?;
    statement
        .query_row(params![kind.word(), id], record)
        .optional()
}

/// The records of a kind that a filter lets through, by id, at most so many.
///
/// # Errors
/// The file cannot be read.
pub(super) fn list(
    connection: &Connection,
    kind: Kind,
    filter: &Filter,
    most: usize,
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = connection.prepare_cached(LIST)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let Filter {
        after,
        team,
        user,
        alias,
        hash,
    } = filter;
    let rows = statement.query_map(
        params![kind.word(), after, team, user, alias, hash, most],
        record,
    )?;
    rows.collect()
}

/// Keeps a record.
///
/// # Errors
/// The file cannot be written, or another record has the alias or the hash.
pub(super) fn put(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let document = json(record)?;
    let hash = record.secret.as_ref().map(|secret| &secret.hash);
    let spec = &record.spec;
    connection.prepare_cached(PUT)?.execute(params![
        record.kind.word(),
        record.id,
        spec.alias,
        spec.team,
        spec.user,
        hash,
        document
    ])?;
    Ok(())
}

/// Forgets a record.
///
/// # Errors
/// The file cannot be written.
pub(super) fn delete(connection: &Connection, kind: Kind, id: &str) -> rusqlite::Result<()> {
    let statement = "DELETE FROM records WHERE kind = ?1 AND id = ?2";
    let mut statement = connection.prepare_cached(statement)?;
    statement.execute(params![kind.word(), id]).map(drop)
}

/// Notes who did what to whom.
///
/// # Errors
/// The file cannot be written.
pub(super) fn note(
    connection: &Connection,
    actor: &str,
    action: &str,
    (kind, subject): (Kind, &str),
    changed: &Value,
) -> rusqlite::Result<()> {
    let statement = "INSERT INTO audit VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(statement)?.execute(params![
        Timestamp::now().as_millisecond(),
        actor,
        action,
        kind.word(),
        subject,
        json(changed)?
    ])?;
    Ok(())
}

/// The latest changes, before this number if one is given.
///
/// # Errors
/// The file cannot be read.
pub(super) fn audit(
    connection: &Connection,
    before: Option<i64>,
    most: usize,
) -> rusqlite::Result<Vec<AuditRow>> {
    let query = "SELECT * FROM audit WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(query)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![before, most], |row| {
        let changed: String = row.get(6)?;
        Ok(AuditRow {
            id: row.get(0)?,
            at: Timestamp::from_millisecond(row.get(1)?).unwrap_or_default(),
            actor: row.get(2)?,
            action: row.get(3)?,
            kind: row.get(4)?,
            subject: row.get(5)?,
            changed: serde_json::from_str(&changed).map_err(|error| unreadable(6, error))?,
        })
    })?;
    rows.collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let document: String = row.get(0)?;
    serde_json::from_str(&document).map_err(|error| unreadable(0, error))
}

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    let convert = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    serde_json::to_string(value).map_err(convert)
}

/// What the file is known by to other replicas.
///
/// # Errors
/// The file cannot be read.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT id FROM identity", [], |row| row.get(0))
}

/// Notes that a record was changed then, in microseconds since 1970.
///
/// # Errors
/// The file cannot be written.
pub(super) fn note_change(
    connection: &Connection,
    kind: Kind,
    id: &str,
    at: i64,
) -> rusqlite::Result<()> {
    let statement = "INSERT OR REPLACE INTO changes (kind, id, at_micros) VALUES (?1, ?2, ?3)";
    let mut statement = connection.prepare_cached(statement)?;
    statement.execute(params![kind.word(), id, at]).map(drop)
}

/// When a record was changed last, if it ever was.
///
/// # Errors
/// The file cannot be read.
pub(super) fn changed_at(
    connection: &Connection,
    kind: Kind,
    id: &str,
) -> rusqlite::Result<Option<i64>> {
    let query = "SELECT at_micros FROM changes WHERE kind = ?1 AND id = ?2";
    let mut statement = connection.prepare_cached(query)?;
    statement
        .query_row(params![kind.word(), id], |row| row.get(0))
        .optional()
}

/// Changes after a number, in order, at most so many: the number, what was changed, and when.
///
/// # Errors
/// The file cannot be read.
pub(super) fn changes_after(
    connection: &Connection,
    after: i64,
    most: usize,
) -> rusqlite::Result<Vec<(i64, Kind, String, i64)>> {
    let query = "SELECT number, kind, id, at_micros FROM changes WHERE ?1 < number ORDER BY number LIMIT ?2";
    let mut statement = connection.prepare_cached(query)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after, most], |row| {
        let word: String = row.get(1)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word);
        let kind = kind.ok_or(rusqlite::Error::InvalidQuery)?;
        Ok((row.get(0)?, kind, row.get(2)?, row.get(3)?))
    })?;
    rows.collect()
}

/// Another record of the kind that has the alias of this one.
///
/// # Errors
/// The file cannot be read.
pub(super) fn holder_of_alias(
    connection: &Connection,
    record: &Record,
) -> rusqlite::Result<Option<String>> {
    let query = "SELECT id FROM records WHERE kind = ?1 AND alias = ?2 AND id != ?3";
    let mut statement = connection.prepare_cached(query)?;
    statement
        .query_row(
            params![record.kind.word(), record.spec.alias, record.id],
            |row| row.get(0),
        )
        .optional()
}

/// Another key that has the secret of this one.
///
/// # Errors
/// The file cannot be read.
pub(super) fn holder_of_secret(
    connection: &Connection,
    record: &Record,
) -> rusqlite::Result<Option<String>> {
    let hash = record.secret.as_ref().map(|secret| &secret.hash);
    let query = "SELECT id FROM records WHERE hash = ?1 AND id != ?2";
    let mut statement = connection.prepare_cached(query)?;
    statement
        .query_row(params![hash, record.id], |row| row.get(0))
        .optional()
}
