//! `/spend/*` and `/global/spend*`: rows and totals of the ledger.

use http::Response;
use jiff::{SignedDuration, Timestamp};
use protocol::key::{digest, hex};
use serde_json::{Map, Value, json};

use super::{
    super::{
        edit,
        request::{Request, invalid},
        spend::{fault, parse_time},
    },
    TOTALS_MAX,
    keys::shown as shown_key,
    nothing_at, ok, spent,
};
use crate::{
    encode::Body,
    fault::Fault,
    gateway::Gateway,
    ledger::{By, LoggedRow, RowQuery, Spend, SpendQuery},
    people::{Edit, Filter, Kind, Record},
};

/// Rows of one answer.
const ROWS_MAX: usize = 10_000;

/// Answers a request below `/spend/` or `/global/`.
///
/// # Errors
/// What the caller is told in place of an answer.
pub(super) async fn answer(
    gateway: &Gateway,
    request: &Request,
    path: &[&str],
) -> Result<Response<Body>, Fault> {
    match path {
        ["spend", "logs"] => logs(gateway, request).await,
        ["spend", "keys"] => keys(gateway, request).await,
        ["spend", "users"] => users(gateway, request).await,
        ["spend", "tags"] => {
            let tags = totals(gateway, request, &[By::Tag]).await?;
            let tags = tags.iter().map(|tag| {
                json!({"individual_request_tag": tag.names[0], "log_count": tag.requests,
                    "total_spend": tag.cost.as_dollars()})
            });
            Ok(ok(&tags.collect::<Vec<_>>()))
        }
        ["global", "spend"] => {
            let all = totals(gateway, request, &[]).await?;
            let spend = all.first().map_or(0.0, |all| all.cost.as_dollars());
            Ok(ok(&json!({"spend": spend, "max_budget": 0.0})))
        }
        ["global", "spend", "report"] => report(gateway, request).await,
        ["global", "spend", "logs"] => {
            let mut days = totals(gateway, request, &[By::Day]).await?;
            days.reverse();
            Ok(ok(&pairs(&days, "date", "spend")))
        }
        ["global", "spend", "models"] => {
            let models = totals(gateway, request, &[By::Model]).await?;
            Ok(ok(&pairs(&models, "model", "total_spend")))
        }
        ["global", "spend", "tags"] => {
            let tags = totals(gateway, request, &[By::Tag]).await?;
            let tags = tags.iter().map(|tag| {
                json!({"name": tag.names[0], "spend": tag.cost.as_dollars(), "log_count": tag.requests})
            });
            Ok(ok(&json!({"spend_per_tag": tags.collect::<Vec<_>>()})))
        }
        ["global", "spend", "keys"] => global_keys(gateway, request).await,
        _ => Err(nothing_at(request)),
    }
}

fn pairs(totals: &[Spend], name: &str, spend: &str) -> Vec<Value> {
    let pair = |total: &Spend| json!({name: total.names[0], spend: total.cost.as_dollars()});
    totals.iter().map(pair).collect()
}

/// The times of a request: `end_date` is the last day that counts.
fn times(request: &Request) -> Result<(Option<Timestamp>, Option<Timestamp>), Fault> {
    let time = |name: &str| {
        let text = request.parameter(name);
        let read = text.map(|text| {
            let wrong = || invalid(format!("`{name}` is a day, as 2026-01-31."));
            // Dashboards send times with a space in the middle.
            parse_time(text.split(' ').next().unwrap_or(text)).ok_or_else(wrong)
        });
        read.transpose()
    };
    let day = SignedDuration::from_hours(24);
    let end = time("end_date")?.and_then(|end| end.checked_add(day).ok());
    Ok((time("start_date")?, end))
}

async fn totals(gateway: &Gateway, request: &Request, by: &[By]) -> Result<Vec<Spend>, Fault> {
    let (since, until) = times(request)?;
    let query = SpendQuery {
        by: by.to_vec(),
        since,
        until,
        most: TOTALS_MAX,
        only: Vec::new(),
    };
    let found = gateway.ledger.spend(query).await;
    found.map_err(|error| fault(&error))
}

