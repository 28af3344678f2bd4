//! `/model/info` and `/model_group/info`: the models that the caller may use, with their prices.

use std::collections::BTreeMap;

use http::Response;
use protocol::snapshot::Prices;
use serde_json::{Value, json};

use super::{Request, Who, ok};
use crate::{
    encode::Body,
    fault::Fault,
    gateway::Gateway,
    table::{Pattern, Route, Table, Target},
};

/// The models by target.
///
/// # Errors
/// The caller has no valid key, or there is no table yet.
pub(super) fn info(gateway: &Gateway, who: &Who) -> Result<Response<Body>, Fault> {
    let table = gateway.table()?;
    let mut data = Vec::new();
    for (name, route) in visible(&table, who)? {
        for target in &route.targets {
            let id = format!("{}/{}", route.id, target.name);
            let mut info = prices(target.prices);
            info["id"] = json!(id);
            info["key"] = json!(target.models());
            info["db_model"] = json!(false);
            data.push(json!({
                "model_name": name,
                "litellm_params": {"model": target.models()},
                "model_info": info,
            }));
        }
    }
    Ok(ok(&json!({"data": data})))
}

/// The models by name, at the prices of the dearest target.
///
/// # Errors
/// The caller has no valid key, or there is no table yet.
pub(super) fn groups(
    gateway: &Gateway,
    request: &Request,
    who: &Who,
) -> Result<Response<Body>, Fault> {
    let table = gateway.table()?;
    let wanted = request.parameter("model_group");
    let mut groups: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
    for (name, route) in visible(&table, who)? {
        groups.entry(name).or_default().extend(&route.targets);
    }
    let groups = groups
        .into_iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    let data = groups.map(|(name, targets)| {
        let each = || targets.iter().map(|target| target.prices);
        let dearest = Prices {
            input_nanos: each().map(|prices| prices.input_nanos).max().unwrap_or(0),
            output_nanos: each().map(|prices| prices.output_nanos).max().unwrap_or(0),
            ..Prices::default()
        };
        let mut info = prices(dearest);
        info["model_group"] = json!(name);
        info["providers"] = json!([]);
        info["mode"] = Value::Null;
        info
    });
    Ok(ok(&json!({"data": data.collect::<Vec<_>>()})))
}

/// The names that the caller may ask for, each with the routes that answer it.
fn visible<'a>(table: &'a Table, who: &Who) -> Result<Vec<(&'a str, &'a Route)>, Fault> {
    let mut found = Vec::new();
    for route in &table.routes {
        for pattern in &route.models {
            let Pattern::Exact(name) = pattern else {
                continue;
            };
            let is_seen = match who {
                Who::Admin => true,
                Who::Caller(caller) => caller.may_use(route) && caller.may_ask_for(name),
            };
            if is_seen {
                found.push((name.as_str(), &**route));
            }
        }
    }
    match who {
        Who::Caller(crate::authorize::Caller::Nobody(why)) if found.is_empty() => Err(why.fault()),
        Who::Admin | Who::Caller(_) => Ok(found),
    }
}

/// Prices of one token, in US dollars.
fn prices(prices: Prices) -> Value {
    let token = |nanos: u64| nanos as f64 / 1e15;
    json!({
        "input_cost_per_token": token(prices.input_nanos),
        "output_cost_per_token": token(prices.output_nanos),
        "cache_read_input_token_cost": prices.cached_input_nanos.map(token),
    })
}
