//! Starts one container: image, environment, mounts, process, log.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ObjectReference};
use tokio::sync::{Mutex, broadcast};

use super::wanted::{WantedContainer, WantedPod};
use crate::caches::{NamespaceSources, linked_services};
use crate::context::NodeContext;
use crate::environment::{EnvironmentError, Variables, expand, service_links, variables};
use crate::fields::PodFacts;
use crate::images::Source;
use crate::logs::pump::{self, Chunk};
use crate::quantity::{milli, units};
use crate::runtime::leftovers::POD_ADDRESS;
use crate::runtime::{
    Launch, Limits, Mount, RunningContainer, Runtime, StartError, Started, Writer,
};
use crate::volumes::prepare::{ACCOUNT_MOUNT, Volumes, wanted_mounts};
use crate::volumes::subpath;

/// A container to start.
#[derive(Clone)]
pub(crate) struct StartRequest {
    pub(crate) pod: WantedPod,
    pub(crate) container: WantedContainer,
    pub(crate) attempt: u32,
    pub(crate) ip: Ipv4Addr,
    pub(crate) volumes: Volumes,
}

/// A container that was started.
pub(crate) struct StartedContainer {
    pub(crate) running: Arc<dyn RunningContainer>,
    pub(crate) image_id: String,
    pub(crate) output: broadcast::Sender<Chunk>,
    pub(crate) stdin: Option<Arc<Mutex<Writer>>>,
}

/// Names a Pod, or one container of it, in an event.
pub(crate) fn reference(pod: &WantedPod, container: Option<&WantedContainer>) -> ObjectReference {
    let field = container.map(|container| {
        let list = if container.role == super::wanted::Role::Main {
            "containers"
        } else {
            "initContainers"
        };
        format!("spec.{list}{{{}}}", container.name)
    });
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.id.name.clone()),
        namespace: Some(pod.id.namespace.clone()),
        uid: Some(pod.id.uid.clone()),
        resource_version: pod.object.metadata.resource_version.clone(),
        field_path: field,
    }
}

/// Starts a container and the pump of its output.
pub(crate) async fn start(
    context: &NodeContext,
    request: StartRequest,
) -> Result<StartedContainer, StartError> {
    let about = reference(&request.pod, Some(&request.container));
    let spec = &request.container.spec;
    let name = spec.image.clone().unwrap_or_default();
    let policy = spec.image_pull_policy.as_deref();
    let image = context.images.ensure(&name, policy, || {
        context.events.normal(
            about.clone(),
            "Pulling",
            format!("Pulling image \"{name}\""),
        );
    });
    let image = match image.await {
        Ok(pulled) => {
            context
                .events
                .normal(about.clone(), "Pulled", pulled.message);
            pulled.image
        }
        Err(error) => return Err(StartError::new(error.reason, error.message)),
    };
    let is_process = image.source == Source::OwnBinary;
    let launch = launch(context, &request, image, is_process)?;
    let (image_id, tty) = (launch.image.id.clone(), launch.tty);
    let log = context
        .logs
        .create(&request.pod.id, &request.container.name, request.attempt);
    let log = log.map_err(|error| {
        StartError::new(
            "CreateContainerError",
            format!("cannot write its log: {error}"),
        )
    })?;
    let started = if is_process {
        context.processes.start(launch).await
    } else {
        context.sandboxes.start(launch).await
    };
    let Started {
        container: running,
        stdin,
        stdout,
        stderr,
    } = started?;
    context.events.normal(
        about.clone(),
        "Created",
        format!("Container created: {}", request.container.name),
    );
    context.events.normal(
        about,
        "Started",
        format!("Container started: {}", request.container.name),
    );
    let output = pump::channel();
    let stderr = stderr.filter(|_| !tty);
    context
        .tasks
        .spawn(pump::pump(stdout, stderr, log, output.clone()));
    Ok(StartedContainer {
        running,
        image_id,
        output,
        stdin: stdin.map(|stdin| Arc::new(Mutex::new(stdin))),
    })
}

