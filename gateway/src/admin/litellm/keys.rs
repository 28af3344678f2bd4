//! `/key/*`: generate, update, info, list, block, unblock, regenerate, delete.

use http::{Method, Response};
use jiff::Timestamp;
use protocol::{
    allowance::Window,
    key::{digest, hex},
    openai::ErrorKind,
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        edit,
        request::{Request, invalid},
        resources::{check_key, noted, set_blocked},
    },
    fields, find_or_make, nothing_at, ok, page, spent,
    terms::Said,
};
use crate::{
    authorize::Caller,
    encode::Body,
    fault::Fault,
    gateway::Gateway,
    ledger::By,
    people::{Edit, Filter, Kind, Record, Secret, Spec, check_grace, fresh_id, fresh_key},
};

/// Characters of a SHA-256 in hexadecimal digits.
const HASH_CHARACTERS: usize = 64;

/// Answers a request below `/key/`.
///
/// # Errors
/// What the caller is told in place of an answer.
pub(super) async fn answer(
    gateway: &Gateway,
    request: &Request,
    path: &[&str],
) -> Result<Response<Body>, Fault> {
    match (&request.method, path) {
        (&Method::POST, ["generate" | "service-account"]) => generate(gateway, request).await,
        (&Method::POST, ["update"]) => update(gateway, request).await,
        (&Method::GET, ["info"]) => {
            let key = request.parameter("key");
            let key = key.ok_or_else(|| invalid("`key` is missing in the query."))?;
            info(gateway, key).await
        }
        (&Method::GET, ["list"]) => list(gateway, request).await,
        (&Method::POST, [verb @ ("block" | "unblock")]) => {
            let key = required(&mut Said::new(request.object()?), "key")?;
            let (blocked, verb) = (*verb == "block", (*verb).to_owned());
            let change = move |edit: &mut Edit<'_>| {
                let id = find(edit, &key)?.id;
                set_blocked(edit, Kind::Key, &id, blocked, &verb)
            };
            let record = edit(gateway, &request.actor, change).await?;
            Ok(ok(&show(gateway, &record).await?))
        }
        (&Method::POST, ["regenerate"]) => {
            let mut said = Said::new(request.object()?);
            let key = required(&mut said, "key")?;
            regenerate(gateway, request, key, said).await
        }
        (&Method::POST, [key, "regenerate"]) => {
            let said = Said::new(request.object()?);
            regenerate(gateway, request, (*key).to_owned(), said).await
        }
        (&Method::POST, ["delete"]) => delete(gateway, request).await,
        _ => Err(nothing_at(request)),
    }
}

/// Takes a text that must be there.
///
/// # Errors
/// It is not.
pub(super) fn required(said: &mut Said, name: &str) -> Result<String, Fault> {
    let text = said.text(name)?;
    text.ok_or_else(|| invalid(format!("`{name}` is missing.")))
}

/// The key that a script names by itself, by its hash or by its id.
///
/// # Errors
/// There is none, or the disk's.
fn find(edit: &Edit<'_>, name: &str) -> Result<Record, Fault> {
    let is_hash =
        name.len() == HASH_CHARACTERS && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hash = if is_hash {
        name.to_ascii_lowercase()
    } else {
        hex(&digest(name))
    };
    let filter = Filter {
        hash: Some(hash),
        ..Filter::default()
    };
    if let Some(record) = edit.list(Kind::Key, &filter, 1)?.into_iter().next() {
        return Ok(record);
    }
    // The name may be a key, which no answer repeats.
    let none = || Fault::new(ErrorKind::NotFound, "There is no such key.");
    edit.find(Kind::Key, name)?.ok_or_else(none)
}

/// A key in LiteLLM's words.
pub(super) fn shown(record: &Record, spend: f64) -> Map<String, Value> {
    let mut object = fields(record, spend);
    let spec = &record.spec;
    let secret = record.secret.as_ref();
    let more = json!({
        "token": secret.map(|secret| &secret.hash),
        "token_id": secret.map(|secret| &secret.hash),
        "key_name": secret.map(|secret| format!("...{}", secret.hint)),
        "key_alias": spec.alias,
        "expires": spec.expires_at,
        "user_id": spec.user,
        "team_id": spec.team,
        "tags": spec.tags,
        "aliases": {},
        "config": {},
        "permissions": {},
    });
    object.extend(more.as_object().cloned().unwrap_or_default());
    object
}

async fn show(gateway: &Gateway, record: &Record) -> Result<Map<String, Value>, Fault> {
    let spent = spent(gateway, By::Key, Some(&record.id)).await?;
    Ok(shown(record, spent.get(&record.id).copied().unwrap_or(0.0)))
}

/// Takes what only keys have into a specification; users that nobody made are made, as LiteLLM does.
fn take(said: &mut Said, spec: &mut Spec) -> Result<(), Fault> {
    said.change("key_alias", &mut spec.alias)?;
    said.change("team_id", &mut spec.team)?;
    said.change("user_id", &mut spec.user)?;
    if let Some(tags) = said.texts("tags")? {
        spec.tags = tags;
    }
    Ok(())
}