/// All keys, by their ids.
async fn all_keys(gateway: &Gateway) -> Result<Vec<Record>, Fault> {
    let find = |edit: &mut Edit<'_>| edit.list(Kind::Key, &Filter::default(), usize::MAX);
    edit(gateway, "", find).await
}

/// The hash of a key by which LiteLLM's clients know it, or its id if it is declared.
fn token<'a>(keys: &'a [Record], id: &'a str) -> &'a str {
    let record = keys.iter().find(|record| record.id == id);
    let secret = record.and_then(|record| record.secret.as_ref());
    secret.map_or(id, |secret| &secret.hash)
}

async fn keys(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let most = request.page("limit")?;
    let spent = spent(gateway, By::Key, None).await?;
    let spend = |record: &Record| spent.get(&record.id).copied().unwrap_or(0.0);
    let mut keys = all_keys(gateway).await?;
    keys.sort_by(|left, right| spend(right).total_cmp(&spend(left)));
    let shown = keys
        .iter()
        .take(most)
        .map(|record| shown_key(record, spend(record)));
    Ok(ok(&shown.collect::<Vec<_>>()))
}

async fn global_keys(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let most = request.page("limit")?;
    let totals = totals(gateway, request, &[By::Key]).await?;
    let keys = all_keys(gateway).await?;
    let shown = totals.iter().take(most).map(|total| {
        let record = keys.iter().find(|record| record.id == total.names[0]);
        let alias = record.and_then(|record| record.spec.alias.as_ref());
        let secret = record.and_then(|record| record.secret.as_ref());
        json!({"api_key": token(&keys, &total.names[0]), "key_alias": alias,
            "key_name": secret.map(|secret| format!("...{}", secret.hint)), "total_spend": total.cost.as_dollars()})
    });
    Ok(ok(&shown.collect::<Vec<_>>()))
}

async fn users(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let spent = spent(gateway, By::User, request.parameter("user_id")).await?;
    let mut users: Vec<(String, f64)> =
        spent.into_iter().filter(|(id, _)| !id.is_empty()).collect();
    users.sort_by(|left, right| right.1.total_cmp(&left.1));
    let shown = users
        .iter()
        .map(|(id, spend)| json!({"user_id": id, "spend": spend}));
    Ok(ok(&shown.collect::<Vec<_>>()))
}

async fn logs(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let (since, until) = times(request)?;
    let keys = all_keys(gateway).await?;
    let key = request.parameter("api_key").map(|named| {
        let hashed = hex(&digest(named));
        let is_it = |record: &&Record| {
            let hash = record.secret.as_ref().map(|secret| secret.hash.as_str());
            hash == Some(named) || hash == Some(&hashed)
        };
        keys.iter()
            .find(is_it)
            .map_or(named, |record| &record.id)
            .to_owned()
    });
    let owned = |name: &str| request.parameter(name).map(str::to_owned);
    let query = RowQuery {
        id: owned("request_id"),
        key,
        user: owned("user_id"),
        team: owned("team_id"),
        since,
        until,
        most: ROWS_MAX,
    };
    let is_summed =
        since.is_some() && until.is_some() && request.parameter("summarize") != Some("false");
    let rows = gateway
        .ledger
        .rows(query)
        .await
        .map_err(|error| fault(&error))?;
    if is_summed {
        return Ok(ok(&summed(&rows)));
    }
    let shown = rows.iter().map(|row| logged(row, token(&keys, &row.key)));
    Ok(ok(&shown.collect::<Vec<_>>()))
}

/// A row in LiteLLM's words.
fn logged(row: &LoggedRow, token: &str) -> Value {
    let end = SignedDuration::from_millis(row.duration_millis);
    let tags: Value = serde_json::from_str(&row.tags).unwrap_or_default();
    json!({
        "request_id": row.id,
        "call_type": row.operation,
        "api_key": token,
        "spend": row.cost.as_dollars(),
        "total_tokens": row.prompt_tokens.saturating_add(row.completion_tokens),
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "startTime": row.started_at,
        "endTime": row.started_at.checked_add(end).unwrap_or(row.started_at),
        "model": row.model,
        "model_group": row.model,
        "model_id": format!("{}/{}", row.route, row.target),
        "user": row.user,
        "team_id": row.team,
        "end_user": row.end_user,
        "request_tags": tags,
        "cache_hit": if row.is_kept { "True" } else { "False" },
        "status": if row.status < 400 { "success" } else { "failure" },
        "metadata": {"status_code": row.status, "outcome": row.outcome},
    })
}

