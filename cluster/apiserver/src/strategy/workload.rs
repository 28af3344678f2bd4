//! Defaults of what keeps pods running.

use serde_json::{Value, json};

use super::{items, pod, set};

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
    if let Some(labels) = labels.filter(Value::is_object) {
        let is_controller = object["kind"] == "ReplicationController";
        set(object.get_mut("metadata"), "labels", || labels.clone());
        if is_controller {
            set(object.get_mut("spec"), "selector", || labels);
        }
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
