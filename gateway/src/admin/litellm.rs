//! The routes that LiteLLM's users script against: the same paths, fields and answers, over what this gateway keeps.

mod health;
mod keys;
mod models;
mod spend;
mod teams;
mod terms;
mod users;

use std::collections::HashMap;

use http::{Method, Response, StatusCode};
use protocol::openai::ErrorKind;
use serde_json::{Map, Value};

use super::{
    edit,
    request::{Request, invalid},
};
use crate::{
    authorize::Caller,
    encode::{self, Body},
    fault::Fault,
    gateway::Gateway,
    ledger::{By, SpendQuery},
    people::{Edit, Filter, Kind, Record, Spec},
};

/// What paths begin with.
const PREFIXES: [&str; 9] = [
    "/key/",
    "/team/",
    "/user/",
    "/spend/",
    "/global/spend",
    "/model/info",
    "/v1/model/info",
    "/model_group/info",
    "/health/",
];
/// Totals of one answer.
const TOTALS_MAX: usize = 100_000;

/// Who asks.
pub(super) enum Who {
    /// The holder of the admin key.
    Admin,
    /// Somebody else.
    Caller(Caller),
}

/// Whether a path is one of LiteLLM's.
pub(super) fn owns(path: &str) -> bool {
    path == "/health" || PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// Answers a request.
///
/// # Errors
/// What the caller is told in place of an answer.
pub(super) async fn answer(
    gateway: &Gateway,
    request: &Request,
    path: &[&str],
    who: Who,
) -> Result<Response<Body>, Fault> {
    let is_get = request.method == Method::GET;
    match (path, &who) {
        (["health", "liveliness" | "liveness"], _) if is_get => return Ok(health::lives()),
        (["health", "readiness"], _) if is_get => return Ok(health::readiness(gateway)),
        (["model", "info"] | ["v1", "model", "info"], _) if is_get => {
            return models::info(gateway, &who);
        }
        (["model_group", "info"], _) if is_get => return models::groups(gateway, request, &who),
        (["key", "info"], Who::Caller(caller)) if is_get => {
            return keys::own(gateway, caller).await;
        }
        (_, Who::Admin) => {}
        (_, Who::Caller(Caller::Nobody(why))) => return Err(why.fault()),
        (_, Who::Caller(Caller::Key(_))) => {
            let message = "This takes the admin key, and the one that was sent is another.";
            return Err(Fault::new(ErrorKind::PermissionDenied, message));
        }
    }
    match path {
        ["health"] if is_get => health::endpoints(gateway),
        ["key", rest @ ..] => keys::answer(gateway, request, rest).await,
        ["team", rest @ ..] => teams::answer(gateway, request, rest).await,
        ["user", rest @ ..] => users::answer(gateway, request, rest).await,
        ["spend" | "global", ..] if is_get => spend::answer(gateway, request, path).await,
        _ => Err(nothing_at(request)),
    }
}

fn nothing_at(request: &Request) -> Fault {
    let message = format!("There is nothing at {} {}.", request.method, request.path);
    Fault::new(ErrorKind::NotFound, message)
}

fn ok(value: &impl serde::Serialize) -> Response<Body> {
    encode::json(StatusCode::OK, value)
}

/// What all of a kind spent, in US dollars, by id; of one id alone if one is given.
///
/// # Errors
/// The ledger cannot be read.
async fn spent(
    gateway: &Gateway,
    by: By,
    only: Option<&str>,
) -> Result<HashMap<String, f64>, Fault> {
    let query = SpendQuery {
        by: vec![by],
        only: only.map(|id| (by, id.to_owned())).into_iter().collect(),
        most: TOTALS_MAX,
        ..SpendQuery::default()
    };
    let totals = gateway.ledger.spend(query).await;
    let totals = totals.map_err(|error| super::spend::fault(&error))?;
    let named = totals.into_iter().map(|total| {
        let spend = total.cost.as_dollars();
        (total.names.into_iter().next().unwrap_or_default(), spend)
    });
    Ok(named.collect())
}

/// The record of this id, or a new one that nothing was said of.
///
/// # Errors
/// The disk's.
fn find_or_make(edit: &mut Edit<'_>, kind: Kind, id: &str) -> Result<Record, Fault> {
    if let Some(record) = edit.find(kind, id)? {
        return Ok(record);
    }
    let record = Record::new(kind, id.to_owned(), Spec::default(), None);
    edit.put(record, "create", &Value::Null)
}

/// The fields that a record of any kind has in LiteLLM's words.
fn fields(record: &Record, spend: f64) -> Map<String, Value> {
    let mut fields = terms::show(&record.spec);
    fields.insert("spend".to_owned(), spend.into());
    for (name, time) in [
        ("created_at", record.created_at),
        ("updated_at", record.updated_at),
    ] {
        fields.insert(name.to_owned(), Value::String(time.to_string()));
    }
    fields
}

/// A page of a list: `page` from 1 on, and as many as `size_parameter` says.
///
/// # Errors
/// A parameter is no number.
fn page<'a, T>(
    request: &Request,
    size_parameter: &str,
    all: &'a [T],
) -> Result<(&'a [T], Map<String, Value>), Fault> {
    let size = request.page(size_parameter)?;
    let number = request.parameter("page").map_or(Ok(1), str::parse::<usize>);
    let number = number.ok().filter(|number| 0 < *number);
    let number = number.ok_or_else(|| invalid("`page` is a number from 1 on."))?;
    let start = (number - 1).saturating_mul(size).min(all.len());
    let end = start.saturating_add(size).min(all.len());
    let mut told = Map::new();
    told.insert("total_pages".to_owned(), all.len().div_ceil(size).into());
    told.insert("current_page".to_owned(), number.into());
    told.insert("total_count".to_owned(), all.len().into());
    Ok((&all[start..end], told))
}

/// Deletes teams or users with their keys, as LiteLLM does.
async fn delete_with_keys(
    gateway: &Gateway,
    request: &Request,
    kind: Kind,
    ids: Vec<String>,
    keys_of: impl Fn(String) -> Filter + Send + 'static,
) -> Result<(), Fault> {
    let work = move |edit: &mut Edit<'_>| {
        for id in ids {
            let record = edit.get(kind, &id)?;
            for key in edit.list(Kind::Key, &keys_of(id), usize::MAX)? {
                edit.delete(&key)?;
            }
            edit.delete(&record)?;
        }
        Ok(())
    };
    edit(gateway, &request.actor, work).await
}
