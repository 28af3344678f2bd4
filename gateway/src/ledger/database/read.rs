//! Questions to the database: totals, what was spent, and rows.

use std::collections::HashMap;

use jiff::Timestamp;
use protocol::snapshot::Per;
use tokio_postgres::{Client, Row, types::ToSql};

use super::Database;
use crate::{
    cost::Cost,
    ledger::{
        LedgerError, LoggedRow, RowQuery, Spend, SpendQuery, Total,
        spend::{self, Dialect, Value, day, id_at},
        store::{HOUR, count},
    },
    people::Kind,
};

const TOTALS: &str = r#"
    SELECT model, sum(requests)::bigint, sum(prompt_tokens)::bigint, sum(completion_tokens)::bigint,
        sum(cached_tokens)::bigint, sum(cost_nanos)::bigint
    FROM quarterdeck.usage WHERE key = $1 GROUP BY model ORDER BY model COLLATE "C"
"#;

const ROWS: &str = r#"
    SELECT id, key, team, "user", end_user, tags, route, model, target, operation, status, outcome, prompt_tokens,
        completion_tokens, cost_nanos, is_kept, started_at_millis, duration_millis
    FROM quarterdeck.requests WHERE ($1::text IS NULL OR id = $1) AND ($2::text IS NULL OR key = $2)
        AND ($3::text IS NULL OR "user" = $3) AND ($4::text IS NULL OR team = $4) AND $5 <= id AND id < $6
        AND outcome != 'open'
    ORDER BY id DESC LIMIT $7
"#;

type Values<'a> = [&'a (dyn ToSql + Sync)];

impl Database {
    /// What a key used, by model.
    ///
    /// # Errors
    /// The database is not there.
    pub(in crate::ledger) fn totals(&mut self, key: &str) -> Result<Vec<Total>, LedgerError> {
        let rows = self.read(TOTALS, &[&key])?;
        let total = |row: &Row| Total {
            model: row.get(0),
            requests: count(row.get(1)),
            prompt_tokens: count(row.get(2)),
            completion_tokens: count(row.get(3)),
            cached_tokens: count(row.get(4)),
            cost: Cost::from_nanos(count(row.get(5))),
        };
        Ok(rows.iter().map(total).collect())
    }

    /// What was spent of a route from the hour of `since` on, by account.
    ///
    /// # Errors
    /// The database is not there.
    pub(in crate::ledger) fn spent(
        &mut self,
        route: &str,
        per: Per,
        since: Timestamp,
    ) -> Result<HashMap<String, u64>, LedgerError> {
        let (column, table) = match per {
            Per::Key => ("key", "usage"),
            Per::Team => ("team", "usage"),
            Per::User => (r#""user""#, "usage"),
            Per::Model => ("model", "usage"),
            Per::Tag => ("tag", "tag_usage"),
            Per::Route => ("''", "usage"),
        };
        let query = format!(
            "SELECT {column}, sum(cost_nanos)::bigint FROM quarterdeck.{table}
             WHERE route = $1 AND $2 <= hour GROUP BY 1"
        );
        self.amounts(&query, route, since)
    }

    /// What somebody spent from the hour of `since` on, by model.
    ///
    /// # Errors
    /// The database is not there.
    pub(in crate::ledger) fn spent_by(
        &mut self,
        kind: Kind,
        id: &str,
        since: Timestamp,
    ) -> Result<HashMap<String, u64>, LedgerError> {
        let (condition, table) = match kind {
            Kind::Key => ("key = $1", "usage"),
            Kind::Team => ("team = $1 AND team != ''", "usage"),
            Kind::User => (r#""user" = $1 AND "user" != ''"#, "usage"),
            Kind::Tag => ("tag = $1", "tag_usage"),
        };
        let query = format!(
            "SELECT model, sum(cost_nanos)::bigint FROM quarterdeck.{table}
             WHERE {condition} AND $2 <= hour GROUP BY model"
        );
        self.amounts(&query, id, since)
    }

    fn amounts(
        &mut self,
        query: &str,
        name: &str,
        since: Timestamp,
    ) -> Result<HashMap<String, u64>, LedgerError> {
        let hour = since.as_millisecond() / HOUR;
        let rows = self.read(query, &[&name, &hour])?;
        let amount = |row: &Row| (row.get(0), count(row.get(1)));
        Ok(rows.iter().map(amount).collect())
    }

    /// The totals that are asked for, the dearest first; days in order.
    ///
    /// # Errors
    /// The database is not there, or tags are asked for together with what they are not counted by.
    pub(in crate::ledger) fn spend(
        &mut self,
        query: &SpendQuery,
    ) -> Result<Vec<Spend>, LedgerError> {
        let (text, values) = spend::statement(query, Dialect::Postgres)?;
        let values: Vec<&(dyn ToSql + Sync)> = values
            .iter()
            .map(|value| -> &(dyn ToSql + Sync) {
                match value {
                    Value::Text(text) => text,
                    Value::Hour(hour) => hour,
                }
            })
            .collect();
        let rows = self.read(&text, &values)?;
        Ok(rows.iter().filter_map(|row| total(row, query)).collect())
    }

    /// The rows that are asked for, the latest first.
    ///
    /// # Errors
    /// The database is not there.
    pub(in crate::ledger) fn rows(
        &mut self,
        query: &RowQuery,
    ) -> Result<Vec<LoggedRow>, LedgerError> {
        let most = i64::try_from(query.most).unwrap_or(i64::MAX);
        let since = query.since.map_or_else(String::new, id_at);
        let until = query.until.map_or_else(|| "s".to_owned(), id_at);
        let RowQuery {
            id,
            key,
            user,
            team,
            ..
        } = query;
        let rows = self.read(ROWS, &[id, key, user, team, &since, &until, &most])?;
        Ok(rows.iter().map(logged).collect())
    }

    fn read(&mut self, query: &str, values: &Values<'_>) -> Result<Vec<Row>, LedgerError> {
        self.run_again(&async |client: &mut Client| client.query(query, values).await)
    }
}

/// A total; `None` where nothing was summed.
fn total(row: &Row, query: &SpendQuery) -> Option<Spend> {
    let names = query.by.iter().enumerate().map(|(place, by)| match by {
        spend::By::Day => day(row.get(place)),
        _ => row.get(place),
    });
    let number = |place: usize| row.get::<_, Option<i64>>(query.by.len() + place);
    let requests = number(0)?;
    let number = |place: usize| count(number(place).unwrap_or(0));
    Some(Spend {
        names: names.collect(),
        requests: count(requests),
        prompt_tokens: number(1),
        completion_tokens: number(2),
        cached_tokens: number(3),
        cost: Cost::from_nanos(number(4)),
    })
}

fn logged(row: &Row) -> LoggedRow {
    LoggedRow {
        id: row.get(0),
        key: row.get(1),
        team: row.get(2),
        user: row.get(3),
        end_user: row.get(4),
        tags: row.get(5),
        route: row.get(6),
        model: row.get(7),
        target: row.get(8),
        operation: row.get(9),
        status: u16::try_from(row.get::<_, i32>(10)).unwrap_or(0),
        outcome: row.get(11),
        prompt_tokens: count(row.get(12)),
        completion_tokens: count(row.get(13)),
        cost: Cost::from_nanos(count(row.get(14))),
        is_kept: row.get(15),
        started_at: Timestamp::from_millisecond(row.get(16)).unwrap_or_default(),
        duration_millis: row.get(17),
    }
}
