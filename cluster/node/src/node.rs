//! One node from start to end: cleans up after its predecessor, registers, runs its parts, and leaves nothing behind.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::caches::Caches;
use crate::config::{NodeConfig, NodeError};
use crate::context::NodeContext;
use crate::events::{self, Events};
use crate::images::store::ImageStore;
use crate::logs::Logs;
use crate::pod::table::PodTable;
use crate::registration::{self, NodeFacts, capacity};
use crate::runtime::cgroup::Cgroups;
use crate::runtime::leftovers;
use crate::runtime::process::ProcessRuntime;
use crate::runtime::sandbox::SandboxRuntime;
use crate::runtime::spawner::Spawner;
use crate::volumes::Folders;
use crate::volumes::prepare::VolumeMaker;
use crate::{api, dns, pods, scheduler, services};

/// The API server may come up after the node.
const REGISTER_RETRY: Duration = Duration::from_millis(100);
const REGISTER_LIMIT: Duration = Duration::from_secs(60);

/// Runs a node until `shutdown`; returns when every process, mount and cgroup of it is gone.
///
/// # Errors
/// The data folder, the host or the API server cannot be used; nothing is left running then.
pub async fn run(
    config: NodeConfig,
    client: kube::Client,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    // Workers end on this token; it also ends if we return early.
    let shutdown = shutdown.child_token();
    let _ended = shutdown.clone().drop_guard();
    let tasks = TaskTracker::new();
    let (events, inbox) = Events::new();
    let host = open_host(&config, &tasks).await?;
    let kubelet = config
        .listener
        .local_addr()
        .map_err(|source| NodeError::Host {
            attempt: "read the listener's address",
            source,
        })?;
    let context = assemble(&config, host, kubelet, client, events, (&tasks, &shutdown));
    let NodeConfig {
        listener,
        node_token,
        dns_address,
        cluster_domain,
        ..
    } = config;
    let context = Arc::new(context);
    tasks.spawn(events::write(
        context.client.clone(),
        context.name.clone(),
        inbox,
        shutdown.clone(),
    ));
    tasks.spawn(api::serve(listener, Arc::clone(&context), node_token));
    let dns = match dns::Sockets::bind(dns_address).await {
        Ok(sockets) => {
            let address = sockets.address().ok();
            tasks.spawn(dns::serve(sockets, Arc::clone(&context), cluster_domain));
            address
        }
        Err(error) => {
            tracing::warn!(%error, "cluster names are not served");
            None
        }
    };
    let facts = NodeFacts {
        kubelet: context.kubelet,
        isolation: context.sandboxes.report().clone(),
        dns,
    };
    register(&context, &facts).await?;
    tasks.spawn(registration::keep_alive(Arc::clone(&context), facts));
    if context.caches.ready().await {
        tasks.spawn(scheduler::run(Arc::clone(&context)));
        tasks.spawn(services::run(Arc::clone(&context)));
        pods::run(Arc::clone(&context)).await;
    }
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    context.processes.cgroups.remove_base();
    Ok(())
}

/// What the node has of this host.
struct Host {
    data: DataFolder,
    processes: ProcessRuntime,
    sandboxes: SandboxRuntime,
    addresses: Addresses,
    images: ImageStore,
}

