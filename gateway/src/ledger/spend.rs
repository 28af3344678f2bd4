//! Spend: what was used and what it cost, by who is accountable, by model and by day; and the rows themselves.

use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};
use rusqlite::{Connection, OpenFlags, Row, ToSql};
use serde::Serialize;

use super::{
    LedgerError, as_dollars,
    store::{HOUR, count},
};
use crate::cost::Cost;

/// What totals can be made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Keys.
    Key,
    /// Teams.
    Team,
    /// Users.
    User,
    /// Tags.
    Tag,
    /// Model names.
    Model,
    /// Routes.
    Route,
    /// Days, UTC.
    Day,
}

impl By {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Key,
        Self::Team,
        Self::User,
        Self::Tag,
        Self::Model,
        Self::Route,
        Self::Day,
    ];

    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Team => "team",
            Self::User => "user",
            Self::Tag => "tag",
            Self::Model => "model",
            Self::Route => "route",
            Self::Day => "day",
        }
    }

    /// The expression in the ledger.
    const fn column(self) -> &'static str {
        match self {
            Self::Day => "hour / 24",
            // A word of SQL's own elsewhere.
            Self::User => "\"user\"",
            _ => self.word(),
        }
    }
}

/// Which totals are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpendQuery {
    /// What they are made by, in order.
    pub(crate) by: Vec<By>,
    /// What they are restricted to: only rows with this name.
    pub(crate) only: Vec<(By, String)>,
    /// From the hour of this time on.
    pub(crate) since: Option<Timestamp>,
    /// Up to before the hour of this time.
    pub(crate) until: Option<Timestamp>,
    /// Totals at most; the dearest ones are kept.
    pub(crate) most: usize,
}

/// What some requests used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Spend {
    /// The names, in the order that was asked for; days as `2026-01-31`.
    #[serde(skip)]
    pub(crate) names: Vec<String>,
    /// How many requests ended.
    pub(crate) requests: u64,
    /// Tokens of their prompts.
    pub(crate) prompt_tokens: u64,
    /// Tokens of their answers.
    pub(crate) completion_tokens: u64,
    /// Tokens of their prompts that upstreams had cached.
    pub(crate) cached_tokens: u64,
    /// What they cost, in US dollars, as `12.5`.
    #[serde(rename = "cost_usd", serialize_with = "as_dollars")]
    pub(crate) cost: Cost,
}

/// Which rows are asked for, the latest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowQuery {
    /// The request of this id.
    pub(crate) id: Option<String>,
    /// Requests of this key.
    pub(crate) key: Option<String>,
    /// Requests counted for this user.
    pub(crate) user: Option<String>,
    /// Requests counted for this team.
    pub(crate) team: Option<String>,
    /// From this time on.
    pub(crate) since: Option<Timestamp>,
    /// Up to before this time.
    pub(crate) until: Option<Timestamp>,
    /// Rows at most.
    pub(crate) most: usize,
}

/// One request, as it is in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoggedRow {
    /// The request's id.
    pub(crate) id: String,
    /// The key's.
    pub(crate) key: String,
    /// The team's.
    pub(crate) team: String,
    /// The user's.
    pub(crate) user: String,
    /// Whom the client said that it asks for.
    pub(crate) end_user: String,
    /// The tags, as a JSON list.
    pub(crate) tags: String,
    /// The route.
    pub(crate) route: String,
    /// The model that was asked for.
    pub(crate) model: String,
    /// The target that answered.
    pub(crate) target: String,
    /// What was asked for.
    pub(crate) operation: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// How it ended.
    pub(crate) outcome: String,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u64,
    /// Tokens of the answer.
    pub(crate) completion_tokens: u64,
    /// What it cost.
    pub(crate) cost: Cost,
    /// Whether the answer was given again.
    pub(crate) is_kept: bool,
    /// When it came.
    pub(crate) started_at: Timestamp,
    /// Milliseconds to its end.
    pub(crate) duration_millis: i64,
}

/// A connection that only reads, so that long questions hold up nobody.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// Whose SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A file's.
    Sqlite,
    /// A database's.
    Postgres,
}

/// What a caller says, which is bound to a place of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A name.
    Text(&'a str),
    /// An hour since 1970.
    Hour(i64),
}

/// The totals that are asked for, the dearest first; days in order.
///
/// # Errors
/// The file cannot be read, or tags are asked for together with what they are not counted by.
pub(super) fn spend(
    connection: &Connection,
    query: &SpendQuery,
) -> Result<Vec<Spend>, LedgerError> {
    let (text, values) = statement(query, Dialect::Sqlite)?;
    let values = values.iter().map(|value| -> &dyn ToSql {
        match value {
            Value::Text(text) => text,
            Value::Hour(hour) => hour,
        }
    });
    let values: Vec<&dyn ToSql> = values.collect();
    let read = |row: &Row<'_>| total(row, &query.by);
    let rows = || {
        let mut statement = connection.prepare(&text)?;
        statement.query_map(&values[..], read)?.collect()
    };
    let rows: rusqlite::Result<Vec<Option<Spend>>> = rows();
    let rows = rows.map_err(|error| LedgerError::Storage(error.to_string()))?;
    Ok(rows.into_iter().flatten().collect())
}

