//! The Node object: what this host has and what it isolates, and the Lease that says it is alive.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::context::NodeContext;
use crate::pod::status::whole_seconds;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const LEASE_PERIOD: Duration = Duration::from_secs(10);
/// The Node's conditions are written at least this often.
const STATUS_PERIOD: Duration = Duration::from_secs(300);
const PODS_MAX: u32 = 250;

/// Condition type that says whether Pods of foreign images are isolated here.
pub(crate) const SANDBOX_CONDITION: &str = "quarterdeck.dev/SandboxIsolation";
const DNS_ANNOTATION: &str = "quarterdeck.dev/dns-address";

/// What this host isolates, in words.
#[derive(Clone, Debug)]
pub(crate) struct IsolationReport {
    pub(crate) is_isolated: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What the host has: cpu, memory, pods.
pub(crate) fn capacity() -> BTreeMap<String, String> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total(&text))
        .unwrap_or_default();
    let pods = PODS_MAX.to_string();
    [
        ("cpu", cpus.to_string()),
        ("memory", format!("{memory}Ki")),
        ("pods", pods),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What of the Node others may not know yet.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts {
    pub(crate) kubelet: SocketAddr,
    pub(crate) isolation: IsolationReport,
    pub(crate) dns: Option<SocketAddr>,
}

/// Creates the Node or brings it up to date.
pub(crate) async fn register(context: &NodeContext, facts: &NodeFacts) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(context.client.clone());
    let labels = json!({
        "kubernetes.io/hostname": context.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "quarterdeck.dev/sandbox-isolation": facts.isolation.is_isolated.to_string(),
    });
    let annotations = json!({DNS_ANNOTATION: facts.dns.map(|address| address.to_string())});
    let metadata =
        json!({"metadata": {"name": context.name, "labels": labels, "annotations": annotations}});
    if nodes.get_opt(&context.name).await?.is_none() {
        let node = Node {
            metadata: ObjectMeta {
                name: Some(context.name.clone()),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        nodes.create(&PostParams::default(), &node).await?;
    }
    let node = nodes
        .patch(
            &context.name,
            &PatchParams::default(),
            &Patch::Merge(metadata),
        )
        .await?;
    let before = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let status = node_status(context, facts, &before, Timestamp::now());
    let patch = Patch::Merge(json!({"status": status}));
    nodes
        .patch_status(&context.name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

fn node_status(
    context: &NodeContext,
    facts: &NodeFacts,
    before: &[NodeCondition],
    now: Timestamp,
) -> NodeStatus {
    let quantities: BTreeMap<String, Quantity> = context
        .capacity
        .iter()
        .map(|(name, value)| (name.clone(), Quantity(value.clone())))
        .collect();
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    NodeStatus {
        capacity: Some(quantities.clone()),
        allocatable: Some(quantities),
        addresses: Some(vec![
            address("InternalIP", facts.kubelet.ip().to_string()),
            address("Hostname", context.name.clone()),
        ]),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(facts.kubelet.port()),
            }),
        }),
        conditions: Some(conditions(&facts.isolation, before, now)),
        node_info: Some(node_info()),
        ..NodeStatus::default()
    }
}

fn conditions(
    isolation: &IsolationReport,
    before: &[NodeCondition],
    now: Timestamp,
) -> Vec<NodeCondition> {
    let now = Time(whole_seconds(now));
    let condition = |type_: &str, is_true: bool, reason: &str, message: &str| {
        let status = if is_true { "True" } else { "False" };
        let same = before
            .iter()
            .find(|old| old.type_ == type_ && old.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: same
                .and_then(|old| old.last_transition_time.clone())
                .or(Some(now.clone())),
        }
    };
    vec![
        condition(
            "MemoryPressure",
            false,
            "KubeletHasSufficientMemory",
            "pressure is not measured by this node",
        ),
        condition(
            "DiskPressure",
            false,
            "KubeletHasNoDiskPressure",
            "pressure is not measured by this node",
        ),
        condition(
            "PIDPressure",
            false,
            "KubeletHasSufficientPID",
            "pressure is not measured by this node",
        ),
        condition(
            SANDBOX_CONDITION,
            isolation.is_isolated,
            isolation.reason,
            &isolation.message,
        ),
        condition("Ready", true, "KubeletReady", "the node accepts Pods"),
    ]
}

fn node_info() -> NodeSystemInfo {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let release = read("/etc/os-release");
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let version = format!("v1.37.0+quarterdeck.{}", env!("CARGO_PKG_VERSION"));
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        operating_system: "linux".to_owned(),
        os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        machine_id: read("/etc/machine-id"),
        system_uuid: read("/etc/machine-id"),
        container_runtime_version: format!("quarterdeck://{}", env!("CARGO_PKG_VERSION")),
        kubelet_version: version,
        kube_proxy_version: String::new(),
        ..NodeSystemInfo::default()
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Renews the Lease, and the Node's own status less often, until the node shuts down.
pub(crate) async fn keep_alive(context: Arc<NodeContext>, facts: NodeFacts) {
    let mut lease = tokio::time::interval(LEASE_PERIOD);
    let mut status = tokio::time::interval(STATUS_PERIOD);
    status.tick().await;
    loop {
        let result = tokio::select! {
            () = context.shutdown.cancelled() => return,
            _ = lease.tick() => renew_lease(&context).await,
            _ = status.tick() => register(&context, &facts).await,
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the node could not say that it is alive");
        }
    }
}

async fn renew_lease(context: &NodeContext) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(context.client.clone(), LEASE_NAMESPACE);
    let spec = LeaseSpec {
        holder_identity: Some(context.name.clone()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = Patch::Merge(json!({"spec": spec}));
    match leases
        .patch(&context.name, &PatchParams::default(), &patch)
        .await
    {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error),
    }
    let nodes: Api<Node> = Api::all(context.client.clone());
    let node = nodes.get(&context.name).await?;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: context.name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: Some(context.name.clone()),
        namespace: Some(LEASE_NAMESPACE.to_owned()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    leases
        .create(
            &PostParams::default(),
            &Lease {
                metadata,
                spec: Some(spec),
            },
        )
        .await
        .map(drop)
}
