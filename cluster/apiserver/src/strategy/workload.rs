//! Defaults of what keeps pods running.

use serde_json::{Value, json};

use super::{items, pod, set};
use crate::status::Cause;

/// Fills the defaults of a deployment.
pub(super) fn default_deployment(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    set(Some(spec), "replicas", || json!(1));
    set(Some(spec), "strategy", || json!({}));
    set(spec.get_mut("strategy"), "type", || json!("RollingUpdate"));
    if spec["strategy"]["type"] == "RollingUpdate" {
        set(spec.get_mut("strategy"), "rollingUpdate", || json!({}));
        let rolling = &mut spec["strategy"]["rollingUpdate"];
        set(Some(rolling), "maxUnavailable", || json!("25%"));
        set(Some(rolling), "maxSurge", || json!("25%"));
    }
    set(Some(spec), "revisionHistoryLimit", || json!(10));
    set(Some(spec), "progressDeadlineSeconds", || json!(600));
    pod::default_template(spec.get_mut("template"));
}

/// Fills the defaults of a replica set.
pub(super) fn default_replica_set(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]
        .get("labels")
        .cloned();
    let is_controller = object["kind"] == "ReplicationController";
    if let Some(labels) = labels.filter(|labels| labels.is_object() && is_controller) {
        set(object.get_mut("metadata"), "labels", || labels.clone());
        set(object.get_mut("spec"), "selector", || labels);
    }
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    set(Some(spec), "replicas", || json!(1));
    pod::default_template(spec.get_mut("template"));
}

/// Fills the defaults of a stateful set.
pub(super) fn default_stateful_set(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    set(Some(spec), "replicas", || json!(1));
    set(Some(spec), "podManagementPolicy", || json!("OrderedReady"));
    set(Some(spec), "revisionHistoryLimit", || json!(10));
    set(
        Some(spec),
        "persistentVolumeClaimRetentionPolicy",
        || json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    );
    set(Some(spec), "updateStrategy", || json!({}));
    set(spec.get_mut("updateStrategy"), "type", || {
        json!("RollingUpdate")
    });
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        set(
            spec.get_mut("updateStrategy"),
            "rollingUpdate",
            || json!({}),
        );
        set(
            spec["updateStrategy"].get_mut("rollingUpdate"),
            "partition",
            || json!(0),
        );
    }
    for claim in items(spec.get_mut("volumeClaimTemplates")) {
        set(Some(claim), "apiVersion", || json!("v1"));
        set(Some(claim), "kind", || json!("PersistentVolumeClaim"));
        set(Some(claim), "status", || json!({"phase": "Pending"}));
        super::storage::default_claim(claim.get_mut("spec"));
    }
    pod::default_template(spec.get_mut("template"));
}

/// The fault of a change of what stays for a stateful set's life.
pub(super) fn check_stateful_set(old: &Value, new: &Value) -> Option<Cause> {
    let changeable = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object["spec"].clone();
        changeable
            .iter()
            .for_each(|name| super::remove(&mut spec, name));
        spec
    };
    let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    (fixed(old) != fixed(new)).then(|| Cause::forbidden("spec", why))
}

/// Fills the defaults of a daemon set.
pub(super) fn default_daemon_set(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    set(Some(spec), "revisionHistoryLimit", || json!(10));
    set(Some(spec), "updateStrategy", || json!({}));
    set(spec.get_mut("updateStrategy"), "type", || {
        json!("RollingUpdate")
    });
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        set(
            spec.get_mut("updateStrategy"),
            "rollingUpdate",
            || json!({}),
        );
        let rolling = &mut spec["updateStrategy"]["rollingUpdate"];
        set(Some(rolling), "maxUnavailable", || json!(1));
        set(Some(rolling), "maxSurge", || json!(0));
    }
    pod::default_template(spec.get_mut("template"));
}
