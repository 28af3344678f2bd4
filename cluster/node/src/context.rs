//! What every part of a running node shares.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::caches::Caches;
use crate::events::Events;
use crate::images::store::ImageStore;
use crate::logs::Logs;
use crate::pod::backoff::Backoff;
use crate::pod::table::PodTable;
use crate::runtime::process::ProcessRuntime;
use crate::runtime::sandbox::SandboxRuntime;
use crate::volumes::Folders;
use crate::volumes::prepare::VolumeMaker;

/// The parts of one node.
pub(crate) struct NodeContext {
    pub(crate) name: String,
    pub(crate) client: kube::Client,
    pub(crate) host_ip: IpAddr,
    pub(crate) api_server_url: String,
    pub(crate) api_server_address: Option<SocketAddr>,
    pub(crate) ca_path: PathBuf,
    pub(crate) backoff: Backoff,
    pub(crate) capacity: Arc<BTreeMap<String, String>>,
    pub(crate) caches: Caches,
    pub(crate) events: Events,
    pub(crate) addresses: Addresses,
    pub(crate) folders: Folders,
    pub(crate) volumes: VolumeMaker,
    pub(crate) images: ImageStore,
    pub(crate) logs: Logs,
    pub(crate) table: PodTable,
    pub(crate) processes: ProcessRuntime,
    pub(crate) sandboxes: SandboxRuntime,
    pub(crate) kubelet: SocketAddr,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}
