//! Binding: the scheduler says on which node a pod runs.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::api::call::Call;
use crate::clock;
use crate::response::{Body, json as respond};
use crate::status::ApiError;
use crate::writing::{Change, WriteOptions, body_value, update_object};

/// Binds the pod in the path.
pub(crate) async fn create(call: &mut Call) -> Result<Response<Body>, ApiError> {
    let (binding, _) = body_value(call)?;
    let options = WriteOptions::of(call, "CreateOptions")?;
    let node = binding["target"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if node.is_empty() {
        return Err(ApiError::plain_internal(
            "Binding must have a target: target.name: Required value",
        ));
    }
    let name = call.name().to_owned();
    let bind = move |pod: &mut Value| {
        let bound = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if !bound.is_empty() {
            let why = format!("pod {name} is already assigned to node \"{bound}\"");
            return Err(ApiError::conflict("", "pods/binding", &name, &why));
        }
        if pod["metadata"].get("deletionTimestamp").is_some() {
            return Err(ApiError::conflict(
                "",
                "pods/binding",
                &name,
                &format!("pod {name} is being deleted, cannot be assigned to a host"),
            ));
        }
        pod["spec"]["nodeName"] = json!(node);
        schedule(&mut pod["status"]);
        Ok(())
    };
    update_object(call, Change::Edit(Box::new(bind)), &options).await?;
    Ok(respond(
        StatusCode::CREATED,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// Says in a pod's status that it has a node.
fn schedule(status: &mut Value) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": clock::now()});
    let Some(conditions) = status["conditions"].as_array_mut() else {
        return;
    };
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(condition);
}
