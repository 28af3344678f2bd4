//! `/team/*`: new, update, info, list, members, block, unblock, delete.

use http::{Method, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    super::{
        edit,
        request::{Request, invalid},
        resources::{noted, set_blocked},
    },
    delete_with_keys, fields,
    keys::{required, shown as shown_key},
    nothing_at, ok, spent,
    terms::Said,
};
use crate::{
    encode::Body,
    fault::Fault,
    gateway::Gateway,
    ledger::By,
    people::{Edit, Filter, Kind, Member, Record, Spec, fresh_id},
};

/// Answers a request below `/team/`.
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
        (&Method::POST, [verb @ ("member_add" | "member_delete")]) => {
            members(gateway, request, *verb == "member_add").await
        }
        (&Method::POST, [verb @ ("block" | "unblock")]) => {
            let id = required(&mut Said::new(request.object()?), "team_id")?;
            let (blocked, verb) = (*verb == "block", (*verb).to_owned());
            let change =
                move |edit: &mut Edit<'_>| set_blocked(edit, Kind::Team, &id, blocked, &verb);
            let team = edit(gateway, &request.actor, change).await?;
            Ok(ok(&show(gateway, &team).await?))
        }
        (&Method::POST, ["delete"]) => delete(gateway, request).await,
        _ => Err(nothing_at(request)),
    }
}

/// A team in LiteLLM's words.
pub(super) fn shown(team: &Record, spend: f64) -> Map<String, Value> {
    let mut object = fields(team, spend);
    let with_roles = team
        .spec
        .members
        .iter()
        .map(|member| json!({"user_id": member.user, "role": member.role, "user_email": null}));
    let more = json!({
        "team_id": team.id,
        "team_alias": team.spec.alias,
        "members_with_roles": with_roles.collect::<Vec<_>>(),
        "members": [],
        "admins": [],
        "organization_id": null,
    });
    object.extend(more.as_object().cloned().unwrap_or_default());
    object
}

async fn show(gateway: &Gateway, team: &Record) -> Result<Map<String, Value>, Fault> {
    let spent = spent(gateway, By::Team, Some(&team.id)).await?;
    Ok(shown(team, spent.get(&team.id).copied().unwrap_or(0.0)))
}

fn take(said: &mut Said, spec: &mut Spec) -> Result<(), Fault> {
    said.change("team_alias", &mut spec.alias)?;
    for (name, role) in [("admins", "admin"), ("members", "user")] {
        for user in said.texts(name)?.into_iter().flatten() {
            add(
                spec,
                Member {
                    user,
                    role: role.to_owned(),
                },
            );
        }
    }
    match said.take("members_with_roles") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for member in &list {
                add(spec, read_member(member)?);
            }
        }
        Some(_) => return Err(invalid("`members_with_roles` is a list.")),
    }
    Ok(())
}

/// Somebody is in a team once, with the last role that was given.
fn add(spec: &mut Spec, member: Member) {
    spec.members.retain(|known| known.user != member.user);
    spec.members.push(member);
}

/// Members are named by `user_id`, or by `user_email`, which is an id like any other here.
fn read_member(said: &Value) -> Result<Member, Fault> {
    let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
    let user = text("user_id").or_else(|| text("user_email"));
    Ok(Member {
        user: user.ok_or_else(|| invalid("A member needs `user_id` or `user_email`."))?,
        role: text("role").unwrap_or_else(|| "user".to_owned()),
    })
}

async fn create(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let body = request.object()?;
    let changed = noted(body.clone());
    let mut said = Said::new(body);
    let id = said
        .text("team_id")?
        .unwrap_or_else(|| fresh_id(Kind::Team));
    crate::people::check_id("team_id", &id).map_err(invalid)?;
    let mut spec = Spec::default();
    take(&mut said, &mut spec)?;
    said.finish(&mut spec, Timestamp::now())?;
    let make = move |edit: &mut Edit<'_>| {
        if edit.find(Kind::Team, &id)?.is_some() {
            let message = format!("There is a team `{id}` already. Change it with /team/update.");
            return Err(invalid(message));
        }
        edit.put(Record::new(Kind::Team, id, spec, None), "create", &changed)
    };
    let team = edit(gateway, &request.actor, make).await?;
    Ok(ok(&shown(&team, 0.0)))
}

