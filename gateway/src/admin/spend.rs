//! `GET /admin/v1/spend`: what was used and what it cost, by key, team, user, tag, model, route and day.

use http::{Response, StatusCode};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::request::{Request, invalid};
use crate::{
    encode::{self, Body},
    fault::Fault,
    gateway::Gateway,
    ledger::{By, LedgerError, SpendQuery},
};

/// What is asked by how many names at most.
const BY_MAX: usize = 3;

/// The totals.
#[derive(Debug, Serialize)]
struct SpendList {
    object: &'static str,
    data: Vec<Value>,
}

/// Answers with totals.
///
/// # Errors
/// What the caller is told in place of them.
pub(super) async fn answer(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let query = read(request)?;
    let by = query.by.clone();
    let totals = gateway
        .ledger
        .spend(query)
        .await
        .map_err(|error| fault(&error))?;
    let data = totals.iter().map(|total| {
        let mut object = Map::new();
        for (by, name) in by.iter().zip(&total.names) {
            object.insert(by.word().to_owned(), json!(name));
        }
        // Numbers and texts serialise without fail.
        if let Ok(Value::Object(sums)) = serde_json::to_value(total) {
            object.extend(sums);
        }
        Value::Object(object)
    });
    let list = SpendList {
        object: "list",
        data: data.collect(),
    };
    Ok(encode::json(StatusCode::OK, &list))
}

fn read(request: &Request) -> Result<SpendQuery, Fault> {
    let by = request.parameter("by").unwrap_or_default().split(',');
    let by = by.map(str::trim).filter(|word| !word.is_empty());
    let by: Vec<By> = by.map(parse_by).collect::<Result<_, _>>()?;
    let repeats = by
        .iter()
        .enumerate()
        .any(|(place, one)| by[..place].contains(one));
    if BY_MAX < by.len() || repeats {
        return Err(invalid(format!(
            "`by` takes {BY_MAX} different words at most."
        )));
    }
    let only = By::ALL.into_iter().filter(|by| *by != By::Day);
    let only = only.filter_map(|by| Some((by, request.parameter(by.word())?.to_owned())));
    Ok(SpendQuery {
        by,
        only: only.collect(),
        since: time(request, "since")?,
        until: time(request, "until")?,
        most: request.page("limit")?,
    })
}

fn parse_by(word: &str) -> Result<By, Fault> {
    let found = By::ALL.into_iter().find(|by| by.word() == word);
    found.ok_or_else(|| {
        let words = By::ALL.map(By::word).join(", ");
        invalid(format!(
            "`by` takes {words}, with commas between them, not `{word}`."
        ))
    })
}

fn time(request: &Request, name: &str) -> Result<Option<Timestamp>, Fault> {
    let read = request.parameter(name).map(|text| {
        parse_time(text).ok_or_else(|| {
            invalid(format!(
                "`{name}` is a day as 2026-01-31 or a time as 2026-01-31T12:00:00Z."
            ))
        })
    });
    read.transpose()
}

/// A time, or the beginning of a day, UTC.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let day: Date = text.parse().ok()?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// What is told of a ledger that does not answer.
pub(super) fn fault(error: &LedgerError) -> Fault {
    match error {
        LedgerError::Tags => invalid(
            "Tags are counted by model, route and day; ask for them without keys, teams and users.",
        ),
        LedgerError::Storage(_) | LedgerError::Closed => {
            tracing::error!(%error, "spend cannot be read");
            let kind = protocol::openai::ErrorKind::Unavailable;
            Fault::new(kind, "Spend cannot be read now. Try again later.")
        }
    }
}
