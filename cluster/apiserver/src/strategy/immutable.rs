//! What an object of a kind keeps for its life.

use serde_json::Value;

use super::{pod, workload};
use crate::registry::Resource;
use crate::status::Cause;

/// Fields, as path and pointer.
type Fields = &'static [(&'static str, &'static str)];

/// Kinds and the fields that keep their value.
const KEPT: &[(&str, &str, Fields)] = &[
    ("", "Secret", &[("type", "/type")]),
    ("apps", "Deployment", &[("spec.selector", "/spec/selector")]),
    ("apps", "ReplicaSet", &[("spec.selector", "/spec/selector")]),
    ("apps", "DaemonSet", &[("spec.selector", "/spec/selector")]),
    (
        "batch",
        "Job",
        &[
            ("spec.completions", "/spec/completions"),
            ("spec.selector", "/spec/selector"),
            ("spec.template", "/spec/template"),
            ("spec.completionMode", "/spec/completionMode"),
        ],
    ),
    (
        "storage.k8s.io",
        "StorageClass",
        &[("provisioner", "/provisioner")],
    ),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        &[
            ("spec.group", "/spec/group"),
            ("spec.names.plural", "/spec/names/plural"),
            ("spec.scope", "/spec/scope"),
        ],
    ),
];

/// Faults of a change that its kind does not allow.
pub(crate) fn check_immutable(resource: &Resource, old: &Value, new: &Value) -> Vec<Cause> {
    if resource.custom().is_some() {
        return Vec::new();
    }
    let mut causes = Vec::new();
    let (group, kind) = (resource.group.as_str(), resource.kind.as_str());
    let kept = KEPT
        .iter()
        .filter(|(one, other, _)| *one == group && *other == kind);
    for (path, pointer) in kept.flat_map(|(_, _, fields)| fields.iter()) {
        let (before, after) = (old.pointer(pointer), new.pointer(pointer));
        // A suspended job has not started: its template may still change.
        let waits = kind == "Job" && *path == "spec.template" && old["spec"]["suspend"] == true;
        if before != after && !waits {
            let after = after.unwrap_or(&Value::Null);
            causes.push(Cause::invalid(*path, after, "field is immutable"));
        }
    }
    match (group, kind) {
        ("", "Pod") => causes.extend(pod::check_change(old, new)),
        ("", "ConfigMap" | "Secret") if old["immutable"] == true => {
            check_frozen(old, new, &mut causes);
        }
        ("apps", "StatefulSet") => causes.extend(workload::check_stateful_set(old, new)),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding")
            if old["roleRef"] != new["roleRef"] =>
        {
            causes.push(Cause::invalid(
                "roleRef",
                &new["roleRef"],
                "cannot change roleRef",
            ));
        }
        ("scheduling.k8s.io", "PriorityClass") if old["value"] != new["value"] => {
            causes.push(Cause::forbidden(
                "value",
                "may not be changed in an update.",
            ));
        }
        _ => {}
    }
    causes
}

/// Faults of a change of an immutable object's data.
fn check_frozen(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let why = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        causes.push(Cause::forbidden("immutable", why));
    }
    for field in ["data", "binaryData"] {
        if old[field] != new[field] {
            causes.push(Cause::forbidden(field, why));
        }
    }
}