/// The statement for totals, and what is bound to it.
///
/// # Errors
/// Tags are asked for together with what they are not counted by.
pub(super) fn statement(
    query: &SpendQuery,
    dialect: Dialect,
) -> Result<(String, Vec<Value<'_>>), LedgerError> {
    let (schema, mark) = match dialect {
        Dialect::Sqlite => ("", '?'),
        Dialect::Postgres => ("quarterdeck.", '$'),
    };
    let named = query.by.iter().chain(query.only.iter().map(|(by, _)| by));
    let has = |wanted: &[By]| named.clone().any(|by| wanted.contains(by));
    let table = match has(&[By::Tag]) {
        false => "usage",
        true if has(&[By::Key, By::Team, By::User]) => return Err(LedgerError::Tags),
        true => "tag_usage",
    };
    let mut values = Vec::new();
    let mut conditions = vec!["1 = 1".to_owned()];
    for (by, name) in &query.only {
        values.push(Value::Text(name));
        conditions.push(format!("{} = {mark}{}", by.column(), values.len()));
    }
    let hour = |time: Timestamp| time.as_millisecond().div_euclid(HOUR);
    if let Some(since) = query.since {
        values.push(Value::Hour(hour(since)));
        conditions.push(format!("{mark}{} <= hour", values.len()));
    }
    if let Some(until) = query.until {
        values.push(Value::Hour(hour(until)));
        conditions.push(format!("hour < {mark}{}", values.len()));
    }
    let columns: Vec<&str> = query.by.iter().map(|by| by.column()).collect();
    let places: Vec<String> = (1..=columns.len()).map(|place| place.to_string()).collect();
    let grouped = match places.is_empty() {
        true => String::new(),
        false => format!("GROUP BY {}", places.join(", ")),
    };
    let day = query.by.iter().position(|by| *by == By::Day);
    let order = day.map_or(String::new(), |day| format!("{} DESC,", day + 1));
    // Nothing but names of columns stands in this text; what callers say is bound.
    let text = format!(
        "SELECT {}{} CAST(sum(requests) AS BIGINT), CAST(sum(prompt_tokens) AS BIGINT),
            CAST(sum(completion_tokens) AS BIGINT), CAST(sum(cached_tokens) AS BIGINT),
            CAST(sum(cost_nanos) AS BIGINT) AS cost
         FROM {schema}{table} WHERE {} {grouped} ORDER BY {order} cost DESC LIMIT {}",
        columns.join(", "),
        if columns.is_empty() { "" } else { "," },
        conditions.join(" AND "),
        query.most
    );
    Ok((text, values))
}

/// A total; `None` where nothing was summed.
fn total(row: &Row<'_>, by: &[By]) -> rusqlite::Result<Option<Spend>> {
    let mut names = Vec::with_capacity(by.len());
    for (place, by) in by.iter().enumerate() {
        names.push(match by {
            By::Day => day(row.get(place)?),
            _ => row.get(place)?,
        });
    }
    let number = |place: usize| row.get::<_, Option<i64>>(by.len() + place);
    let Some(requests) = number(0)? else {
        return Ok(None);
    };
    let number = |place: usize| number(place).map(|number| count(number.unwrap_or(0)));
    Ok(Some(Spend {
        names,
        requests: count(requests),
        prompt_tokens: number(1)?,
        completion_tokens: number(2)?,
        cached_tokens: number(3)?,
        cost: Cost::from_nanos(number(4)?),
    }))
}

/// A day as `2026-01-31`.
pub(super) fn day(number: i64) -> String {
    let start = Timestamp::from_millisecond(number.saturating_mul(24 * HOUR));
    start.map_or_else(
        |_| number.to_string(),
        |start| start.to_zoned(TimeZone::UTC).date().to_string(),
    )
}

const ROWS: &str = "
    SELECT id, key, team, user, end_user, tags, route, model, target, operation, status, outcome, prompt_tokens,
        completion_tokens, cost_nanos, is_kept, started_at_millis, duration_millis
    FROM requests WHERE (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR key = ?2) AND (?3 IS NULL OR user = ?3)
        AND (?4 IS NULL OR team = ?4) AND ?5 <= id AND id < ?6 AND outcome != 'open'
    ORDER BY id DESC LIMIT ?7
";

/// The rows that are asked for.
///
/// # Errors
/// The file cannot be read.
pub(super) fn rows(connection: &Connection, query: &RowQuery) -> rusqlite::Result<Vec<LoggedRow>> {
    let mut statement = connection.prepare(ROWS)?;
    let most = i64::try_from(query.most).unwrap_or(i64::MAX);
    // Ids begin with their time, so that rows of a time lie together.
    let since = query.since.map_or_else(String::new, id_at);
    let until = query.until.map_or_else(|| "s".to_owned(), id_at);
    let RowQuery {
        id,
        key,
        user,
        team,
        ..
    } = query;
    let rows = statement.query_map(
        rusqlite::params![id, key, user, team, since, until, most],
        |row| {
            Ok(LoggedRow {
                id: row.get(0)?,
                key: row.get(1)?,
                team: row.get(2)?,
                user: row.get(3)?,
                end_user: row.get(4)?,
                tags: row.get(5)?,
                route: row.get(6)?,
                model: row.get(7)?,
                target: row.get(8)?,
                operation: row.get(9)?,
                status: row.get(10)?,
                outcome: row.get(11)?,
                prompt_tokens: count(row.get(12)?),
                completion_tokens: count(row.get(13)?),
                cost: Cost::from_nanos(count(row.get(14)?)),
                is_kept: row.get(15)?,
                started_at: Timestamp::from_millisecond(row.get(16)?).unwrap_or_default(),
                duration_millis: row.get(17)?,
            })
        },
    )?;
    rows.collect()
}

/// What the ids of requests of this time begin with.
pub(super) fn id_at(time: Timestamp) -> String {
    format!("req_{:012x}", time.as_millisecond().max(0))
}
