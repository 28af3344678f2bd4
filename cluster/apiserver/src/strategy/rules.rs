//! Small kinds: secrets, namespaces, bindings, and what their objects may never change.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::{Value, json};

use super::{items, remove, set};
use crate::registry::Resource;
use crate::status::Cause;
use crate::values::{list, text};

/// The most that a secret or a config map may hold.
const DATA_BYTES_MAX: usize = 1024 * 1024;
static DATA_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[-._a-zA-Z0-9]+$").ok());
const DATA_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// Moves text into data, and gives a secret its type.
pub(super) fn default_secret(object: &mut Value) {
    set(Some(object), "type", || json!("Opaque"));
    let given = object.get("stringData").cloned();
    remove(object, "stringData");
    if let Some(Value::Object(given)) = given
        && !given.is_empty()
    {
        set(Some(object), "data", || json!({}));
        for (name, value) in given {
            object["data"][name] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
        }
    }
}

/// Gives a namespace the label that carries its name.
pub(super) fn default_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        set(object.get_mut("metadata"), "labels", || json!({}));
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

/// Names the API group of a binding's role and subjects.
pub(super) fn default_binding(object: &mut Value) {
    let group = "rbac.authorization.k8s.io";
    let is_unset =
        |value: Option<&Value>| value.is_none_or(|value| value.is_null() || *value == "");
    if object["roleRef"].is_object() && is_unset(object["roleRef"].get("apiGroup")) {
        object["roleRef"]["apiGroup"] = json!(group);
    }
    for subject in items(object.get_mut("subjects")) {
        let named = matches!(subject["kind"].as_str(), Some("User" | "Group"));
        if named && is_unset(subject.get("apiGroup")) {
            subject["apiGroup"] = json!(group);
        }
    }
}

/// Says which directions a policy is about.
pub(super) fn default_network_policy(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    let egress = spec
        .get("egress")
        .and_then(Value::as_array)
        .is_some_and(|rules| !rules.is_empty());
    set(Some(spec), "policyTypes", || {
        if egress {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        }
    });
    for direction in ["ingress", "egress"] {
        for rule in items(spec.get_mut(direction)) {
            for port in items(rule.get_mut("ports")) {
                set(Some(port), "protocol", || json!("TCP"));
            }
        }
    }
}

/// Faults that only the kind knows.
pub(crate) fn check_new(resource: &Resource, object: &Value) -> Vec<Cause> {
    if resource.custom().is_some() {
        return Vec::new();
    }
    let mut causes = Vec::new();
    match resource.kind.as_str() {
        "ConfigMap" | "Secret" => check_data(object, &mut causes),
        "Pod" => check_pod_spec(&object["spec"], "spec", &mut causes),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            check_workload(resource, object, &mut causes);
        }
        "Job" => {
            check_pod_spec(
                &object["spec"]["template"]["spec"],
                "spec.template.spec",
                &mut causes,
            );
            let policy = &object["spec"]["template"]["spec"]["restartPolicy"];
            if *policy != "Never" && *policy != "OnFailure" {
                let supported = ["OnFailure", "Never"].map(str::to_owned);
                causes.push(Cause::not_supported(
                    "spec.template.spec.restartPolicy",
                    policy,
                    &supported,
                ));
            }
        }
        "Service" => check_service(object, &mut causes),
        "Role" | "ClusterRole" => check_rules(resource, object, &mut causes),
        "RoleBinding" | "ClusterRoleBinding" => check_binding(resource, object, &mut causes),
        "CustomResourceDefinition" => causes.extend(crate::machinery::crd::validate(object)),
        _ => {}
    }
    causes
}

fn check_data(object: &Value, causes: &mut Vec<Cause>) {
    let mut total = 0;
    let binary = object["binaryData"].as_object();
    for field in ["data", "binaryData"] {
        for (name, value) in object[field].as_object().into_iter().flatten() {
            total += value.as_str().map_or(0, str::len);
            let path = format!("{field}[{name}]");
            if DATA_KEY.as_ref().is_some_and(|rule| !rule.is_match(name)) {
                causes.push(Cause::invalid(path.clone(), &json!(name), DATA_KEY_TEXT));
            }
            if field == "data" && binary.is_some_and(|binary| binary.contains_key(name)) {
                causes.push(Cause::invalid(
                    path,
                    &json!(name),
                    "duplicate of key present in binaryData",
                ));
            }
        }
    }
    if total > DATA_BYTES_MAX {
        let path = if object["kind"] == "Secret" {
            "data"
        } else {
            "[]"
        };
        causes.push(Cause::too_long(
            path,
            &format!("may not be more than {DATA_BYTES_MAX} bytes"),
        ));
    }
    if object["kind"] == "Secret" && object["type"] == "kubernetes.io/tls" {
        for name in ["tls.crt", "tls.key"] {
            if object["data"].get(name).is_none() {
                causes.push(Cause::required(format!("data[{name}]"), ""));
            }
        }
    }
}