fn launch(
    context: &NodeContext,
    request: &StartRequest,
    image: crate::images::Image,
    is_process: bool,
) -> Result<Launch, StartError> {
    let (pod, spec) = (&request.pod, &request.container.spec);
    let pod_spec = pod.spec();
    let shares_host =
        [pod_spec.host_network, pod_spec.host_pid, pod_spec.host_ipc].contains(&Some(true));
    if shares_host && !is_process {
        let message = "this node gives no sandbox the host's network, processes or IPC";
        return Err(StartError::new("CreateContainerConfigError", message));
    }
    let folder = context.folders.pod(&pod.id.uid);
    let mut environment = environment(context, request, &image.defaults.environment)?;
    if is_process {
        environment.push((POD_ADDRESS.to_owned(), request.ip.to_string()));
        // The ClusterIP may be another cluster's on this host; the API server's own address is not.
        if let Some(address) = context.api_server_address {
            environment.push((
                "KUBERNETES_SERVICE_HOST".to_owned(),
                address.ip().to_string(),
            ));
            environment.push((
                "KUBERNETES_SERVICE_PORT".to_owned(),
                address.port().to_string(),
            ));
        }
    }
    let known: BTreeMap<String, String> = environment.iter().cloned().collect();
    let mounts = mounts(pod, spec, &request.volumes, &known)?;
    if is_process && let Some(kubeconfig) = kubeconfig(context, pod, &folder, &mounts)? {
        environment.push(("KUBECONFIG".to_owned(), kubeconfig.display().to_string()));
    }
    let expanded = |words: Option<&Vec<String>>| -> Option<Vec<String>> {
        words.map(|words| words.iter().map(|word| expand(word, &known)).collect())
    };
    let resources = spec
        .resources
        .clone()
        .unwrap_or_default()
        .limits
        .unwrap_or_default();
    let limits = Limits {
        memory_bytes: resources
            .get("memory")
            .and_then(|quantity| units(&quantity.0)),
        cpu_milli: resources
            .get("cpu")
            .and_then(|quantity| u64::try_from(milli(&quantity.0)?).ok()),
    };
    Ok(Launch {
        pod: pod.id.clone(),
        name: request.container.name.clone(),
        attempt: request.attempt,
        image,
        command: expanded(spec.command.as_ref()),
        args: expanded(spec.args.as_ref()),
        environment,
        working_dir: spec.working_dir.clone(),
        hostname: pod_spec
            .hostname
            .clone()
            .unwrap_or_else(|| pod.id.name.clone()),
        mounts,
        limits,
        security: spec.security_context.clone().unwrap_or_default(),
        pod_security: pod_spec.security_context.unwrap_or_default(),
        stdin: spec.stdin == Some(true),
        tty: spec.tty == Some(true),
        folder,
    })
}

fn environment(
    context: &NodeContext,
    request: &StartRequest,
    of_image: &[(String, String)],
) -> Result<Variables, StartError> {
    let pod = &request.pod;
    let all = pod
        .object
        .spec
        .as_ref()
        .is_none_or(|spec| spec.enable_service_links != Some(false));
    let services = linked_services(&context.caches, &pod.id.namespace, all);
    let mut base = service_links(services.iter().map(AsRef::as_ref));
    base.extend(of_image.iter().cloned());
    let facts = PodFacts {
        pod: &pod.object,
        pod_ip: request.ip,
        host_ip: context.host_ip,
    };
    let sources = NamespaceSources {
        caches: &context.caches,
        namespace: &pod.id.namespace,
    };
    variables(
        &request.container.spec,
        facts,
        &sources,
        &context.capacity,
        base,
    )
    .map_err(|error| match error {
        EnvironmentError::NoSource { .. }
        | EnvironmentError::NoKey { .. }
        | EnvironmentError::UnsupportedField(_) => {
            StartError::new("CreateContainerConfigError", error.to_string())
        }
    })
}

fn mounts(
    pod: &WantedPod,
    container: &Container,
    volumes: &Volumes,
    known: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, StartError> {
    let refused = |message: String| StartError::new("CreateContainerConfigError", message);
    let wanted = wanted_mounts(&pod.object, container.volume_mounts.as_deref());
    let mut mounts = Vec::with_capacity(wanted.len());
    for mount in wanted {
        let Some(folder) = volumes.folder(&mount.name) else {
            return Err(refused(format!("the Pod has no volume \"{}\"", mount.name)));
        };
        let part = mount
            .sub_path_expr
            .as_deref()
            .map(|text| expand(text, known))
            .or(mount.sub_path);
        let source = match part.filter(|part| !part.is_empty()) {
            Some(part) => {
                subpath::resolve(folder, &part).map_err(|error| refused(error.to_string()))?
            }
            None => folder.clone(),
        };
        mounts.push(Mount {
            source,
            target: mount.mount_path,
            read_only: mount.read_only == Some(true),
        });
    }
    Ok(mounts)
}

/// Writes the kubeconfig of a process Pod, which has no mount namespace in which in-cluster credentials could lie.
fn kubeconfig(
    context: &NodeContext,
    pod: &WantedPod,
    folder: &Path,
    mounts: &[Mount],
) -> Result<Option<PathBuf>, StartError> {
    let Some(account) = mounts.iter().find(|mount| mount.target == ACCOUNT_MOUNT) else {
        return Ok(None);
    };
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pod",
        "clusters": [{"name": "cluster", "cluster": {
            "server": context.api_server_url,
            "certificate-authority": context.ca_path,
        }}],
        "users": [{"name": "account", "user": {"tokenFile": account.source.join("token")}}],
        "contexts": [{"name": "pod", "context": {
            "cluster": "cluster", "user": "account", "namespace": pod.id.namespace,
        }}],
    });
    let path = folder.join("kubeconfig");
    fs::write(&path, config.to_string()).map_err(|error| {
        StartError::new(
            "CreateContainerConfigError",
            format!("cannot write {}: {error}", path.display()),
        )
    })?;
    Ok(Some(path))
}

/// The named ports of a Pod's containers.
pub(crate) fn named_ports(pod: &WantedPod) -> BTreeMap<String, u16> {
    let containers = pod.containers.iter().map(|container| &container.spec);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)))
        .collect()
}
