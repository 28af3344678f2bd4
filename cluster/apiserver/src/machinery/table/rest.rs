//! Cells of nodes, storage, events, permissions and what else there is.

use serde_json::{Value, json};

use super::age;
use super::cells::{age_at, joined, list, number, text, text_or};

pub(super) fn node_status(node: &Value, _now: &str) -> Value {
    let status = match super::cells::condition(node, "Ready") {
        Some(ready) if text(ready, "/status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let is_cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    json!(if is_cordoned {
        format!("{status},SchedulingDisabled")
    } else {
        status.to_owned()
    })
}

pub(super) fn node_roles(node: &Value, _now: &str) -> Value {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    roles.sort_unstable();
    joined(roles.into_iter())
}

pub(super) fn kubelet_version(node: &Value, _now: &str) -> Value {
    json!(text(node, "/status/nodeInfo/kubeletVersion"))
}

fn node_address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let addresses = list(node, "/status/addresses");
    addresses
        .iter()
        .find(|one| text(one, "/type") == kind)
        .map_or("<none>", |one| text(one, "/address"))
}

pub(super) fn internal_ip(node: &Value, _now: &str) -> Value {
    json!(node_address(node, "InternalIP"))
}

pub(super) fn external_ip(node: &Value, _now: &str) -> Value {
    json!(node_address(node, "ExternalIP"))
}

pub(super) fn os_image(node: &Value, _now: &str) -> Value {
    json!(text_or(node, "/status/nodeInfo/osImage", "<unknown>"))
}

pub(super) fn kernel(node: &Value, _now: &str) -> Value {
    let kernel = text_or(node, "/status/nodeInfo/kernelVersion", "<unknown>");
    match text(node, "/status/nodeInfo/architecture") {
        "" => json!(kernel),
        architecture => json!(format!("{kernel} ({architecture})")),
    }
}

pub(super) fn runtime(node: &Value, _now: &str) -> Value {
    json!(text_or(
        node,
        "/status/nodeInfo/containerRuntimeVersion",
        "<unknown>"
    ))
}

pub(super) fn secret_type(secret: &Value, _now: &str) -> Value {
    json!(text(secret, "/type"))
}

pub(super) fn claim_status(claim: &Value, _now: &str) -> Value {
    let is_going = !text(claim, "/metadata/deletionTimestamp").is_empty();
    json!(if is_going {
        "Terminating"
    } else {
        text(claim, "/status/phase")
    })
}

pub(super) fn claim_volume(claim: &Value, _now: &str) -> Value {
    json!(text(claim, "/spec/volumeName"))
}

pub(super) fn claim_capacity(claim: &Value, _now: &str) -> Value {
    let is_bound = !text(claim, "/spec/volumeName").is_empty();
    json!(if is_bound {
        text(claim, "/status/capacity/storage")
    } else {
        ""
    })
}

fn modes(modes: &[Value]) -> Value {
    let short = modes
        .iter()
        .filter_map(Value::as_str)
        .map(|mode| match mode {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            other => other,
        });
    json!(short.collect::<Vec<_>>().join(","))
}

pub(super) fn claim_modes(claim: &Value, _now: &str) -> Value {
    let is_bound = !text(claim, "/spec/volumeName").is_empty();
    if is_bound {
        modes(list(claim, "/status/accessModes"))
    } else {
        json!("")
    }
}

pub(super) fn storage_class(object: &Value, _now: &str) -> Value {
    json!(text(object, "/spec/storageClassName"))
}

pub(super) fn attributes_class(object: &Value, _now: &str) -> Value {
    json!(text_or(
        object,
        "/spec/volumeAttributesClassName",
        "<unset>"
    ))
}

pub(super) fn volume_mode(object: &Value, _now: &str) -> Value {
    json!(text_or(object, "/spec/volumeMode", "<unset>"))
}

pub(super) fn volume_capacity(volume: &Value, _now: &str) -> Value {
    json!(text(volume, "/spec/capacity/storage"))
}

