//! The children of a Model: claim, Service, Deployment. Cannot fail.

use std::collections::BTreeMap;

use crds::{
    names::{MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL, REVISION_LABEL},
    resources::AccessMode,
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
            ObjectFieldSelector, PersistentVolumeClaim, PodSecurityContext, PodSpec,
            PodTemplateSpec, Probe, SeccompProfile, SecurityContext, Service, ServicePort,
            ServiceSpec,
        },
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::api::ObjectMeta;
use protocol::snapshot::content_hash;

use super::tuning::tuning;
use super::validate::{ENGINE_PORT, NativeEngine, ValidEngine, ValidModel};
use super::weights::{WEIGHTS_PATH, environment, mounts, volumes};
use crate::{context::Settings, quantities};

/// The group that owns volumes, so that a process that is not root can write to them.
pub(crate) const VOLUME_GROUP: i64 = 65_532;
/// Seconds for the streams under way when an engine is asked to stop.
const TERMINATION_SECONDS: i64 = 30;
/// Seconds for fetching and loading weights before a rollout counts as stuck.
const PROGRESS_DEADLINE_SECONDS: i32 = 45 * 60;

/// What a Model owns.
#[derive(Debug, Clone)]
pub(super) struct Children {
    pub(super) claim: PersistentVolumeClaim,
    pub(super) service: Service,
    pub(super) deployment: Deployment,
    /// The hash of the Pod's specification.
    pub(super) revision: String,
}

/// The children; none for a provider's model.
pub(super) fn build(model: &ValidModel, settings: &Settings) -> Option<Children> {
    let ValidEngine::Native(engine) = &model.engine else {
        return None;
    };
    let pod = pod_spec(model, engine, settings);
    // Other credentials make another revision: an engine that was refused starts anew with them.
    let revision = match &engine.credentials {
        None => content_hash(&pod),
        Some(credentials) => content_hash(&(&pod, credentials)),
    };
    Some(Children {
        claim: PersistentVolumeClaim {
            metadata: metadata(model, &claim_name(&model.key.name)),
            spec: Some(quantities::claim(&engine.cache)),
            status: None,
        },
        service: service(model),
        deployment: deployment(model, engine, pod, &revision),
        revision,
    })
}

pub(super) fn claim_name(model: &str) -> String {
    format!("{model}-weights")
}

/// The address of an engine.
pub(super) fn engine_port(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{ENGINE_PORT}")
    } else {
        format!("{host}:{ENGINE_PORT}")
    }
}

/// The label selector of a Model's engines.
pub(super) fn selector(model: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(MODEL_LABEL.to_owned(), model.to_owned())])
}

fn labels(model: &ValidModel) -> BTreeMap<String, String> {
    let mut labels = selector(&model.key.name);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels
}

fn metadata(model: &ValidModel, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(model.key.namespace.clone()),
        labels: Some(labels(model)),
        owner_references: Some(vec![model.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn service(model: &ValidModel) -> Service {
    Service {
        metadata: metadata(model, &model.key.name),
        spec: Some(ServiceSpec {
            selector: Some(selector(&model.key.name)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: i32::from(ENGINE_PORT),
                target_port: Some(IntOrString::String("http".to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn deployment(
    model: &ValidModel,
    engine: &NativeEngine,
    pod: PodSpec,
    revision: &str,
) -> Deployment {
    // A volume of one node would keep a Pod on another node from starting beside the old one.
    let (surge, unavailable) = match engine.cache.access_mode {
        AccessMode::ReadWriteOnce => (0, 1),
        AccessMode::ReadWriteMany => (1, 0),
    };
    let mut pod_labels = labels(model);
    pod_labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    Deployment {
        metadata: metadata(model, &model.key.name),
        spec: DeploymentSpec {
            replicas: Some(engine.replicas),
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
            revision_history_limit: Some(2),
            selector: LabelSelector {
                match_labels: Some(selector(&model.key.name)),
                match_expressions: None,
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

fn pod_spec(model: &ValidModel, engine: &NativeEngine, settings: &Settings) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(TERMINATION_SECONDS),
        security_context: Some(pod_security()),
        containers: vec![Container {
            name: "engine".to_owned(),
            image: Some(settings.image.clone()),
            args: Some(arguments(model, engine)),
            env: Some(environment(engine)),
            ports: Some(vec![ContainerPort {
                name: Some("http".to_owned()),
                container_port: i32::from(ENGINE_PORT),
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            }]),
            resources: quantities::requirements(engine.resources.as_ref()),
            security_context: Some(container_security()),
            startup_probe: Some(probe("/health", 1, 120)),
            liveness_probe: Some(probe("/health", 10, 3)),
            readiness_probe: Some(probe("/health/ready", 1, 2)),
            volume_mounts: Some(mounts(engine)),
            ..Container::default()
        }],
        volumes: Some(volumes(model, engine)),
        ..PodSpec::default()
    }
}

fn arguments(model: &ValidModel, engine: &NativeEngine) -> Vec<String> {
    let mut arguments = vec!["engine".to_owned()];
    let mut add = |flag: &str, value: &str| arguments.extend([flag.to_owned(), value.to_owned()]);
    add("--listen", &format!("$(POD_IP):{ENGINE_PORT}"));
    add("--source", &engine.source.uri);
    add("--served-name", &model.served_name);
    for alias in &model.aliases {
        add("--alias", alias);
    }
    add("--cache-dir", WEIGHTS_PATH);
    if let Some(sha256) = &engine.source.sha256 {
        add("--sha256", sha256);
    }
    if let Some(length) = engine.context_length {
        add("--context-length", &length.to_string());
    }
    if let Some(sequences) = engine.max_concurrent_sequences {
        add("--max-sequences", &sequences.to_string());
    }
    arguments.extend(tuning(engine));
    arguments
}

/// The Pod's address in its environment, for `$(POD_IP)` in arguments.
pub(crate) fn pod_ip() -> EnvVar {
    EnvVar {
        name: "POD_IP".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "status.podIP".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// A probe of the port `http`.
pub(crate) fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(if period_seconds < 5 { 1 } else { 5 }),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

/// What the restricted Pod security standard asks of a Pod.
fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        fs_group: Some(VOLUME_GROUP),
        seccomp_profile: Some(runtime_default()),
        ..PodSecurityContext::default()
    }
}

pub(crate) fn runtime_default() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        localhost_profile: None,
    }
}

/// What the restricted Pod security standard asks of a container.
pub(crate) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}