fn check_pod_spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array();
    if containers.is_none_or(Vec::is_empty) {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut names: Vec<&str> = Vec::new();
    for list in ["containers", "initContainers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("{path}.{list}[{index}]");
            match container["name"].as_str() {
                None | Some("") => causes.push(Cause::required(format!("{at}.name"), "")),
                Some(name) if names.contains(&name) => {
                    causes.push(Cause::duplicate(format!("{at}.name"), &json!(name)));
                }
                Some(name) => names.push(name),
            }
            // A template's image may come later; a pod's must be there.
            if container["image"].as_str().is_none_or(str::is_empty) {
                causes.push(Cause::required(format!("{at}.image"), ""));
            }
            check_mounts(spec, container, &at, causes);
        }
    }
}

fn check_mounts(spec: &Value, container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let volumes: Vec<&str> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    for (index, mount) in container["volumeMounts"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let name = mount["name"].as_str().unwrap_or_default();
        // Templates of stateful sets bring volumes of their own.
        if !volumes.contains(&name) && path.starts_with("spec.containers") {
            causes.push(Cause::not_found(
                format!("{path}.volumeMounts[{index}].name"),
                &mount["name"],
            ));
        }
    }
}

fn check_workload(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let selected = spec["selector"]["matchLabels"].as_object();
    let expressions = spec["selector"]["matchExpressions"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    if spec.get("selector").is_none_or(Value::is_null) {
        causes.push(Cause::required("spec.selector", ""));
    } else if selected.is_none_or(serde_json::Map::is_empty) && !expressions {
        causes.push(Cause::invalid(
            "spec.selector",
            &json!({}),
            &format!("empty selector is invalid for {}", resource.singular),
        ));
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if spec["strategy"]["type"] == "Recreate" && spec["strategy"]["rollingUpdate"].is_object() {
        let why = "may not be specified when strategy `type` is 'Recreate'";
        causes.push(Cause::forbidden("spec.strategy.rollingUpdate", why));
    }
    let fits = selected
        .into_iter()
        .flatten()
        .all(|(name, value)| labels.get(name) == Some(value));
    if !fits {
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
    if spec["replicas"]
        .as_i64()
        .is_some_and(|replicas| replicas < 0)
    {
        causes.push(Cause::invalid(
            "spec.replicas",
            &spec["replicas"],
            "must be greater than or equal to 0",
        ));
    }
    check_pod_spec(&spec["template"]["spec"], "spec.template.spec", causes);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if policy.is_string() && *policy != "Always" {
        causes.push(Cause::not_supported(
            "spec.template.spec.restartPolicy",
            policy,
            &["Always".to_owned()],
        ));
    }
}

fn check_service(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"].map(str::to_owned);
    if !kinds.iter().any(|kind| spec["type"] == *kind) {
        causes.push(Cause::not_supported("spec.type", &spec["type"], &kinds));
    }
    let ports = spec["ports"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if ports.is_empty() && spec["clusterIP"] != "None" && spec["type"] != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        if ports.len() > 1 && port["name"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        if !(1..=65535).contains(&port["port"].as_i64().unwrap_or_default()) {
            causes.push(Cause::invalid(
                format!("{path}.port"),
                &port["port"],
                "must be between 1 and 65535, inclusive",
            ));
        }
    }
}

fn check_binding(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    let kinds = if resource.namespaced {
        vec!["Role", "ClusterRole"]
    } else {
        vec!["ClusterRole"]
    };
    let role = &object["roleRef"];
    if !kinds.iter().any(|kind| role["kind"] == *kind) {
        let supported: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        causes.push(Cause::not_supported(
            "roleRef.kind",
            &json!(text(&role["kind"])),
            &supported,
        ));
    }
    if text(&role["name"]).is_empty() {
        causes.push(Cause::required("roleRef.name", ""));
    }
    for (index, subject) in list(&object["subjects"]).iter().enumerate() {
        if text(&subject["name"]).is_empty() {
            causes.push(Cause::required(format!("subjects[{index}].name"), ""));
        }
        match text(&subject["kind"]) {
            "ServiceAccount" if text(&subject["namespace"]).is_empty() => {
                causes.push(Cause::required(format!("subjects[{index}].namespace"), ""));
            }
            "ServiceAccount" | "User" | "Group" => {}
            other => {
                let supported = ["ServiceAccount", "User", "Group"].map(str::to_owned);
                causes.push(Cause::not_supported(
                    format!("subjects[{index}].kind"),
                    &json!(other),
                    &supported,
                ));
            }
        }
    }
}

fn check_rules(resource: &Resource, object: &Value, causes: &mut Vec<Cause>) {
    for (index, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        let has = |name: &str| rule[name].as_array().is_some_and(|list| !list.is_empty());
        if !has("verbs") {
            causes.push(Cause::required(
                format!("rules[{index}].verbs"),
                "verbs must contain at least one value",
            ));
        }
        if has("nonResourceURLs") {
            if resource.namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                causes.push(Cause::invalid(
                    format!("rules[{index}].nonResourceURLs"),
                    &rule["nonResourceURLs"],
                    why,
                ));
            }
            continue;
        }
        if !has("apiGroups") {
            causes.push(Cause::required(
                format!("rules[{index}].apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if !has("resources") {
            causes.push(Cause::required(
                format!("rules[{index}].resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}
