//! The children of a Workspace: token, home, network policy and Pod. Cannot fail.

use std::collections::BTreeMap;

use crds::names::{COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, TOKEN_FIELD, WORKSPACE_LABEL};
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{PersistentVolumeClaim, Pod, Secret},
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
            NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::api::ObjectMeta;
use protocol::secret::SecretString;

use super::{
    pod::{GATE_PORT, pod},
    validate::ValidWorkspace,
};
use crate::{context::Settings, quantities};

/// Networks that a gate does not reach: private ones, the node's own and the cloud's metadata.
const PRIVATE_NETWORKS: [&str; 6] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
];

/// What a Workspace owns.
#[derive(Debug, Clone)]
pub(super) struct Children {
    pub(super) secret: Secret,
    pub(super) claim: PersistentVolumeClaim,
    pub(super) policy: NetworkPolicy,
    pub(super) pod: Pod,
}

/// The name of the Secret with a gate's token.
pub(crate) fn token_secret_name(workspace: &str) -> String {
    format!("{workspace}-workspace")
}

pub(super) fn claim_name(workspace: &str) -> String {
    format!("{workspace}-home")
}

pub(super) fn policy_name(workspace: &str) -> String {
    format!("{workspace}-workspace")
}

pub(super) fn build(
    workspace: &ValidWorkspace,
    token: &SecretString,
    settings: &Settings,
) -> Children {
    let name = &workspace.key.name;
    Children {
        secret: Secret {
            metadata: metadata(workspace, &token_secret_name(name)),
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(
                TOKEN_FIELD.to_owned(),
                ByteString(token.expose().as_bytes().to_vec()),
            )])),
            ..Secret::default()
        },
        claim: PersistentVolumeClaim {
            metadata: metadata(workspace, &claim_name(name)),
            spec: Some(quantities::claim(&workspace.template.home)),
            status: None,
        },
        policy: NetworkPolicy {
            metadata: metadata(workspace, &policy_name(name)),
            spec: Some(policy(workspace, settings)),
        },
        pod: pod(workspace, settings),
    }
}

/// The domains that programs may reach.
pub(super) fn domains(workspace: &ValidWorkspace) -> &[String] {
    workspace
        .template
        .network
        .as_ref()
        .map(|network| &*network.egress.domains)
        .unwrap_or_default()
}

pub(super) fn metadata(workspace: &ValidWorkspace, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(workspace.key.namespace.clone()),
        labels: Some(BTreeMap::from([
            (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
            (WORKSPACE_LABEL.to_owned(), workspace.key.name.clone()),
        ])),
        owner_references: Some(vec![workspace.owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// Inwards only the agent runtime, to the gate. Outwards nothing; with domains, the public web and names for the gate.
fn policy(workspace: &ValidWorkspace, settings: &Settings) -> NetworkPolicySpec {
    let labels = |key: &str, value: &str| LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        match_expressions: None,
    };
    let runtime = NetworkPolicyPeer {
        namespace_selector: Some(labels(
            "kubernetes.io/metadata.name",
            &settings.system_namespace,
        )),
        pod_selector: Some(labels(COMPONENT_LABEL, "agents")),
        ip_block: None,
    };
    let port = |protocol: &str, number: i32| NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    };
    let names = NetworkPolicyEgressRule {
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
        to: None,
    };
    let web = NetworkPolicyEgressRule {
        ports: Some(vec![port("TCP", 80), port("TCP", 443)]),
        to: Some(vec![NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: "0.0.0.0/0".to_owned(),
                except: Some(PRIVATE_NETWORKS.map(str::to_owned).to_vec()),
            }),
            ..NetworkPolicyPeer::default()
        }]),
    };
    NetworkPolicySpec {
        pod_selector: Some(labels(WORKSPACE_LABEL, &workspace.key.name)),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        ingress: Some(vec![NetworkPolicyIngressRule {
            from: Some(vec![runtime]),
            ports: Some(vec![port("TCP", i32::from(GATE_PORT))]),
        }]),
        egress: (!domains(workspace).is_empty()).then(|| vec![names, web]),
    }
}
