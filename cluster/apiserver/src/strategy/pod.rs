//! Pods: defaults, the service account's token volume, quality of service.

use serde_json::{Map, Value, json};

use super::{container, items, put, remove, set};
use crate::machinery::quantity::Quantity;
use crate::status::Cause;

/// Where every container finds its identity.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const UNCHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Fills the defaults of a pod.
pub(super) fn default_pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    default_spec(spec);
    set(Some(spec), "enableServiceLinks", || json!(true));
    for list in ["containers", "initContainers"] {
        for container in items(spec.get_mut(list)) {
            request_limits(container);
        }
    }
}

/// Fills the defaults of a pod template.
pub(super) fn default_template(mut template: Option<&mut Value>) {
    // Go leaves out empty maps, so that they are no different from none.
    if let Some(metadata) = template
        .as_mut()
        .and_then(|template| template.get_mut("metadata"))
    {
        for name in ["labels", "annotations"] {
            if metadata[name].as_object().is_some_and(Map::is_empty) {
                remove(metadata, name);
            }
        }
    }
    if let Some(spec) = template
        .and_then(|template| template.get_mut("spec"))
        .filter(|spec| spec.is_object())
    {
        default_spec(spec);
    }
}

fn default_spec(spec: &mut Value) {
    set(Some(spec), "restartPolicy", || json!("Always"));
    set(Some(spec), "dnsPolicy", || json!("ClusterFirst"));
    set(Some(spec), "terminationGracePeriodSeconds", || json!(30));
    set(Some(spec), "securityContext", || json!({}));
    set(Some(spec), "schedulerName", || json!("default-scheduler"));
    // Both names of the account are kept equal, as older clients read the older one.
    if let Some(account) = spec
        .get("serviceAccountName")
        .filter(|name| name.is_string())
        .cloned()
    {
        put(spec, "serviceAccount", Some(account));
    } else if let Some(account) = spec
        .get("serviceAccount")
        .filter(|name| name.is_string())
        .cloned()
    {
        put(spec, "serviceAccountName", Some(account));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(spec.get_mut(list)) {
            container::default(container);
        }
    }
    for volume in items(spec.get_mut("volumes")) {
        container::default_volume(volume);
    }
}

/// What is limited is also requested.
fn request_limits(container: &mut Value) {
    let Some(limits) = container["resources"]
        .get("limits")
        .and_then(Value::as_object)
        .cloned()
    else {
        return;
    };
    for (name, limit) in limits {
        set(container.get_mut("resources"), "requests", || json!({}));
        let requests = container["resources"].get_mut("requests");
        set(requests, &name, || limit);
    }
}

/// Gives a new pod its account, its token volume and what the scheduler expects.
pub(crate) fn with_service_account(pod: &mut Value, account: Option<&Value>) {
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    set(Some(spec), "serviceAccountName", || json!("default"));
    let name = spec["serviceAccountName"].clone();
    put(spec, "serviceAccount", Some(name));
    set(Some(spec), "priority", || json!(0));
    set(Some(spec), "preemptionPolicy", || {
        json!("PreemptLowerPriority")
    });
    tolerate_short_absence(spec);
    let wanted = spec
        .get("automountServiceAccountToken")
        .and_then(Value::as_bool);
    let allowed = account
        .and_then(|account| account.get("automountServiceAccountToken"))
        .and_then(Value::as_bool);
    if !wanted.or(allowed).unwrap_or(true) {
        return;
    }
    if let Some(secrets) = account
        .and_then(|account| account.get("imagePullSecrets"))
        .filter(|secrets| secrets.is_array())
    {
        set(Some(spec), "imagePullSecrets", || secrets.clone());
    }
    mount_token(spec);
}

fn mount_token(spec: &mut Value) {
    let existing = spec["volumes"].as_array().and_then(|volumes| {
        volumes
            .iter()
            .filter_map(|volume| volume["name"].as_str())
            .find(|name| name.starts_with("kube-api-access-"))
            .map(str::to_owned)
    });
    let volume = existing
        .clone()
        .unwrap_or_else(|| format!("kube-api-access-{}", crate::names::suffix()));
    let mut used = false;
    for list in ["containers", "initContainers"] {
        for container in items(spec.get_mut(list)) {
            let mounts = container["volumeMounts"].as_array();
            if mounts
                .is_some_and(|mounts| mounts.iter().any(|mount| mount["mountPath"] == TOKEN_PATH))
            {
                continue;
            }
            set(Some(container), "volumeMounts", || json!([]));
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
                used = true;
            }
        }
    }
    if !used || existing.is_some() {
        return;
    }
    set(Some(spec), "volumes", || json!([]));
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ], "defaultMode": 420}}));
    }
}

fn tolerate_short_absence(spec: &mut Value) {
    set(Some(spec), "tolerations", || json!([]));
    let Some(tolerations) = spec["tolerations"].as_array_mut() else {
        return;
    };
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let tolerated = tolerations
            .iter()
            .any(|toleration| toleration["key"] == key || toleration.get("key").is_none());
        if !tolerated {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// What an update of a pod cannot take away.
pub(super) fn keep(old: &Value, pod: &mut Value) {
    for name in ["nodeName", "serviceAccountName", "serviceAccount"] {
        if pod["spec"].get(name).is_none() {
            let value = old["spec"].get(name).cloned();
            put(&mut pod["spec"], name, value);
        }
    }
}

/// The fault of a change of what stays for a pod's life: all but images, deadline and tolerations.
pub(super) fn check_change(old: &Value, new: &Value) -> Option<Cause> {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for name in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
        ] {
            remove(&mut spec, name);
        }
        for list in ["containers", "initContainers"] {
            for container in items(spec.get_mut(list)) {
                remove(container, "image");
            }
        }
        spec
    };
    (fixed(old) != fixed(new)).then(|| Cause::forbidden("spec", UNCHANGEABLE))
}

/// The quality of service class that follows from requests and limits.
pub(crate) fn quality_of_service(pod: &Value) -> &'static str {
    let containers: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .collect();
    let amount = |container: &Value, kind: &str, name: &str| {
        container["resources"][kind]
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .filter(|text| !is_zero(text))
    };
    let mut any = false;
    let mut guaranteed = true;
    for container in containers {
        for name in ["cpu", "memory"] {
            let (request, limit) = (
                amount(container, "requests", name),
                amount(container, "limits", name),
            );
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_zero(text: &str) -> bool {
    Quantity::parse(text).is_some_and(|quantity| quantity.millis() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resources: &Value, expected: &str) {
        let pod = json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
        assert_eq!(quality_of_service(&pod), expected);
    }

    #[test]
    fn quality_follows_requests_and_limits() {
        check(&json!({}), "BestEffort");
        check(&json!({"requests": {"cpu": "1"}}), "Burstable");
        check(
            &json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
            "Guaranteed",
        );
        check(
            &json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}),
            "Burstable",
        );
        check(&json!({"limits": {"cpu": "1"}}), "Burstable");
    }

    #[test]
    fn a_new_pod_gets_its_token_once() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        with_service_account(&mut pod, None);
        assert_eq!(
            pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"],
            TOKEN_PATH
        );
        let once = pod.clone();
        with_service_account(&mut pod, None);
        assert_eq!(pod, once);
    }
}