/// Opens the data folder and the runtimes, and ends what a former node left.
async fn open_host(config: &NodeConfig, tasks: &TaskTracker) -> Result<Host, NodeError> {
    let host = |attempt: &'static str| move |source: io::Error| NodeError::Host { attempt, source };
    let data =
        open_folder(&config.data_dir, &config.ca_pem).map_err(|source| NodeError::DataFolder {
            path: config.data_dir.clone(),
            source,
        })?;
    let mark = mark_of(&data.path);
    let cgroups = Cgroups::detect(&mark);
    clean_up(&mark, &data.folders, &cgroups).await;
    let processes = ProcessRuntime {
        executable: config.executable.clone(),
        inherited: config.inherited_environment.clone().into_iter().collect(),
        spawner: Spawner::start().map_err(host("start the spawning thread"))?,
        cgroups,
        mark,
        allow_unisolated_exec: config.allow_unisolated,
        tasks: tasks.clone(),
    };
    let state = data.path.join("sandboxes");
    let unisolated = config.allow_unisolated;
    let sandboxes = SandboxRuntime::start(state, &config.executable, &processes, unisolated).await;
    let addresses = Addresses::open(data.folders.pods.join("addresses.json"))
        .map_err(host("claim a network for Pods"))?;
    let images =
        ImageStore::new(data.path.join("images")).map_err(|error| NodeError::Tls(error.message))?;
    Ok(Host {
        data,
        processes,
        sandboxes,
        addresses,
        images,
    })
}

/// Starts the watches and puts the parts together.
fn assemble(
    config: &NodeConfig,
    host: Host,
    kubelet: SocketAddr,
    client: kube::Client,
    events: Events,
    life: (&TaskTracker, &CancellationToken),
) -> NodeContext {
    let (tasks, shutdown) = life;
    let DataFolder {
        path,
        folders,
        ca_path,
    } = host.data;
    let caches = Caches::start(&client, tasks, shutdown);
    let capacity = Arc::new(capacity());
    let volumes = VolumeMaker {
        client: client.clone(),
        caches: caches.clone(),
        folders: folders.clone(),
        capacity: Arc::clone(&capacity),
    };
    NodeContext {
        name: config.name.clone(),
        host_ip: kubelet.ip(),
        api_server_address: authority_of(&config.api_server_url),
        api_server_url: config.api_server_url.clone(),
        ca_path,
        backoff: config.backoff,
        capacity,
        caches,
        events,
        addresses: host.addresses,
        volumes,
        images: host.images,
        logs: Logs::new(path.join("logs")),
        table: PodTable::default(),
        processes: host.processes,
        sandboxes: host.sandboxes,
        kubelet,
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
        folders,
        client,
    }
}

/// What tells the processes and cgroups of this data folder's node from those of another.
fn mark_of(data_dir: &Path) -> String {
    let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    format!("quarterdeck-{}", &format!("{digest:x}")[..12])
}

/// Ends and removes what a killed node left on this host.
async fn clean_up(mark: &str, folders: &Folders, cgroups: &Cgroups) {
    let ended = leftovers::end_processes(mark, &folders.pods);
    if ended > 0 {
        tracing::info!(processes = ended, "processes of the former node ended");
    }
    for group in cgroups.leftovers() {
        group.kill();
        group.remove().await;
    }
    crate::volumes::unmount_below(&folders.pods);
}

async fn register(context: &NodeContext, facts: &NodeFacts) -> Result<(), NodeError> {
    let began = tokio::time::Instant::now();
    loop {
        let error = match registration::register(context, facts).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if began.elapsed() > REGISTER_LIMIT || context.shutdown.is_cancelled() {
            return Err(NodeError::Register {
                name: context.name.clone(),
                source: Box::new(error),
            });
        }
        tracing::debug!(%error, "node not registered yet");
        tokio::time::sleep(REGISTER_RETRY).await;
    }
}

struct DataFolder {
    path: PathBuf,
    folders: Folders,
    ca_path: PathBuf,
}

fn open_folder(path: &Path, ca_pem: &str) -> io::Result<DataFolder> {
    std::fs::create_dir_all(path)?;
    let path = path.canonicalize()?;
    let folders = Folders::new(&path)?;
    let ca_path = folders.pods.join("ca.crt");
    std::fs::write(&ca_path, ca_pem)?;
    Ok(DataFolder {
        path,
        folders,
        ca_path,
    })
}

fn authority_of(url: &str) -> Option<SocketAddr> {
    url.strip_prefix("https://")?
        .trim_end_matches('/')
        .parse()
        .ok()
}
