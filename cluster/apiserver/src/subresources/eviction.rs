//! Eviction: a pod is asked to go, as far as its budgets allow.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::call::Call;
use crate::machinery::selector::LabelSelector;
use crate::response::{Body, json as respond};
use crate::status::ApiError;
use crate::writing::{DeleteOptions, body_value, delete_object};

/// Evicts the pod in the path.
pub(crate) async fn create(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let (eviction, _) = body_value(call)?;
    let options = DeleteOptions::read(call, &eviction["deleteOptions"])?;
    let pod = call
        .api
        .store
        .get("/pods", &call.key())
        .ok_or_else(|| call.not_found())?
        .value();
    check_budgets(call, &pod)?;
    let (namespace, name) = (call.target.namespace.clone(), call.name().to_owned());
    call.target.subresource = None;
    delete_object(call, namespace.as_deref(), &name, &options).await?;
    Ok(respond(
        StatusCode::CREATED,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

fn check_budgets(call: &Call, pod: &Value) -> Result<(), ApiError> {
    let namespace = call.namespace().unwrap_or_default();
    let prefix = format!("{namespace}/");
    for (key, entry) in call
        .api
        .store
        .snapshot("policy/poddisruptionbudgets")
        .entries
        .iter()
    {
        if !key.starts_with(&prefix) {
            continue;
        }
        let budget = entry.value();
        let Ok(selector) = LabelSelector::from_object(&budget["spec"]["selector"]) else {
            continue;
        };
        let allowed = budget["status"]["disruptionsAllowed"]
            .as_i64()
            .unwrap_or_default();
        let ready = pod["status"]["phase"] == "Running";
        if ready && allowed <= 0 && selector.matches(pod["metadata"].get("labels")) {
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            return Err(ApiError::too_many_requests(message, 10));
        }
    }
    Ok(())
}