pub(super) fn volume_modes(volume: &Value, _now: &str) -> Value {
    modes(list(volume, "/spec/accessModes"))
}

pub(super) fn reclaim_policy(volume: &Value, _now: &str) -> Value {
    json!(text(volume, "/spec/persistentVolumeReclaimPolicy"))
}

pub(super) fn volume_claim(volume: &Value, _now: &str) -> Value {
    match text(volume, "/spec/claimRef/name") {
        "" => json!(""),
        name => json!(format!(
            "{}/{name}",
            text(volume, "/spec/claimRef/namespace")
        )),
    }
}

pub(super) fn volume_reason(volume: &Value, _now: &str) -> Value {
    json!(text(volume, "/status/reason"))
}

pub(super) fn provisioner(class: &Value, _now: &str) -> Value {
    json!(text(class, "/provisioner"))
}

pub(super) fn class_reclaim(class: &Value, _now: &str) -> Value {
    json!(text_or(class, "/reclaimPolicy", "Delete"))
}

pub(super) fn binding_mode(class: &Value, _now: &str) -> Value {
    json!(text_or(class, "/volumeBindingMode", "Immediate"))
}

pub(super) fn expansion(class: &Value, _now: &str) -> Value {
    json!(class.get("allowVolumeExpansion") == Some(&Value::Bool(true)))
}

pub(super) fn lease_holder(lease: &Value, _now: &str) -> Value {
    json!(text(lease, "/spec/holderIdentity"))
}

pub(super) fn priority_value(class: &Value, _now: &str) -> Value {
    json!(number(class, "/value"))
}

pub(super) fn is_global_default(class: &Value, _now: &str) -> Value {
    json!(class.get("globalDefault") == Some(&Value::Bool(true)))
}

pub(super) fn preemption(class: &Value, _now: &str) -> Value {
    json!(text_or(class, "/preemptionPolicy", "PreemptLowerPriority"))
}

pub(super) fn role_reference(binding: &Value, _now: &str) -> Value {
    json!(format!(
        "{}/{}",
        text(binding, "/roleRef/kind"),
        text(binding, "/roleRef/name")
    ))
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = list(binding, "/subjects")
        .iter()
        .filter(|subject| text(subject, "/kind") == kind);
    let names = of_kind.map(|subject| match text(subject, "/namespace") {
        "" => text(subject, "/name").to_owned(),
        namespace => format!("{namespace}/{}", text(subject, "/name")),
    });
    json!(names.collect::<Vec<_>>().join(", "))
}

pub(super) fn users(binding: &Value, _now: &str) -> Value {
    subjects(binding, "User")
}

pub(super) fn groups(binding: &Value, _now: &str) -> Value {
    subjects(binding, "Group")
}

pub(super) fn service_accounts(binding: &Value, _now: &str) -> Value {
    subjects(binding, "ServiceAccount")
}

pub(super) fn event_last_seen(event: &Value, now: &str) -> Value {
    let series = text(event, "/series/lastObservedTime");
    let last = text_or(
        event,
        "/lastTimestamp",
        text_or(event, "/deprecatedLastTimestamp", text(event, "/eventTime")),
    );
    let time = if series.is_empty() { last } else { series };
    json!(if time.is_empty() {
        "<unknown>".to_owned()
    } else {
        age::since(time, now)
    })
}

pub(super) fn event_first_seen(event: &Value, now: &str) -> Value {
    for pointer in ["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"] {
        if !text(event, pointer).is_empty() {
            return json!(age_at(event, pointer, now));
        }
    }
    json!("<unknown>")
}

pub(super) fn event_type(event: &Value, _now: &str) -> Value {
    json!(text(event, "/type"))
}

pub(super) fn event_reason(event: &Value, _now: &str) -> Value {
    json!(text(event, "/reason"))
}

fn involved(event: &Value) -> &Value {
    event
        .get("involvedObject")
        .or_else(|| event.get("regarding"))
        .unwrap_or(&Value::Null)
}

