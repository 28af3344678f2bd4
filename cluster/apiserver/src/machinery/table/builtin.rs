//! The columns of the built-in kinds, as `kubectl get` has always shown them.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{
    CREATED_DESCRIPTION, Cell, Column, Columns, Render, cells, name_column, network, pods, rest,
    workloads,
};

/// Descriptions by `kind|column`; made by `data/generate.py`.
static DESCRIPTIONS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../data/columns.json")).unwrap_or_default()
});

/// Name, type, priority and cell of a column.
type Row = (&'static str, &'static str, i64, Render);

const AGE: Row = ("Age", "string", 0, cells::age);
const CONTAINERS: Row = ("Containers", "string", 1, workloads::container_names);
const IMAGES: Row = ("Images", "string", 1, workloads::images);
const SELECTOR: Row = ("Selector", "string", 1, workloads::pod_selector);

pub(super) fn columns(group: &str, kind: &str) -> Columns {
    let rows = rows(group, kind);
    let mut columns: Vec<Column> = rows.iter().map(|row| column(kind, row)).collect();
    // Events show their name last.
    if kind != "Event" {
        columns.insert(0, name_column());
    } else {
        columns.push(Column {
            priority: 1,
            ..name_column()
        });
    }
    let conditions = if (group, kind) == ("", "Pod") {
        Some(pods::conditions as _)
    } else {
        None
    };
    Columns {
        columns,
        conditions,
    }
}

fn column(of: &str, (name, kind, priority, render): &Row) -> Column {
    let is_created = matches!(*name, "Age" | "Created At");
    Column {
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        format: String::new(),
        description: if is_created {
            CREATED_DESCRIPTION.to_owned()
        } else {
            DESCRIPTIONS
                .get(&format!("{of}|{name}"))
                .cloned()
                .unwrap_or_default()
        },
        priority: *priority,
        cell: Cell::Render(*render),
    }
}

fn rows(group: &str, kind: &str) -> Vec<Row> {
    match group {
        "" => core(kind),
        "apps" => apps(kind),
        "batch" => batch(kind),
        "rbac.authorization.k8s.io" => permissions(kind),
        _ => others(group, kind),
    }
}

/// What is shown of kinds that have no columns of their own.
fn plain() -> Vec<Row> {
    vec![("Created At", "date", 0, cells::created)]
}

