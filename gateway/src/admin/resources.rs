//! `/admin/v1/keys`, `/teams`, `/users`, `/tags` and `/audit`: list, create, get, patch, rotate, block, delete.

use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use protocol::{allowance::Window, openai::ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    edit,
    request::{Request, invalid},
};
use crate::{
    encode::{self, Body},
    fault::Fault,
    gateway::Gateway,
    people::{
        AuditRow, Edit, Filter, Kind, Record, Secret, Spec, check_grace, check_id, fresh_id,
        fresh_key,
    },
};

/// Characters of a key that somebody brings along.
const KEY_CHARACTERS: std::ops::RangeInclusive<usize> = 16..=256;

/// A page of a list.
#[derive(Debug, Serialize)]
struct Page {
    object: &'static str,
    data: Vec<Value>,
    has_more: bool,
}

/// Answers a request below `/admin/v1/`.
///
/// # Errors
/// What the caller is told in place of an answer.
pub(super) async fn answer(
    gateway: &Gateway,
    request: &Request,
    path: &[&str],
) -> Result<Response<Body>, Fault> {
    let (collection, rest) = path.split_first().unwrap_or((&"", &[]));
    if *collection == "audit" && rest.is_empty() && request.method == Method::GET {
        return audit(gateway, request).await;
    }
    let kind = match *collection {
        "keys" => Kind::Key,
        "teams" => Kind::Team,
        "users" => Kind::User,
        "tags" => Kind::Tag,
        _ => return Err(nothing_at(request)),
    };
    match (&request.method, rest) {
        (&Method::GET, []) => list(gateway, request, kind).await,
        (&Method::POST, []) => create(gateway, request, kind).await,
        (&Method::GET, [id]) => {
            let id = (*id).to_owned();
            let get = move |edit: &mut Edit<'_>| edit.get(kind, &id);
            let record = edit(gateway, &request.actor, get).await?;
            Ok(shown(StatusCode::OK, &record))
        }
        (&Method::PATCH, [id]) => patch(gateway, request, kind, id).await,
        (&Method::DELETE, [id]) => {
            let id = (*id).to_owned();
            let deleted = json!({"object": format!("{kind}.deleted"), "id": id, "deleted": true});
            let delete = move |edit: &mut Edit<'_>| {
                let record = edit.get(kind, &id)?;
                edit.delete(&record)
            };
            edit(gateway, &request.actor, delete).await?;
            Ok(encode::json(StatusCode::OK, &deleted))
        }
        (&Method::POST, [id, verb @ ("block" | "unblock")]) => {
            let blocked = *verb == "block";
            let (id, verb) = ((*id).to_owned(), (*verb).to_owned());
            let block = move |edit: &mut Edit<'_>| set_blocked(edit, kind, &id, blocked, &verb);
            let record = edit(gateway, &request.actor, block).await?;
            Ok(shown(StatusCode::OK, &record))
        }
        (&Method::POST, [id, "rotate"]) if kind == Kind::Key => rotate(gateway, request, id).await,
        _ => Err(nothing_at(request)),
    }
}

fn nothing_at(request: &Request) -> Fault {
    let message = format!("There is nothing at {} {}.", request.method, request.path);
    Fault::new(ErrorKind::NotFound, message)
}

/// A record as clients see it.
pub(super) fn show(record: &Record) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("object".to_owned(), json!(record.kind));
    object.insert("id".to_owned(), json!(record.id));
    // A specification serialises without fail.
    if let Ok(Value::Object(spec)) = serde_json::to_value(&record.spec) {
        object.extend(spec);
    }
    if let Some(secret) = &record.secret {
        object.insert("hint".to_owned(), json!(secret.hint));
        if let Some(previous) = &secret.previous {
            object.insert("previous_until".to_owned(), json!(previous.until));
        }
    }
    object.insert("created_at".to_owned(), json!(record.created_at));
    object.insert("updated_at".to_owned(), json!(record.updated_at));
    object
}

fn shown(status: StatusCode, record: &Record) -> Response<Body> {
    encode::json(status, &show(record))
}

/// A record with the key that is shown this once.
fn shown_once(status: StatusCode, record: &Record, key: String) -> Response<Body> {
    let mut object = show(record);
    object.insert("key".to_owned(), Value::String(key));
    encode::json(status, &object)
}

/// What was said, for the list of changes: metadata can hold anything, so it is left out.
pub(super) fn noted(mut said: Map<String, Value>) -> Value {
    if said.contains_key("metadata") {
        said.insert("metadata".to_owned(), json!("changed"));
    }
    said.remove("key");
    Value::Object(said)
}

async fn list(gateway: &Gateway, request: &Request, kind: Kind) -> Result<Response<Body>, Fault> {
    let most = request.page("limit")?;
    let owned = |name: &str| request.parameter(name).map(str::to_owned);
    let filter = Filter {
        after: owned("after"),
        team: owned("team"),
        user: owned("user"),
        alias: owned("alias"),
        hash: None,
    };
    // One more tells whether there are more.
    let find = move |edit: &mut Edit<'_>| edit.list(kind, &filter, most + 1);
    let mut records = edit(gateway, &request.actor, find).await?;
    let has_more = most < records.len();
    records.truncate(most);
    let page = Page {
        object: "list",
        data: records
            .iter()
            .map(|record| Value::Object(show(record)))
            .collect(),
        has_more,
    };
    Ok(encode::json(StatusCode::OK, &page))
}