async fn generate(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let body = request.object()?;
    let changed = noted(body.clone());
    let mut said = Said::new(body);
    let key = said.text("key")?.unwrap_or_else(fresh_key);
    check_key(&key)?;
    let mut spec = Spec::default();
    take(&mut said, &mut spec)?;
    said.finish(&mut spec, Timestamp::now())?;
    let secret = Secret::of(&key);
    let make = move |edit: &mut Edit<'_>| {
        if let Some(user) = &spec.user {
            find_or_make(edit, Kind::User, user)?;
        }
        let record = Record::new(Kind::Key, fresh_id(Kind::Key), spec, Some(secret));
        edit.put(record, "create", &changed)
    };
    let record = edit(gateway, &request.actor, make).await?;
    let mut object = shown(&record, 0.0);
    object.insert("key".to_owned(), Value::String(key));
    Ok(ok(&object))
}

async fn update(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let body = request.object()?;
    let changed = noted(body.clone());
    let mut said = Said::new(body);
    let key = required(&mut said, "key")?;
    let named = key.clone();
    let change = move |edit: &mut Edit<'_>| {
        let mut record = find(edit, &named)?;
        take(&mut said, &mut record.spec)?;
        said.finish(&mut record.spec, Timestamp::now())?;
        if let Some(user) = record.spec.user.clone() {
            find_or_make(edit, Kind::User, &user)?;
        }
        edit.put(record, "update", &changed)
    };
    let record = edit(gateway, &request.actor, change).await?;
    let mut object = show(gateway, &record).await?;
    object.insert("key".to_owned(), Value::String(key));
    Ok(ok(&object))
}

async fn info(gateway: &Gateway, key: &str) -> Result<Response<Body>, Fault> {
    let named = key.to_owned();
    let record = edit(gateway, "", move |edit: &mut Edit<'_>| find(edit, &named)).await?;
    let info = show(gateway, &record).await?;
    Ok(ok(&json!({"key": key, "info": info})))
}

/// What the holder of a key may know of it.
///
/// # Errors
/// The caller has none, or it is declared, not made at run time.
pub(super) async fn own(gateway: &Gateway, caller: &Caller) -> Result<Response<Body>, Fault> {
    match caller {
        Caller::Key(key) => info(gateway, &key.id).await,
        Caller::Nobody(why) => Err(why.fault()),
    }
}

async fn list(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let owned = |name: &str| request.parameter(name).map(str::to_owned);
    let filter = Filter {
        team: owned("team_id"),
        user: owned("user_id"),
        alias: owned("key_alias"),
        hash: owned("key_hash"),
        after: None,
    };
    let find = move |edit: &mut Edit<'_>| edit.list(Kind::Key, &filter, usize::MAX);
    let all = edit(gateway, &request.actor, find).await?;
    let (page, mut object) = page(request, "size", &all)?;
    let is_full = request.parameter("return_full_object") == Some("true");
    let keys: Vec<Value> = if is_full {
        let spent = spent(gateway, By::Key, None).await?;
        let spend = |record: &Record| spent.get(&record.id).copied().unwrap_or(0.0);
        let shown = page.iter().map(|record| shown(record, spend(record)));
        shown.map(Value::Object).collect()
    } else {
        let hashes = page.iter().filter_map(|record| record.secret.as_ref());
        hashes.map(|secret| json!(secret.hash)).collect()
    };
    object.insert("keys".to_owned(), Value::Array(keys));
    Ok(ok(&object))
}

async fn regenerate(
    gateway: &Gateway,
    request: &Request,
    named: String,
    mut said: Said,
) -> Result<Response<Body>, Fault> {
    let now = Timestamp::now();
    let grace = said.text("grace_period")?.map(|grace| {
        let grace = grace.parse::<Window>().map_err(|error| error.to_string());
        grace.and_then(|grace| check_grace(grace, now))
    });
    let until = grace.transpose().map_err(invalid)?;
    let key = said.text("new_key")?.unwrap_or_else(fresh_key);
    check_key(&key)?;
    let fresh = key.clone();
    let change = move |edit: &mut Edit<'_>| {
        let mut record = find(edit, &named)?;
        take(&mut said, &mut record.spec)?;
        said.finish(&mut record.spec, now)?;
        let secret = record.secret.take();
        record.secret = secret.map(|secret| secret.rotated(&fresh, until));
        edit.put(record, "rotate", &json!({"previous_until": until}))
    };
    let record = edit(gateway, &request.actor, change).await?;
    let mut object = show(gateway, &record).await?;
    object.insert("key".to_owned(), Value::String(key));
    Ok(ok(&object))
}

async fn delete(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let mut said = Said::new(request.object()?);
    let keys = said.texts("keys")?.unwrap_or_default();
    let aliases = said.texts("key_aliases")?.unwrap_or_default();
    let deleted = json!({"deleted_keys": keys.iter().chain(&aliases).collect::<Vec<_>>()});
    let work = move |edit: &mut Edit<'_>| {
        for key in &keys {
            let record = find(edit, key)?;
            edit.delete(&record)?;
        }
        for alias in aliases {
            let filter = Filter {
                alias: Some(alias),
                ..Filter::default()
            };
            let none = || Fault::new(ErrorKind::NotFound, "There is no key of such an alias.");
            let found = edit.list(Kind::Key, &filter, 1)?;
            edit.delete(found.first().ok_or_else(none)?)?;
        }
        Ok(())
    };
    edit(gateway, &request.actor, work).await?;
    Ok(ok(&deleted))
}
