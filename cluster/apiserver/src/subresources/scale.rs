//! The scale of an object: its replica count in one shape for all kinds.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::call::Call;
use crate::machinery::crd::{ScalePaths, at_path};
use crate::machinery::patch::{json_patch, merge_patch};
use crate::negotiate::negotiate;
use crate::present;
use crate::request::Verb;
use crate::response::{Body, object};
use crate::status::{ApiError, Cause};
use crate::writing::{Change, WriteOptions, body_value, update_object};

/// Answers a GET of a scale.
pub(crate) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let entry = call
        .api
        .store
        .get(&call.resource.shelf, &call.key())
        .ok_or_else(|| call.not_found())?;
    let shown = scale(call, &present::value(&call.resource, &entry))?;
    let (_, format) = negotiate(call.headers())?;
    Ok(object(StatusCode::OK, &shown, format))
}

/// Answers a PUT or PATCH of a scale.
pub(crate) async fn change(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let is_patch = call.target.verb == Verb::Patch;
    let options = WriteOptions::of(
        call,
        if is_patch {
            "PatchOptions"
        } else {
            "UpdateOptions"
        },
    )?;
    let paths = paths(call)?.clone();
    let entry = call
        .api
        .store
        .get(&call.resource.shelf, &call.key())
        .ok_or_else(|| call.not_found())?;
    let current = scale(call, &present::value(&call.resource, &entry))?;
    let next = if is_patch {
        patched(call, &current)?
    } else {
        body_value(call)?.0
    };
    let version = next["metadata"]["resourceVersion"]
        .as_str()
        .filter(|version| !version.is_empty());
    if version.is_some_and(|version| version != entry.revision.to_string()) {
        return Err(ApiError::modified(
            &call.resource.group,
            &call.resource.plural,
            call.name(),
        ));
    }
    let replicas = next["spec"].get("replicas").cloned().unwrap_or(json!(0));
    if call.resource.custom().is_none() && replicas.as_i64().is_some_and(|replicas| replicas < 0) {
        let why = "must be greater than or equal to 0";
        let cause = Cause::invalid("spec.replicas", &replicas, why);
        return Err(ApiError::invalid(
            "autoscaling",
            "Scale",
            call.name(),
            vec![cause],
        ));
    }
    let edit = move |object: &mut Value| {
        set_path(object, &paths.spec_replicas, replicas.clone());
        Ok(())
    };
    let (written, _) = update_object(call, Change::Edit(Box::new(edit)), &options).await?;
    let shown = scale(call, &written.value(call))?;
    let (_, format) = negotiate(call.headers())?;
    Ok(object(StatusCode::OK, &shown, format))
}

fn paths(call: &Call) -> Result<&ScalePaths, ApiError> {
    call.resource.scale.as_ref().ok_or_else(|| call.not_found())
}

fn patched(call: &Call, current: &Value) -> Result<Value, ApiError> {
    let parse = || {
        crate::machinery::json::parse_yaml(&call.body).map_err(|error| {
            ApiError::bad_request(format!("error decoding patch: {}", error.message))
        })
    };
    match call.content_type() {
        "application/json-patch+json" => json_patch(current, &parse()?.value),
        "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "application/apply-patch+yaml" => Ok(merge_patch(current, &parse()?.value)),
        _ => Err(ApiError::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ])),
    }
}

fn scale(call: &Call, object: &Value) -> Result<Value, ApiError> {
    let paths = paths(call)?;
    let metadata = &object["metadata"];
    let mut shown = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {}, "spec": {}, "status": {}});
    for name in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = metadata.get(name) {
            shown["metadata"][name] = value.clone();
        }
    }
    if let Some(replicas) = at_path(object, &paths.spec_replicas).filter(|replicas| **replicas != 0)
    {
        shown["spec"]["replicas"] = replicas.clone();
    }
    shown["status"]["replicas"] = at_path(object, &paths.status_replicas)
        .cloned()
        .unwrap_or(json!(0));
    let selector = at_path(object, &paths.selector).filter(|_| !paths.selector.is_empty());
    match selector {
        Some(Value::String(text)) if !text.is_empty() => shown["status"]["selector"] = json!(text),
        Some(selector @ Value::Object(_)) => {
            shown["status"]["selector"] = json!(selector_text(selector));
        }
        _ => {}
    }
    Ok(shown)
}

/// A selector as text.
fn selector_text(selector: &Value) -> String {
    let labels = selector.get("matchLabels").unwrap_or(selector);
    let mut terms: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        terms.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({})", values.join(",")),
            Some("NotIn") => format!("{key} notin ({})", values.join(",")),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort();
    terms.join(",")
}

fn set_path(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[part];
    }
    *place = value;
}