/// What a day cost, and its users and models.
#[derive(Default)]
struct Day {
    day: String,
    spend: f64,
    users: Map<String, Value>,
    models: Map<String, Value>,
}

/// What rows cost by day, the latest first, with users and models of each day.
fn summed(rows: &[LoggedRow]) -> Vec<Value> {
    let mut days: Vec<Day> = Vec::new();
    for row in rows {
        let time = row.started_at.to_string();
        let day = time.split('T').next().unwrap_or_default();
        if days.last().is_none_or(|last| last.day != day) {
            days.push(Day {
                day: day.to_owned(),
                ..Day::default()
            });
        }
        let Some(Day {
            spend,
            users,
            models,
            ..
        }) = days.last_mut()
        else {
            continue;
        };
        let cost = row.cost.as_dollars();
        *spend += cost;
        for (sums, name) in [(users, &row.user), (models, &row.model)] {
            let sum = sums.get(name).and_then(Value::as_f64).unwrap_or(0.0);
            sums.insert(name.clone(), json!(sum + cost));
        }
    }
    let shown = days.into_iter().map(|day| {
        json!({"startTime": day.day, "spend": day.spend, "users": day.users, "models": day.models})
    });
    shown.collect()
}

/// What somebody spent on a day, by model.
struct Group {
    who: String,
    spend: f64,
    models: Vec<Value>,
}

async fn report(gateway: &Gateway, request: &Request) -> Result<Response<Body>, Fault> {
    let (by, list, name) = match request.parameter("group_by").unwrap_or("team") {
        "team" => (By::Team, "teams", "team_name"),
        "api_key" => (By::Key, "api_keys", "api_key"),
        "user" | "internal_user" => (By::User, "users", "user_id"),
        other => {
            return Err(invalid(format!(
                "`group_by` is team, api_key or user here, not `{other}`."
            )));
        }
    };
    let totals = totals(gateway, request, &[By::Day, by, By::Model]).await?;
    let keys = all_keys(gateway).await?;
    let teams = |edit: &mut Edit<'_>| edit.list(Kind::Team, &Filter::default(), usize::MAX);
    let teams = edit(gateway, "", teams).await?;
    let told = |id: &str| match by {
        By::Team => {
            let team = teams.iter().find(|team| team.id == id);
            let alias = team.and_then(|team| team.spec.alias.clone());
            alias.unwrap_or_else(|| id.to_owned())
        }
        By::Key => token(&keys, id).to_owned(),
        _ => id.to_owned(),
    };
    let mut days: Vec<(String, Vec<Group>)> = Vec::new();
    for total in &totals {
        let [day, id, model] = &total.names[..] else {
            continue;
        };
        if days.last().is_none_or(|(last, _)| last != day) {
            days.push((day.clone(), Vec::new()));
        }
        let Some((_, groups)) = days.last_mut() else {
            continue;
        };
        let (who, cost) = (told(id), total.cost.as_dollars());
        let tokens = total.prompt_tokens.saturating_add(total.completion_tokens);
        let detail = json!({"model": model, "spend": cost, "total_tokens": tokens});
        match groups.iter_mut().find(|group| group.who == who) {
            Some(group) => {
                group.spend += cost;
                group.models.push(detail);
            }
            None => groups.push(Group {
                who,
                spend: cost,
                models: vec![detail],
            }),
        }
    }
    let shown = days.into_iter().map(|(day, groups)| {
        let groups = groups.into_iter().map(
            |group| json!({name: group.who, "total_spend": group.spend, "metadata": group.models}),
        );
        json!({"group_by_day": day, list: groups.collect::<Vec<_>>()})
    });
    Ok(ok(&shown.collect::<Vec<_>>()))
}
