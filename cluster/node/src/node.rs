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
pub async fn run(config: NodeConfig, client: kube::Client, shutdown: CancellationToken) -> Result<(), NodeError> {
    // Workers end on this token; it also ends if we return early.
    let shutdown = shutdown.child_token();
    let _ended = shutdown.clone().drop_guard();
    let tasks = TaskTracker::new();
    let (events, inbox) = Events::new();
    let (dns_address, domain) = (config.dns_address, config.cluster_domain.clone());
    let NodeParts { context, kubelet, token } = build(config, client, &tasks, &shutdown, events).await?;
    let context = Arc::new(context);
    tasks.spawn(events::write(context.client.clone(), context.name.clone(), inbox, shutdown.clone()));
    tasks.spawn(api::serve(kubelet, Arc::clone(&context), token));
    let dns = match dns::Sockets::bind(dns_address).await {
        Ok(sockets) => {
            let address = sockets.address().ok();
            tasks.spawn(dns::serve(sockets, Arc::clone(&context), domain));
            address
        }
        Err(error) => {
            tracing::warn!(%error, "cluster names are not served");
            None
        }
    };
    let facts = NodeFacts { kubelet: context.kubelet, isolation: context.sandboxes.report().clone(), dns };
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

struct NodeParts {
    context: NodeContext,
    kubelet: tokio::net::TcpListener,
    token: String,
}

async fn build(
    config: NodeConfig,
    client: kube::Client,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
    events: Events,
) -> Result<NodeParts, NodeError> {
    let NodeConfig {
        name,
        data_dir,
        executable,
        listener,
        node_token,
        api_server_url,
        ca_pem,
        inherited_environment,
        cluster_domain: _,
        dns_address: _,
        allow_unisolated,
        backoff,
    } = config;
    let host = |attempt: &'static str| move |source: io::Error| NodeError::Host { attempt, source };
    let DataFolder { data_dir, folders, ca_path } = open_folder(&data_dir, &ca_pem)
        .map_err(|source| NodeError::DataFolder { path: data_dir.clone(), source })?;
    let kubelet = listener.local_addr().map_err(host("read the listener's address"))?;
    let mark = format!("quarterdeck-{}", &format!("{:x}", Sha256::digest(data_dir.as_os_str().as_encoded_bytes()))[..12]);
    let cgroups = Cgroups::detect(&mark);
    clean_up(&mark, &folders, &cgroups).await;
    let processes = ProcessRuntime {
        executable: executable.clone(),
        inherited: inherited_environment.into_iter().collect(),
        spawner: Spawner::start().map_err(host("start the spawning thread"))?,
        cgroups,
        mark,
        allow_unisolated_exec: allow_unisolated,
        tasks: tasks.clone(),
    };
    let state = data_dir.join("sandboxes");
    let sandboxes = SandboxRuntime::start(state, &executable, &processes, allow_unisolated).await;
    let caches = Caches::start(&client, tasks, shutdown);
    let capacity = Arc::new(capacity());
    let volumes = VolumeMaker {
        client: client.clone(),
        caches: caches.clone(),
        folders: folders.clone(),
        capacity: Arc::clone(&capacity),
    };
    let images = ImageStore::new(data_dir.join("images")).map_err(|error| NodeError::Tls(error.message))?;
    let context = NodeContext {
        name,
        host_ip: kubelet.ip(),
        api_server_address: authority_of(&api_server_url),
        api_server_url,
        ca_path,
        backoff,
        capacity,
        caches,
        events,
        addresses: Addresses::open(folders.pods.join("addresses.json")).map_err(host("claim a network for Pods"))?,
        volumes,
        images,
        logs: Logs::new(data_dir.join("logs")),
        table: PodTable::default(),
        processes,
        sandboxes,
        kubelet,
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
        folders,
        client,
    };
    Ok(NodeParts { context, kubelet: listener, token: node_token })
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
            return Err(NodeError::Register { name: context.name.clone(), source: Box::new(error) });
        }
        tracing::debug!(%error, "node not registered yet");
        tokio::time::sleep(REGISTER_RETRY).await;
    }
}

struct DataFolder {
    data_dir: PathBuf,
    folders: Folders,
    ca_path: PathBuf,
}

fn open_folder(path: &Path, ca_pem: &str) -> io::Result<DataFolder> {
    std::fs::create_dir_all(path)?;
    let data_dir = path.canonicalize()?;
    let folders = Folders::new(&data_dir)?;
    let ca_path = folders.pods.join("ca.crt");
    std::fs::write(&ca_path, ca_pem)?;
    Ok(DataFolder { data_dir, folders, ca_path })
}

fn authority_of(url: &str) -> Option<SocketAddr> {
    url.strip_prefix("https://")?.trim_end_matches('/').parse().ok()
}