async fn update(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let body = request.object()?;
    let changed = noted(body.clone());
    let mut said = Said::new(body);
    let id = required(&mut said, "team_id")?;
    let change = move |edit: &mut Edit<'_>| {
        let mut team = edit.get(Kind::Team, &id)?;
        take(&mut said, &mut team.spec)?;
        said.finish(&mut team.spec, Timestamp::now())?;
        edit.put(team, "update", &changed)
    };
    let team = edit(gateway, &request.actor, change).await?;
    Ok(ok(
        &json!({"team_id": team.id, "data": show(gateway, &team).await?}),
    ))
}

async fn info(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let id = request.parameter("team_id");
    let id = id
        .ok_or_else(|| invalid("`team_id` is missing in the query."))?
        .to_owned();
    let find = move |edit: &mut Edit<'_>| {
        let of_team = Filter {
            team: Some(id.clone()),
            ..Filter::default()
        };
        Ok((
            edit.get(Kind::Team, &id)?,
            edit.list(Kind::Key, &of_team, usize::MAX)?,
        ))
    };
    let (team, keys) = edit(gateway, &request.actor, find).await?;
    let spent = spent(gateway, By::Key, None).await?;
    let spend = |key: &Record| spent.get(&key.id).copied().unwrap_or(0.0);
    let keys: Vec<Value> = keys
        .iter()
        .map(|key| Value::Object(shown_key(key, spend(key))))
        .collect();
    let shown = show(gateway, &team).await?;
    Ok(ok(
        &json!({"team_id": team.id, "team_info": shown, "keys": keys, "team_memberships": []}),
    ))
}

async fn list(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let find = |edit: &mut Edit<'_>| edit.list(Kind::Team, &Filter::default(), usize::MAX);
    let mut teams = edit(gateway, &request.actor, find).await?;
    if let Some(user) = request.parameter("user_id") {
        teams.retain(|team| team.spec.members.iter().any(|member| member.user == user));
    }
    let spent = spent(gateway, By::Team, None).await?;
    let spend = |team: &Record| spent.get(&team.id).copied().unwrap_or(0.0);
    let teams: Vec<_> = teams.iter().map(|team| shown(team, spend(team))).collect();
    Ok(ok(&teams))
}

async fn members(
    gateway: &Gateway,
    request: &Request,
    adds: bool,
) -> Result<Response<Body>, Fault> {
    let body = request.object()?;
    let changed = Value::Object(body.clone());
    let id = required(&mut Said::new(body.clone()), "team_id")?;
    let named: Vec<Member> = match body.get("member") {
        Some(Value::Array(list)) if adds => {
            list.iter().map(read_member).collect::<Result<_, _>>()?
        }
        Some(one) if adds => vec![read_member(one)?],
        None if adds => return Err(invalid("`member` is missing.")),
        _ => vec![read_member(&changed)?],
    };
    if adds
        && body
            .get("max_budget_in_team")
            .is_some_and(|budget| !budget.is_null())
    {
        let message = "`max_budget_in_team` has no counterpart here. Give the member's keys or the user a budget.";
        return Err(invalid(message));
    }
    let change = move |edit: &mut Edit<'_>| {
        let mut team = edit.get(Kind::Team, &id)?;
        for member in named {
            if adds {
                add(&mut team.spec, member);
            } else {
                team.spec.members.retain(|known| known.user != member.user);
            }
        }
        edit.put(team, "update", &changed)
    };
    let team = edit(gateway, &request.actor, change).await?;
    let mut object = show(gateway, &team).await?;
    if adds {
        object.insert("updated_users".to_owned(), json!([]));
        object.insert("updated_team_memberships".to_owned(), json!([]));
    }
    Ok(ok(&object))
}

async fn delete(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let ids = Said::new(request.object()?)
        .texts("team_ids")?
        .unwrap_or_default();
    let deleted = json!({"deleted_teams": ids});
    let keys_of = |id| Filter {
        team: Some(id),
        ..Filter::default()
    };
    delete_with_keys(gateway, request, Kind::Team, ids, keys_of).await?;
    Ok(ok(&deleted))
}
