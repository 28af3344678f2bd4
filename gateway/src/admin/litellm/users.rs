//! `/user/*`: new, update, info, list, delete.

use http::{Method, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    super::{
        edit,
        request::{Request, invalid},
        resources::noted,
    },
    delete_with_keys, fields,
    keys::{required, shown as shown_key},
    nothing_at, ok, page, spent,
    teams::shown as shown_team,
    terms::Said,
};
use crate::{
    encode::Body,
    fault::Fault,
    gateway::Gateway,
    ledger::By,
    people::{Edit, Filter, Kind, Member, Record, Secret, Spec, fresh_id, fresh_key},
};

/// Answers a request below `/user/`.
///
/// # Errors
/// What the caller is told in place of an answer.
pub(super) async fn answer(
    gateway: &Gateway,
    request: &Request,
    path: &[&str],
) -> Result<Response<Body>, Fault> {
    match (&request.method, path) {
        (&Method::POST, ["new"]) => create(gateway, request).await,
        (&Method::POST, ["update"]) => update(gateway, request).await,
        (&Method::GET, ["info"]) => info(gateway, request).await,
        (&Method::GET, ["list"]) => list(gateway, request).await,
        (&Method::POST, ["delete"]) => delete(gateway, request).await,
        _ => Err(nothing_at(request)),
    }
}

/// A user in LiteLLM's words.
fn shown(user: &Record, spend: f64) -> Map<String, Value> {
    let mut object = fields(user, spend);
    let more = json!({
        "user_id": user.id,
        "user_email": user.spec.email,
        "user_alias": user.spec.alias,
        "user_role": user.spec.role,
    });
    object.extend(more.as_object().cloned().unwrap_or_default());
    object
}

fn take(said: &mut Said, spec: &mut Spec) -> Result<(), Fault> {
    said.change("user_email", &mut spec.email)?;
    said.change("user_alias", &mut spec.alias)?;
    said.change("user_role", &mut spec.role)
}

async fn create(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let body = request.object()?;
    let changed = noted(body.clone());
    let makes_key = body
        .get("auto_create_key")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    let mut said = Said::new(body);
    let id = said
        .text("user_id")?
        .unwrap_or_else(|| fresh_id(Kind::User));
    crate::people::check_id("user_id", &id).map_err(invalid)?;
    let teams = said.texts("teams")?.unwrap_or_default();
    let mut of_key = Spec {
        user: Some(id.clone()),
        ..Spec::default()
    };
    said.change("key_alias", &mut of_key.alias)?;
    said.change("team_id", &mut of_key.team)?;
    let mut spec = Spec::default();
    take(&mut said, &mut spec)?;
    said.finish(&mut spec, Timestamp::now())?;
    // How long a key is good for is said of the key, not of its user.
    of_key.expires_at = spec.expires_at.take();
    let key = makes_key.then(fresh_key);
    let secret = key.as_deref().map(Secret::of);
    let make = move |edit: &mut Edit<'_>| {
        if edit.find(Kind::User, &id)?.is_some() {
            let message = format!("There is a user `{id}` already. Change it with /user/update.");
            return Err(invalid(message));
        }
        let user = Record::new(Kind::User, id.clone(), spec, None);
        let user = edit.put(user, "create", &changed)?;
        for team in teams {
            let mut team = edit.get(Kind::Team, &team)?;
            team.spec.members.retain(|member| member.user != id);
            team.spec.members.push(Member {
                user: id.clone(),
                role: "user".to_owned(),
            });
            edit.put(team, "update", &Value::Null)?;
        }
        let key = secret.map(|secret| {
            let key = Record::new(Kind::Key, fresh_id(Kind::Key), of_key, Some(secret));
            edit.put(key, "create", &Value::Null)
        });
        Ok((user, key.transpose()?))
    };
    let (user, record) = edit(gateway, &request.actor, make).await?;
    let mut object = shown(&user, 0.0);
    if let Some(record) = record {
        for (name, value) in shown_key(&record, 0.0) {
            object.entry(name).or_insert(value);
        }
    }
    object.insert("key".to_owned(), json!(key));
    Ok(ok(&object))
}

