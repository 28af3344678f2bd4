//! What a kind does beyond its schema: defaults that clients see, fields that the server owns, rules between fields.

mod addresses;
mod batch;
mod container;
mod immutable;
mod pod;
mod rules;
mod service;
mod storage;
mod workload;

use serde_json::{Map, Value, json};

pub(crate) use addresses::Addresses;
pub(crate) use immutable::check_immutable;
pub(crate) use pod::{quality_of_service, with_service_account};
pub(crate) use rules::check_new;
pub(crate) use service::release_addresses;

use crate::registry::Resource;

/// Fills the defaults of a built-in kind.
pub(crate) fn default(resource: &Resource, object: &mut Value) {
    if resource.custom().is_some() {
        return;
    }
    let spec = "spec";
    match resource.kind.as_str() {
        "Pod" => pod::default_pod(object),
        "PodTemplate" => pod::default_template(object.get_mut("template")),
        "Service" => service::default(object),
        "Deployment" => workload::default_deployment(object),
        "ReplicaSet" | "ReplicationController" => workload::default_replica_set(object),
        "StatefulSet" => workload::default_stateful_set(object),
        "DaemonSet" => workload::default_daemon_set(object),
        "Job" => batch::default_job(object.get_mut(spec)),
        "CronJob" => batch::default_cron_job(object),
        "PersistentVolumeClaim" => storage::default_claim(object.get_mut(spec)),
        "PersistentVolume" => storage::default_volume(object),
        "StorageClass" => storage::default_class(object),
        "Secret" => rules::default_secret(object),
        "Namespace" => rules::default_namespace(object),
        "RoleBinding" | "ClusterRoleBinding" => rules::default_binding(object),
        "NetworkPolicy" => rules::default_network_policy(object),
        "HorizontalPodAutoscaler" => set(object.get_mut(spec), "minReplicas", || json!(1)),
        "PriorityClass" => set(Some(object), "preemptionPolicy", || {
            json!("PreemptLowerPriority")
        }),
        "EndpointSlice" => default_protocols(object.get_mut("ports")),
        "CustomResourceDefinition" => crate::registry::custom::default_definition(object),
        _ => {}
    }
}

/// Sets what the server owns in a new object.
pub(crate) fn prepare_create(resource: &Resource, object: &mut Value) {
    if let Some(custom) = resource.custom() {
        if custom.has_status && resource.has_status() {
            remove(object, "status");
        }
        return;
    }
    // Status is the controllers' to write, but a node comes with its own.
    if resource.has_status() && resource.kind != "Node" {
        remove(object, "status");
    }
    match resource.kind.as_str() {
        "Pod" => {
            object["status"] = json!({"phase": "Pending", "qosClass": quality_of_service(object)});
        }
        "Namespace" => {
            set(Some(object), "spec", || json!({}));
            set(object.get_mut("spec"), "finalizers", || {
                json!(["kubernetes"])
            });
            object["status"] = json!({"phase": "Active"});
        }
        "Service" => object["status"] = json!({"loadBalancer": {}}),
        "PersistentVolumeClaim" | "PersistentVolume" => {
            object["status"] = json!({"phase": "Pending"});
        }
        "Ingress" => object["status"] = json!({"loadBalancer": {}}),
        "Deployment" | "Job" | "CronJob" => object["status"] = json!({}),
        "ReplicaSet" | "ReplicationController" => object["status"] = json!({"replicas": 0}),
        "StatefulSet" => object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
        "DaemonSet" => {
            object["status"] = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
        }
        "PodDisruptionBudget" => {
            object["status"] = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        }
        _ => {}
    }
    if resource.kind == "Job" {
        batch::select_own_pods(object);
    }
}

/// Keeps what an update may not change: the status on the main path, everything else on a status path.
pub(crate) fn prepare_update(
    resource: &Resource,
    subresource: Option<&str>,
    old: &Value,
    object: &mut Value,
) {
    match subresource {
        Some("status") => {
            let status = object.get("status").cloned();
            let managed = object["metadata"].get("managedFields").cloned();
            let version = object["metadata"].get("resourceVersion").cloned();
            // Custom resources keep all metadata; built-in kinds take labels, annotations and finalizers along.
            let metadata = if resource.custom().is_some() {
                old["metadata"].clone()
            } else {
                object["metadata"].clone()
            };
            *object = old.clone();
            object["metadata"] = metadata;
            put(&mut object["metadata"], "managedFields", managed);
            put(&mut object["metadata"], "resourceVersion", version);
            put(object, "status", status);
        }
        Some("finalize") => {
            let finalizers = object["spec"].get("finalizers").cloned();
            let version = object["metadata"].get("resourceVersion").cloned();
            *object = old.clone();
            put(&mut object["metadata"], "resourceVersion", version);
            put(&mut object["spec"], "finalizers", finalizers);
        }
        Some("ephemeralcontainers") => {
            let containers = object["spec"].get("ephemeralContainers").cloned();
            let metadata = object["metadata"].clone();
            *object = old.clone();
            object["metadata"] = metadata;
            put(&mut object["spec"], "ephemeralContainers", containers);
        }
        _ => {
            if resource.has_status() {
                put(object, "status", old.get("status").cloned());
            }
            if resource.kind == "Namespace" && resource.group.is_empty() {
                put(
                    &mut object["spec"],
                    "finalizers",
                    old["spec"].get("finalizers").cloned(),
                );
            }
            if resource.kind == "Service" && resource.group.is_empty() {
                service::keep_addresses(old, object);
            }
            if resource.kind == "Pod" && resource.group.is_empty() {
                pod::keep(old, object);
            }
        }
    }
}

/// Whether updates of the kind count in `metadata.generation`.
pub(crate) fn counts_generations(resource: &Resource) -> bool {
    resource.custom().is_some()
        || matches!(
            resource.kind.as_str(),
            "Deployment"
                | "ReplicaSet"
                | "StatefulSet"
                | "DaemonSet"
                | "Job"
                | "CronJob"
                | "ReplicationController"
                | "Ingress"
                | "NetworkPolicy"
                | "PodDisruptionBudget"
                | "CustomResourceDefinition"
                | "EndpointSlice"
                | "Pod"
                | "PriorityClass"
        )
}

/// Sets a field that is missing or null.
pub(crate) fn set(object: Option<&mut Value>, name: &str, default: impl FnOnce() -> Value) {
    let Some(fields) = object.and_then(Value::as_object_mut) else {
        return;
    };
    if fields.get(name).is_none_or(Value::is_null) {
        fields.insert(name.to_owned(), default());
    }
}

/// Sets or removes a field.
pub(crate) fn put(object: &mut Value, name: &str, value: Option<Value>) {
    if object.is_null() && value.is_some() {
        *object = Value::Object(Map::new());
    }
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => {
            fields.insert(name.to_owned(), value);
        }
        None => {
            fields.shift_remove(name);
        }
    }
}

/// Removes a field.
pub(crate) fn remove(object: &mut Value, name: &str) {
    put(object, name, None);
}

/// The items of a list, none when it is no list.
pub(crate) fn items(list: Option<&mut Value>) -> std::slice::IterMut<'_, Value> {
    list.and_then(Value::as_array_mut)
        .map(|items| items.iter_mut())
        .unwrap_or_default()
}

fn default_protocols(ports: Option<&mut Value>) {
    for port in items(ports) {
        set(Some(port), "protocol", || json!("TCP"));
        set(Some(port), "name", || json!(""));
    }
}