pub(super) fn event_object(event: &Value, _now: &str) -> Value {
    let object = involved(event);
    let kind = text(object, "/kind").to_lowercase();
    match text(object, "/name") {
        "" => json!(kind),
        name => json!(format!("{kind}/{name}")),
    }
}

pub(super) fn event_part(event: &Value, _now: &str) -> Value {
    json!(text(involved(event), "/fieldPath"))
}

pub(super) fn event_source(event: &Value, _now: &str) -> Value {
    let component = text_or(
        event,
        "/source/component",
        text(event, "/reportingComponent"),
    );
    let host = text_or(event, "/source/host", text(event, "/reportingInstance"));
    json!(if host.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {host}")
    })
}

pub(super) fn event_message(event: &Value, _now: &str) -> Value {
    json!(text_or(event, "/message", text(event, "/note")).trim())
}

pub(super) fn event_count(event: &Value, _now: &str) -> Value {
    let counted = [
        number(event, "/series/count"),
        number(event, "/count"),
        number(event, "/deprecatedCount"),
    ];
    json!(counted.into_iter().find(|count| *count > 0).unwrap_or(1))
}

fn allowance(budget: &Value, pointer: &str) -> Value {
    match budget.pointer(pointer) {
        None | Some(Value::Null) => json!("N/A"),
        Some(Value::String(text)) => json!(text),
        Some(other) => json!(other.to_string()),
    }
}

pub(super) fn min_available(budget: &Value, _now: &str) -> Value {
    allowance(budget, "/spec/minAvailable")
}

pub(super) fn max_unavailable(budget: &Value, _now: &str) -> Value {
    allowance(budget, "/spec/maxUnavailable")
}

pub(super) fn disruptions(budget: &Value, _now: &str) -> Value {
    json!(number(budget, "/status/disruptionsAllowed"))
}

fn quota(object: &Value, wants_limits: bool) -> Value {
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    let mut parts: Vec<String> = Vec::new();
    for (name, most) in hard.into_iter().flatten() {
        if name.starts_with("limits.") == wants_limits {
            let used = object
                .pointer("/status/used")
                .and_then(|used| used.get(name))
                .and_then(Value::as_str);
            parts.push(format!(
                "{name}: {}/{}",
                used.unwrap_or("0"),
                most.as_str().unwrap_or_default()
            ));
        }
    }
    parts.sort();
    json!(parts.join(", "))
}

pub(super) fn quota_requests(object: &Value, _now: &str) -> Value {
    quota(object, false)
}

pub(super) fn quota_limits(object: &Value, _now: &str) -> Value {
    quota(object, true)
}

pub(super) fn scaled(scaler: &Value, _now: &str) -> Value {
    json!(format!(
        "{}/{}",
        text(scaler, "/spec/scaleTargetRef/kind"),
        text(scaler, "/spec/scaleTargetRef/name")
    ))
}

pub(super) fn scale_targets(scaler: &Value, _now: &str) -> Value {
    let parts: Vec<String> = list(scaler, "/spec/metrics")
        .iter()
        .map(|metric| {
            let name = text(metric, "/resource/name");
            let utilization = metric
                .pointer("/resource/target/averageUtilization")
                .and_then(Value::as_i64);
            utilization.map_or_else(
                || format!("{name}: <unknown>"),
                |target| format!("{name}: <unknown>/{target}%"),
            )
        })
        .collect();
    json!(if parts.is_empty() {
        "<none>".to_owned()
    } else {
        parts.join(", ")
    })
}

pub(super) fn replicas_min(scaler: &Value, _now: &str) -> Value {
    json!(
        scaler
            .pointer("/spec/minReplicas")
            .map_or_else(|| "<unset>".to_owned(), Value::to_string)
    )
}

pub(super) fn replicas_max(scaler: &Value, _now: &str) -> Value {
    json!(number(scaler, "/spec/maxReplicas"))
}

pub(super) fn replicas_now(scaler: &Value, _now: &str) -> Value {
    json!(number(scaler, "/status/currentReplicas"))
}