fn core(kind: &str) -> Vec<Row> {
    match kind {
        "Namespace" => vec![("Status", "string", 0, cells::phase), AGE],
        "ConfigMap" => vec![("Data", "string", 0, workloads::data_count), AGE],
        "Secret" => vec![
            ("Type", "string", 0, rest::secret_type),
            ("Data", "string", 0, workloads::data_count),
            AGE,
        ],
        "Pod" => vec![
            ("Ready", "string", 0, pods::ready),
            ("Status", "string", 0, pods::status),
            ("Restarts", "string", 0, pods::restarts),
            AGE,
            ("IP", "string", 1, pods::address),
            ("Node", "string", 1, pods::node),
            ("Nominated Node", "string", 1, pods::nominated_node),
            ("Readiness Gates", "string", 1, pods::gates),
        ],
        "Service" => vec![
            ("Type", "string", 0, network::service_type),
            ("Cluster-IP", "string", 0, network::cluster_ip),
            ("External-IP", "string", 0, network::external_ip),
            ("Port(s)", "string", 0, network::service_ports),
            AGE,
            ("Selector", "string", 1, network::service_selector),
        ],
        "Endpoints" => vec![("Endpoints", "string", 0, network::endpoints), AGE],
        "Event" => events(),
        "Node" => nodes(),
        "PersistentVolume" | "PersistentVolumeClaim" => storage(kind),
        "ResourceQuota" => vec![
            ("Request", "string", 0, rest::quota_requests),
            ("Limit", "string", 0, rest::quota_limits),
            AGE,
        ],
        "ReplicationController" => vec![
            ("Desired", "integer", 0, workloads::desired),
            ("Current", "integer", 0, workloads::current),
            ("Ready", "integer", 0, workloads::ready),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        "PodTemplate" | "LimitRange" => plain(),
        _ => vec![AGE],
    }
}

fn events() -> Vec<Row> {
    vec![
        ("Last Seen", "string", 0, rest::event_last_seen),
        ("Type", "string", 0, rest::event_type),
        ("Reason", "string", 0, rest::event_reason),
        ("Object", "string", 0, rest::event_object),
        ("Subobject", "string", 1, rest::event_part),
        ("Source", "string", 1, rest::event_source),
        ("Message", "string", 0, rest::event_message),
        ("First Seen", "string", 1, rest::event_first_seen),
        ("Count", "string", 1, rest::event_count),
    ]
}

fn nodes() -> Vec<Row> {
    vec![
        ("Status", "string", 0, rest::node_status),
        ("Roles", "string", 0, rest::node_roles),
        AGE,
        ("Version", "string", 0, rest::kubelet_version),
        ("Internal-IP", "string", 1, rest::internal_ip),
        ("External-IP", "string", 1, rest::external_ip),
        ("OS-Image", "string", 1, rest::os_image),
        ("Kernel-Version", "string", 1, rest::kernel),
        ("Container-Runtime", "string", 1, rest::runtime),
    ]
}

fn storage(kind: &str) -> Vec<Row> {
    if kind == "PersistentVolumeClaim" {
        return vec![
            ("Status", "string", 0, rest::claim_status),
            ("Volume", "string", 0, rest::claim_volume),
            ("Capacity", "string", 0, rest::claim_capacity),
            ("Access Modes", "string", 0, rest::claim_modes),
            ("StorageClass", "string", 0, rest::storage_class),
            ("VolumeAttributesClass", "string", 0, rest::attributes_class),
            AGE,
            ("VolumeMode", "string", 1, rest::volume_mode),
        ];
    }
    vec![
        ("Capacity", "string", 0, rest::volume_capacity),
        ("Access Modes", "string", 0, rest::volume_modes),
        ("Reclaim Policy", "string", 0, rest::reclaim_policy),
        ("Status", "string", 0, rest::claim_status),
        ("Claim", "string", 0, rest::volume_claim),
        ("StorageClass", "string", 0, rest::storage_class),
        ("VolumeAttributesClass", "string", 0, rest::attributes_class),
        ("Reason", "string", 0, rest::volume_reason),
        AGE,
        ("VolumeMode", "string", 1, rest::volume_mode),
    ]
}

fn apps(kind: &str) -> Vec<Row> {
    match kind {
        "Deployment" => vec![
            ("Ready", "string", 0, workloads::ready_of_desired),
            ("Up-to-date", "string", 0, workloads::updated),
            ("Available", "string", 0, workloads::available),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        "ReplicaSet" => vec![
            ("Desired", "integer", 0, workloads::desired),
            ("Current", "integer", 0, workloads::current),
            ("Ready", "integer", 0, workloads::ready),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        "StatefulSet" => vec![
            ("Ready", "string", 0, workloads::ready_of_desired),
            AGE,
            CONTAINERS,
            IMAGES,
        ],
        "DaemonSet" => vec![
            ("Desired", "integer", 0, workloads::daemon_desired),
            ("Current", "integer", 0, workloads::daemon_current),
            ("Ready", "integer", 0, workloads::daemon_ready),
            ("Up-to-date", "integer", 0, workloads::daemon_updated),
            ("Available", "integer", 0, workloads::daemon_available),
            ("Node Selector", "string", 0, workloads::node_selector),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        "ControllerRevision" => vec![
            ("Controller", "string", 0, workloads::controller),
            ("Revision", "string", 0, workloads::revision),
            AGE,
        ],
        _ => plain(),
    }
}

fn batch(kind: &str) -> Vec<Row> {
    match kind {
        "Job" => vec![
            ("Status", "string", 0, workloads::job_status),
            ("Completions", "string", 0, workloads::completions),
            ("Duration", "string", 0, workloads::job_duration),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        "CronJob" => vec![
            ("Schedule", "string", 0, workloads::schedule),
            ("Timezone", "string", 0, workloads::time_zone),
            ("Suspend", "boolean", 0, workloads::suspend),
            ("Active", "integer", 0, workloads::active),
            ("Last Schedule", "string", 0, workloads::last_schedule),
            AGE,
            CONTAINERS,
            IMAGES,
            ("Selector", "string", 1, workloads::job_selector),
        ],
        _ => plain(),
    }
}

fn permissions(kind: &str) -> Vec<Row> {
    match kind {
        "RoleBinding" | "ClusterRoleBinding" => vec![
            ("Role", "string", 0, rest::role_reference),
            AGE,
            ("Users", "string", 1, rest::users),
            ("Groups", "string", 1, rest::groups),
            ("ServiceAccounts", "string", 1, rest::service_accounts),
        ],
        _ => plain(),
    }
}

fn others(group: &str, kind: &str) -> Vec<Row> {
    match (group, kind) {
        ("discovery.k8s.io", "EndpointSlice") => vec![
            ("AddressType", "string", 0, network::address_type),
            ("Ports", "string", 0, network::slice_ports),
            ("Endpoints", "string", 0, network::slice_endpoints),
            AGE,
        ],
        ("coordination.k8s.io", "Lease") => vec![("Holder", "string", 0, rest::lease_holder), AGE],
        ("events.k8s.io", "Event") => events(),
        ("networking.k8s.io", "Ingress") => vec![
            ("Class", "string", 0, network::ingress_class),
            ("Hosts", "string", 0, network::ingress_hosts),
            ("Address", "string", 0, network::ingress_address),
            ("Ports", "string", 0, network::ingress_ports),
            AGE,
        ],
        ("networking.k8s.io", "NetworkPolicy") => {
            vec![("Pod-Selector", "string", 0, network::policy_selector), AGE]
        }
        ("policy", "PodDisruptionBudget") => vec![
            ("Min Available", "string", 0, rest::min_available),
            ("Max Unavailable", "string", 0, rest::max_unavailable),
            ("Allowed Disruptions", "integer", 0, rest::disruptions),
            AGE,
        ],
        ("autoscaling", "HorizontalPodAutoscaler") => vec![
            ("Reference", "string", 0, rest::scaled),
            ("Targets", "string", 0, rest::scale_targets),
            ("MinPods", "string", 0, rest::replicas_min),
            ("MaxPods", "string", 0, rest::replicas_max),
            ("Replicas", "string", 0, rest::replicas_now),
            AGE,
        ],
        ("storage.k8s.io", "StorageClass") => vec![
            ("Provisioner", "string", 0, rest::provisioner),
            ("ReclaimPolicy", "string", 0, rest::class_reclaim),
            ("VolumeBindingMode", "string", 0, rest::binding_mode),
            ("AllowVolumeExpansion", "string", 0, rest::expansion),
            AGE,
        ],
        ("scheduling.k8s.io", "PriorityClass") => vec![
            ("Value", "integer", 0, rest::priority_value),
            ("Global-Default", "boolean", 0, rest::is_global_default),
            AGE,
            ("PreemptionPolicy", "string", 0, rest::preemption),
        ],
        _ => plain(),
    }
}
