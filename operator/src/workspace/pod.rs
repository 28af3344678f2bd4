//! A Workspace's Pod: `install` brings our binary, `workspace` runs programs without network, `gate` is the only door.

use std::collections::BTreeMap;

use crds::names::REVISION_LABEL;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EmptyDirVolumeSource, EnvVar, PersistentVolumeClaimVolumeSource,
        Pod, PodSecurityContext, PodSpec, SecretVolumeSource, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    build::{claim_name, domains, metadata, token_secret_name},
    validate::ValidWorkspace,
};
use crate::{
    context::Settings,
    model::{container_security, pod_ip, probe, runtime_default},
    quantities,
};

/// The port that gates listen on.
pub(super) const GATE_PORT: u16 = 7681;
/// The port of the relay to the gate's proxy, inside the workspace.
const PROXY_PORT: u16 = 3128;
/// The user that programs run as.
const USER: i64 = 1000;
/// The container in which programs run.
pub(super) const WORKSPACE_CONTAINER: &str = "workspace";
/// Seconds for programs that are under way when the Pod is asked to stop.
const TERMINATION_SECONDS: i64 = 10;

/// The gate's base URL at a Pod's address.
pub(crate) fn gate_url(address: &str) -> String {
    if address.contains(':') {
        format!("http://[{address}]:{GATE_PORT}")
    } else {
        format!("http://{address}:{GATE_PORT}")
    }
}

pub(super) fn pod(workspace: &ValidWorkspace, settings: &Settings) -> Pod {
    let mut metadata = metadata(workspace, &workspace.key.name);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), workspace.template_hash.clone());
    // Argo CD would show a long-running bare Pod as progressing for ever.
    let argo = (
        "argocd.argoproj.io/ignore-restart-policy".to_owned(),
        "true".to_owned(),
    );
    metadata.annotations = Some(BTreeMap::from([argo]));
    Pod {
        metadata,
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Always".to_owned()),
            termination_grace_period_seconds: Some(TERMINATION_SECONDS),
            hostname: Some(workspace.key.name.clone()),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(runtime_default()),
                ..PodSecurityContext::default()
            }),
            init_containers: Some(vec![install(settings)]),
            containers: vec![programs(workspace), gate(workspace, settings)],
            volumes: Some(volumes(workspace)),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// Copies our binary to where the workspace's image does not have it.
fn install(settings: &Settings) -> Container {
    Container {
        name: "install".to_owned(),
        image: Some(settings.image.clone()),
        args: Some(words(&["install", "/.qd/qd"])),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![mount("tools", "/.qd", false)]),
        ..Container::default()
    }
}

fn programs(workspace: &ValidWorkspace) -> Container {
    let mut command = words(&[
        "/.qd/qd",
        "workspace-init",
        "--socket-dir",
        "/run/quarterdeck",
        "--home",
        "/work",
    ]);
    let mut env = vec![variable("HOME", "/work")];
    if !domains(workspace).is_empty() {
        command.extend(words(&["--proxy-port", &PROXY_PORT.to_string()]));
        let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
        // Programs disagree about the case.
        env.extend(
            ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"]
                .map(|name| variable(name, &proxy)),
        );
        env.extend(["NO_PROXY", "no_proxy"].map(|name| variable(name, "localhost,127.0.0.1")));
    }
    env.extend(
        workspace
            .template
            .env
            .iter()
            .map(|declared| variable(&declared.name, &declared.value)),
    );
    Container {
        name: WORKSPACE_CONTAINER.to_owned(),
        image: Some(workspace.template.image.clone()),
        command: Some(command),
        env: Some(env),
        working_dir: Some("/work".to_owned()),
        resources: quantities::requirements(workspace.template.resources.as_ref()),
        security_context: Some(container_security()),
        volume_mounts: Some(vec![
            mount("tools", "/.qd", true),
            mount("sockets", "/run/quarterdeck", false),
            mount("home", "/work", false),
            mount("scratch", "/tmp", false),
        ]),
        ..Container::default()
    }
}

fn gate(workspace: &ValidWorkspace, settings: &Settings) -> Container {
    let listen = format!("$(POD_IP):{GATE_PORT}");
    let mut args = words(&[
        "workspace-gate",
        "--listen",
        &listen,
        "--socket-dir",
        "/run/quarterdeck",
        "--token-file",
        "/var/run/secrets/quarterdeck-workspace/token",
        "--home-dir",
        "/home/workspace-volume",
    ]);
    for domain in domains(workspace) {
        args.extend(words(&["--egress-allow", domain]));
    }
    Container {
        name: "gate".to_owned(),
        image: Some(settings.image.clone()),
        args: Some(args),
        env: Some(vec![pod_ip()]),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: i32::from(GATE_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        security_context: Some(container_security()),
        startup_probe: Some(probe("/healthz", 1, 60)),
        readiness_probe: Some(probe("/healthz", 1, 3)),
        liveness_probe: Some(probe("/healthz", 10, 3)),
        volume_mounts: Some(vec![
            mount("sockets", "/run/quarterdeck", false),
            mount("home", "/home/workspace-volume", false),
            mount("token", "/var/run/secrets/quarterdeck-workspace", true),
        ]),
        ..Container::default()
    }
}

fn volumes(workspace: &ValidWorkspace) -> Vec<Volume> {
    let empty = |name: &str, size: Option<&str>| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: size.map(|size| Quantity(size.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let name = &workspace.key.name;
    vec![
        empty("tools", None),
        empty("sockets", None),
        empty("scratch", Some("1Gi")),
        Volume {
            name: "home".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(name),
                read_only: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: "token".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(token_secret_name(name)),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

fn mount(name: &str, path: &str, is_read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: is_read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
