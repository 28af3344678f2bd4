//! Admission: what is allowed beyond roles and schemas.

use serde_json::{Value, json};

use crate::api::call::Call;
use crate::api::denied;
use crate::auth::Access;
use crate::auth::rbac::Rule;
use crate::status::{ApiError, Cause};
use crate::strategy;
use crate::values::text;

/// Namespaces that every cluster has.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Admits and completes a new object.
pub(super) fn create(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    check_namespace(call, object)?;
    check_definition(call, object)?;
    check_escalation(call, object)?;
    if call.resource.is("", "pods") {
        let namespace = call.namespace().unwrap_or_default();
        let name = object["spec"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default");
        let account = call
            .api
            .store
            .get("/serviceaccounts", &format!("{namespace}/{name}"));
        if account.is_none() && name != "default" {
            let why = format!(
                "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
            );
            let pod = object["metadata"]["name"].as_str().unwrap_or_default();
            return Err(ApiError::forbidden("", "pods", pod, &why));
        }
        let account = account.map(|entry| entry.value());
        set_priority(call, object)?;
        strategy::with_service_account(object, account.as_ref());
    }
    if call.resource.is("", "persistentvolumeclaims") {
        default_class(call, object);
    }
    Ok(())
}

/// Admits a changed object.
pub(super) fn update(call: &Call, old: &Value, object: &mut Value) -> Result<(), ApiError> {
    if old["rules"] != object["rules"] || old["subjects"] != object["subjects"] {
        check_escalation(call, object)?;
    }
    Ok(())
}

/// Admits a deletion.
pub(super) fn delete(call: &Call, name: &str) -> Result<(), ApiError> {
    if call.resource.is("", "namespaces") && IMMORTAL.contains(&name) {
        return Err(ApiError::forbidden(
            "",
            "namespaces",
            name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

fn check_namespace(call: &Call, object: &Value) -> Result<(), ApiError> {
    let Some(namespace) = call.namespace().filter(|_| call.resource.namespaced) else {
        return Ok(());
    };
    let found = call
        .api
        .store
        .get("/namespaces", namespace)
        .ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
    let found = found.value();
    if found["metadata"].get("deletionTimestamp").is_none()
        && found["status"]["phase"] != "Terminating"
    {
        return Ok(());
    }
    // Events about the end of a namespace may still be told... nowhere: as on the real server, nothing new may come.
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut error = ApiError::forbidden(&call.resource.group, &call.resource.plural, name, &why);
    if let Some(details) = &mut error.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating",
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(error)
}

fn check_definition(call: &Call, object: &Value) -> Result<(), ApiError> {
    let terminating = call
        .resource
        .custom()
        .is_some_and(|custom| custom.is_terminating);
    if !terminating {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut error =
        ApiError::method_not_allowed(&call.resource.group, &call.resource.plural, "create");
    error.message = format!(
        "create not allowed while custom resource definition is terminating: {} \"{name}\"",
        call.resource.plural
    );
    Err(error)
}

/// Gives a pod the priority of its class.
fn set_priority(call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    let class = text(&pod["spec"]["priorityClassName"]).to_owned();
    let value = match class.as_str() {
        "" => return Ok(()),
        "system-cluster-critical" => json!(2_000_000_000),
        "system-node-critical" => json!(2_000_001_000),
        _ => {
            let found = call
                .api
                .store
                .get("scheduling.k8s.io/priorityclasses", &class);
            let why = format!("no PriorityClass with name {class} was found");
            let name = text(&pod["metadata"]["name"]);
            found
                .ok_or_else(|| ApiError::forbidden("", "pods", name, &why))?
                .value()["value"]
                .clone()
        }
    };
    pod["spec"]["priority"] = value;
    Ok(())
}

fn default_class(call: &Call, claim: &mut Value) {
    if claim["spec"].get("storageClassName").is_some() {
        return;
    }
    let classes = call.api.store.snapshot("storage.k8s.io/storageclasses");
    let default = classes
        .entries
        .values()
        .map(|entry| entry.value())
        .find(|class| {
            class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"]
                == "true"
        });
    if let Some(class) = default {
        claim["spec"]["storageClassName"] = class["metadata"]["name"].clone();
    }
}

/// Nobody gives rights that they do not have.
fn check_escalation(call: &Call, object: &Value) -> Result<(), ApiError> {
    if call.resource.group != "rbac.authorization.k8s.io" {
        return Ok(());
    }
    let namespace = call.namespace();
    let (verb, group, plural, name, rules) = match call.resource.kind.as_str() {
        "Role" | "ClusterRole" => {
            let rules: Vec<Rule> =
                serde_json::from_value(object.get("rules").cloned().unwrap_or(json!([])))
                    .unwrap_or_default();
            (
                "escalate",
                call.resource.group.as_str(),
                call.resource.plural.clone(),
                object["metadata"]["name"].clone(),
                rules,
            )
        }
        _ => {
            let (kind, name) = (
                object["roleRef"]["kind"].as_str().unwrap_or_default(),
                object["roleRef"]["name"].as_str().unwrap_or_default(),
            );
            let plural = if kind == "Role" {
                "roles"
            } else {
                "clusterroles"
            };
            let rules =
                call.api
                    .authorizer
                    .rules_of_role(kind, name, namespace.unwrap_or_default());
            (
                "bind",
                call.resource.group.as_str(),
                plural.to_owned(),
                json!(name),
                rules,
            )
        }
    };
    let name = name.as_str().unwrap_or_default();
    let access = Access::Resource {
        verb,
        group,
        resource: &plural,
        namespace,
        name: Some(name),
    };
    if call.api.authorizer.allows(&call.user, access)
        || call
            .api
            .authorizer
            .covers_all(&call.user, namespace, &rules)
    {
        return Ok(());
    }
    let mut error = denied(&call.user, access);
    let missing = serde_json::to_string(&rules).unwrap_or_default();
    error.message = format!(
        "{} \"{}\" is forbidden: user \"{}\" (groups={}) is attempting to grant RBAC permissions not currently held: {missing}",
        format_args!("{}.{group}", call.resource.plural),
        object["metadata"]["name"].as_str().unwrap_or_default(),
        call.user.name,
        json!(call.user.groups),
    );
    Err(error)
}
