//! The kinds of Kubernetes itself that are served, as one table.

use std::sync::Arc;

use super::{Origin, Resource, Subresource, Verbs};
use crate::machinery::crd::ScalePaths;

/// A row of the table.
struct Row {
    group_version: (&'static str, &'static str),
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    short_names: &'static [&'static str],
    in_all: bool,
    subresources: &'static [&'static str],
    field_labels: &'static [&'static str],
}

const CORE: (&str, &str) = ("", "v1");
const APPS: (&str, &str) = ("apps", "v1");
const BATCH: (&str, &str) = ("batch", "v1");
const RBAC: (&str, &str) = ("rbac.authorization.k8s.io", "v1");
const AUTHORIZATION: (&str, &str) = ("authorization.k8s.io", "v1");
const AUTHENTICATION: (&str, &str) = ("authentication.k8s.io", "v1");
const NETWORKING: (&str, &str) = ("networking.k8s.io", "v1");

const STATUS: &[&str] = &["status"];
const SCALED: &[&str] = &["scale", "status"];
const POD: &[&str] = &[
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "log",
    "portforward",
    "resize",
    "status",
];
const POD_LABELS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];
const EVENT_LABELS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const NEW_EVENT_LABELS: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

const fn row(
    group_version: (&'static str, &'static str),
    plural: &'static str,
    kind: &'static str,
) -> Row {
    Row {
        group_version,
        plural,
        kind,
        namespaced: true,
        short_names: &[],
        in_all: false,
        subresources: &[],
        field_labels: &[],
    }
}

impl Row {
    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn in_all(mut self) -> Self {
        self.in_all = true;
        self
    }

    const fn with(mut self, subresources: &'static [&'static str]) -> Self {
        self.subresources = subresources;
        self
    }

    const fn fields(mut self, labels: &'static [&'static str]) -> Self {
        self.field_labels = labels;
        self
    }
}