async fn update(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let body = request.object()?;
    let changed = noted(body.clone());
    let mut said = Said::new(body);
    let id = required(&mut said, "user_id")?;
    let change = move |edit: &mut Edit<'_>| {
        let mut user = edit.get(Kind::User, &id)?;
        take(&mut said, &mut user.spec)?;
        said.finish(&mut user.spec, Timestamp::now())?;
        edit.put(user, "update", &changed)
    };
    let user = edit(gateway, &request.actor, change).await?;
    let spent = spent(gateway, By::User, Some(&user.id)).await?;
    let shown = shown(&user, spent.get(&user.id).copied().unwrap_or(0.0));
    Ok(ok(&json!({"user_id": user.id, "data": shown})))
}

async fn info(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let id = request.parameter("user_id");
    let id = id
        .ok_or_else(|| invalid("`user_id` is missing in the query."))?
        .to_owned();
    let find = move |edit: &mut Edit<'_>| {
        let of_user = Filter {
            user: Some(id.clone()),
            ..Filter::default()
        };
        let user = edit.get(Kind::User, &id)?;
        let keys = edit.list(Kind::Key, &of_user, usize::MAX)?;
        let mut teams = edit.list(Kind::Team, &Filter::default(), usize::MAX)?;
        teams.retain(|team| team.spec.members.iter().any(|member| member.user == id));
        Ok((user, keys, teams))
    };
    let (user, keys, teams) = edit(gateway, &request.actor, find).await?;
    let of_keys = spent(gateway, By::Key, None).await?;
    let of_teams = spent(gateway, By::Team, None).await?;
    let of_user = spent(gateway, By::User, Some(&user.id)).await?;
    let spend = |record: &Record| {
        let spent = match record.kind {
            Kind::Key => &of_keys,
            Kind::Team => &of_teams,
            Kind::User | Kind::Tag => &of_user,
        };
        spent.get(&record.id).copied().unwrap_or(0.0)
    };
    let keys: Vec<_> = keys.iter().map(|key| shown_key(key, spend(key))).collect();
    let teams: Vec<_> = teams
        .iter()
        .map(|team| shown_team(team, spend(team)))
        .collect();
    let user_info = shown(&user, spend(&user));
    Ok(ok(
        &json!({"user_id": user.id, "user_info": user_info, "keys": keys, "teams": teams}),
    ))
}

async fn list(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let find = |edit: &mut Edit<'_>| edit.list(Kind::User, &Filter::default(), usize::MAX);
    let mut all = edit(gateway, &request.actor, find).await?;
    if let Some(ids) = request.parameter("user_ids") {
        all.retain(|user| ids.split(',').any(|id| id.trim() == user.id));
    }
    if let Some(role) = request.parameter("role") {
        all.retain(|user| user.spec.role.as_deref() == Some(role));
    }
    let (page, told) = page(request, "page_size", &all)?;
    let spent = spent(gateway, By::User, None).await?;
    let spend = |user: &Record| spent.get(&user.id).copied().unwrap_or(0.0);
    let users: Vec<_> = page.iter().map(|user| shown(user, spend(user))).collect();
    Ok(ok(&json!({
        "users": users,
        "total": told.get("total_count"),
        "page": told.get("current_page"),
        "page_size": page.len(),
        "total_pages": told.get("total_pages"),
    })))
}

async fn delete(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let ids = Said::new(request.object()?)
        .texts("user_ids")?
        .unwrap_or_default();
    let count = ids.len();
    let keys_of = |id| Filter {
        user: Some(id),
        ..Filter::default()
    };
    delete_with_keys(gateway, request, Kind::User, ids, keys_of).await?;
    Ok(ok(&count))
}