async fn audit(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let most = request.page("limit")?;
    let before = request.parameter("before").map(str::parse);
    let before = before
        .transpose()
        .map_err(|_| invalid("`before` is the number of a change."))?;
    let find = move |edit: &mut Edit<'_>| edit.audit(before, most + 1);
    let mut rows: Vec<AuditRow> = edit(gateway, &request.actor, find).await?;
    let has_more = most < rows.len();
    rows.truncate(most);
    let page = Page {
        object: "list",
        data: rows.iter().map(|row| json!(row)).collect(),
        has_more,
    };
    Ok(encode::json(StatusCode::OK, &page))
}

async fn create(gateway: &Gateway, request: &Request, kind: Kind) -> Result<Response<Body>, Fault> {
    let mut said = request.object()?;
    let changed = noted(said.clone());
    let key = match kind {
        Kind::Key => Some(text(said.remove("key"), "key")?.unwrap_or_else(fresh_key)),
        Kind::Team | Kind::User | Kind::Tag => None,
    };
    if let Some(key) = &key {
        check_key(key)?;
    }
    let id = text(said.remove("id"), "id")?;
    let id = match id {
        Some(_) if kind == Kind::Key => {
            return Err(invalid(
                "Keys get their ids from the gateway. Use `alias` for a name.",
            ));
        }
        Some(id) => id,
        None => fresh_id(kind),
    };
    check_id("id", &id).map_err(invalid)?;
    let spec = read_spec(said)?;
    let secret = key.as_deref().map(Secret::of);
    let make = move |edit: &mut Edit<'_>| {
        if edit.find(kind, &id)?.is_some() {
            let message = format!("There is a {kind} `{id}` already. Change it with PATCH.");
            return Err(invalid(message));
        }
        edit.put(Record::new(kind, id, spec, secret), "create", &changed)
    };
    let record = edit(gateway, &request.actor, make).await?;
    match key {
        Some(key) => Ok(shown_once(StatusCode::CREATED, &record, key)),
        None => Ok(shown(StatusCode::CREATED, &record)),
    }
}

fn text(value: Option<Value>, name: &str) -> Result<Option<String>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(format!("`{name}` is a text."))),
    }
}

/// Checks a key that somebody brings along.
///
/// # Errors
/// It is too short or cannot be sent.
pub(super) fn check_key(key: &str) -> Result<(), Fault> {
    let is_fine =
        KEY_CHARACTERS.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_fine {
        return Ok(());
    }
    let (least, most) = (KEY_CHARACTERS.start(), KEY_CHARACTERS.end());
    Err(invalid(format!(
        "`key` has {least} to {most} visible ASCII characters. Leave it out to get a random one."
    )))
}

fn read_spec(said: Map<String, Value>) -> Result<Spec, Fault> {
    let read = serde_json::from_value(Value::Object(said));
    read.map_err(|error| invalid(format!("The request's body is not valid: {error}.")))
}

async fn patch(
    gateway: &Gateway,
    request: &Request,
    kind: Kind,
    id: &str,
) -> Result<Response<Body>, Fault> {
    let (said, id) = (request.object()?, id.to_owned());
    let change = move |edit: &mut Edit<'_>| {
        let record = edit.get(kind, &id)?;
        let spec = merged(&record.spec, said.clone())?;
        edit.put(Record { spec, ..record }, "update", &noted(said))
    };
    let record = edit(gateway, &request.actor, change).await?;
    Ok(shown(StatusCode::OK, &record))
}

/// What was said before with a change: fields that are given replace others, and null takes them away.
pub(super) fn merged(spec: &Spec, said: Map<String, Value>) -> Result<Spec, Fault> {
    // A specification serialises without fail.
    let Ok(Value::Object(mut fields)) = serde_json::to_value(spec) else {
        return read_spec(said);
    };
    for (name, value) in said {
        match value {
            Value::Null => fields.remove(&name),
            value => fields.insert(name, value),
        };
    }
    read_spec(fields)
}

/// Blocks or unblocks.
///
/// # Errors
/// There is no such record, or the disk's.
pub(super) fn set_blocked(
    edit: &mut Edit<'_>,
    kind: Kind,
    id: &str,
    blocked: bool,
    action: &str,
) -> Result<Record, Fault> {
    let mut record = edit.get(kind, id)?;
    record.spec.blocked = blocked;
    edit.put(record, action, &Value::Null)
}

async fn rotate(gateway: &Gateway, request: &Request, id: &str) -> Result<Response<Body>, Fault> {
    let mut said = request.object()?;
    let grace = text(said.remove("grace"), "grace")?;
    let grace = grace
        .map(|grace| grace.parse::<Window>())
        .transpose()
        .map_err(|error| invalid(format!("`grace`: {error}.")))?;
    if let Some(name) = said.keys().next() {
        return Err(invalid(format!("`{name}` is not known here. `grace` is.")));
    }
    let until = grace
        .map(|grace| check_grace(grace, Timestamp::now()))
        .transpose()
        .map_err(invalid)?;
    let (key, id) = (fresh_key(), id.to_owned());
    let fresh = key.clone();
    let change = move |edit: &mut Edit<'_>| {
        let mut record = edit.get(Kind::Key, &id)?;
        let secret = record.secret.take();
        record.secret = secret.map(|secret| secret.rotated(&fresh, until));
        edit.put(record, "rotate", &json!({"previous_until": until}))
    };
    let record = edit(gateway, &request.actor, change).await?;
    Ok(shown_once(StatusCode::OK, &record, key))
}