const ROWS: &[Row] = &[
    row(CORE, "bindings", "Binding"),
    row(CORE, "configmaps", "ConfigMap").short(&["cm"]),
    row(CORE, "endpoints", "Endpoints").short(&["ep"]),
    row(CORE, "events", "Event")
        .short(&["ev"])
        .fields(EVENT_LABELS),
    row(CORE, "limitranges", "LimitRange").short(&["limits"]),
    row(CORE, "namespaces", "Namespace")
        .cluster()
        .short(&["ns"])
        .with(&["finalize", "status"])
        .fields(&["status.phase"]),
    row(CORE, "nodes", "Node")
        .cluster()
        .short(&["no"])
        .with(STATUS)
        .fields(&["spec.unschedulable"]),
    row(CORE, "persistentvolumeclaims", "PersistentVolumeClaim")
        .short(&["pvc"])
        .with(STATUS),
    row(CORE, "persistentvolumes", "PersistentVolume")
        .cluster()
        .short(&["pv"])
        .with(STATUS),
    row(CORE, "pods", "Pod")
        .short(&["po"])
        .in_all()
        .with(POD)
        .fields(POD_LABELS),
    row(CORE, "podtemplates", "PodTemplate"),
    row(CORE, "replicationcontrollers", "ReplicationController")
        .short(&["rc"])
        .in_all()
        .with(SCALED)
        .fields(&["status.replicas"]),
    row(CORE, "resourcequotas", "ResourceQuota")
        .short(&["quota"])
        .with(STATUS),
    row(CORE, "secrets", "Secret").fields(&["type"]),
    row(CORE, "serviceaccounts", "ServiceAccount")
        .short(&["sa"])
        .with(&["token"]),
    row(CORE, "services", "Service")
        .short(&["svc"])
        .in_all()
        .with(STATUS)
        .fields(&["spec.clusterIP", "spec.type"]),
    row(APPS, "controllerrevisions", "ControllerRevision"),
    row(APPS, "daemonsets", "DaemonSet")
        .short(&["ds"])
        .in_all()
        .with(STATUS),
    row(APPS, "deployments", "Deployment")
        .short(&["deploy"])
        .in_all()
        .with(SCALED),
    row(APPS, "replicasets", "ReplicaSet")
        .short(&["rs"])
        .in_all()
        .with(SCALED)
        .fields(&["status.replicas"]),
    row(APPS, "statefulsets", "StatefulSet")
        .short(&["sts"])
        .in_all()
        .with(SCALED)
        .fields(&["status.successful"]),
    row(("events.k8s.io", "v1"), "events", "Event")
        .short(&["ev"])
        .fields(NEW_EVENT_LABELS),
    row(AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview").cluster(),
    row(AUTHENTICATION, "tokenreviews", "TokenReview").cluster(),
    row(
        AUTHORIZATION,
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
    ),
    row(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
    )
    .cluster(),
    row(
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
    )
    .cluster(),
    row(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview").cluster(),
    row(
        ("autoscaling", "v2"),
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
    )
    .short(&["hpa"])
    .in_all()
    .with(STATUS),
    row(BATCH, "cronjobs", "CronJob")
        .short(&["cj"])
        .in_all()
        .with(STATUS),
    row(BATCH, "jobs", "Job")
        .in_all()
        .with(STATUS)
        .fields(&["status.successful"]),
    row(NETWORKING, "ingressclasses", "IngressClass").cluster(),
    row(NETWORKING, "ingresses", "Ingress")
        .short(&["ing"])
        .with(STATUS),
    row(NETWORKING, "networkpolicies", "NetworkPolicy").short(&["netpol"]),
    row(
        ("policy", "v1"),
        "poddisruptionbudgets",
        "PodDisruptionBudget",
    )
    .short(&["pdb"])
    .with(STATUS),
    row(RBAC, "clusterrolebindings", "ClusterRoleBinding").cluster(),
    row(RBAC, "clusterroles", "ClusterRole").cluster(),
    row(RBAC, "rolebindings", "RoleBinding"),
    row(RBAC, "roles", "Role"),
    row(("storage.k8s.io", "v1"), "storageclasses", "StorageClass")
        .cluster()
        .short(&["sc"]),
    row(
        ("apiextensions.k8s.io", "v1"),
        "customresourcedefinitions",
        "CustomResourceDefinition",
    )
    .cluster()
    .short(&["crd", "crds"])
    .with(STATUS),
    row(
        ("scheduling.k8s.io", "v1"),
        "priorityclasses",
        "PriorityClass",
    )
    .cluster()
    .short(&["pc"]),
    row(("coordination.k8s.io", "v1"), "leases", "Lease"),
    row(
        ("discovery.k8s.io", "v1"),
        "endpointslices",
        "EndpointSlice",
    ),
];

/// The built-in resources, in the order in which their groups are listed.
pub(super) fn resources() -> impl Iterator<Item = Resource> {
    ROWS.iter().map(resource)
}

fn resource(row: &Row) -> Resource {
    let (group, version) = row.group_version;
    let owned = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<String>>()
    };
    let mut categories = Vec::new();
    if row.in_all {
        categories.push("all".to_owned());
    }
    if row.kind == "CustomResourceDefinition" {
        categories.push("api-extensions".to_owned());
    }
    // The two event kinds are two views of one shelf.
    let shelf_group = if row.plural == "events" { "" } else { group };
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: row.plural.to_owned(),
        singular: row.kind.to_ascii_lowercase(),
        kind: row.kind.to_owned(),
        list_kind: format!("{}List", row.kind),
        namespaced: row.namespaced,
        short_names: owned(row.short_names),
        categories,
        verbs: verbs(row),
        subresources: row
            .subresources
            .iter()
            .map(|name| subresource(row, name))
            .collect(),
        scale: row.subresources.contains(&"scale").then(scale),
        shelf: Arc::from(format!("{shelf_group}/{}", row.plural)),
        field_labels: owned(row.field_labels),
        origin: Origin::BuiltIn,
    }
}

fn verbs(row: &Row) -> Verbs {
    match row.group_version.0 {
        "authentication.k8s.io" | "authorization.k8s.io" => Verbs::CreateOnly,
        _ if row.plural == "namespaces" => Verbs::NoCollectionDeletion,
        _ if row.plural == "bindings" => Verbs::CreateOnly,
        _ => Verbs::All,
    }
}

fn scale() -> ScalePaths {
    ScalePaths {
        spec_replicas: ".spec.replicas".to_owned(),
        status_replicas: ".status.replicas".to_owned(),
        selector: ".spec.selector".to_owned(),
    }
}

fn subresource(row: &Row, name: &str) -> Subresource {
    let (group_version, kind, verbs): (
        Option<(&'static str, &'static str)>,
        &str,
        &'static [&'static str],
    ) = match name {
        "scale" => (
            Some(("autoscaling", "v1")),
            "Scale",
            &["get", "patch", "update"],
        ),
        "token" => (
            Some(("authentication.k8s.io", "v1")),
            "TokenRequest",
            &["create"],
        ),
        "eviction" => (Some(("policy", "v1")), "Eviction", &["create"]),
        "binding" => (None, "Binding", &["create"]),
        "exec" => (None, "PodExecOptions", &["create", "get"]),
        "attach" => (None, "PodAttachOptions", &["create", "get"]),
        "portforward" => (None, "PodPortForwardOptions", &["create", "get"]),
        "log" => (None, row.kind, &["get"]),
        "finalize" => (None, row.kind, &["update"]),
        _ => (None, row.kind, &["get", "patch", "update"]),
    };
    Subresource {
        name: name.to_owned(),
        group_version,
        kind: kind.to_owned(),
        verbs,
    }
}
