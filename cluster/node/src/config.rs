//! What the caller decides about a node.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::net::TcpListener;

use crate::pod::backoff::Backoff;

/// Where the cluster's DNS server listens when it may.
pub const DNS_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 96, 0, 10)), 53);

/// One node of the embedded cluster.
#[derive(Debug)]
pub struct NodeConfig {
    /// Name of the Node object.
    pub name: String,
    /// Data folder: the node uses `pods/`, `volumes/`, `images/` and `logs/` in it.
    pub data_dir: PathBuf,
    /// Our own binary: what `image: builtin://qd` runs, and the helper of the sandboxes.
    pub executable: PathBuf,
    /// Loopback listener of the node's own HTTP API (logs, exec, port-forward).
    pub listener: TcpListener,
    /// Bearer token that the API server presents to that API.
    pub node_token: String,
    /// URL of the API server, for the kubeconfig of process Pods.
    pub api_server_url: String,
    /// Certificate authority of the API server.
    pub ca_pem: String,
    /// Variables of the environment that process Pods inherit, such as `PATH`, `HOME` and proxies.
    pub inherited_environment: BTreeMap<String, String>,
    /// Domain of the cluster's names; usually `cluster.local`.
    pub cluster_domain: String,
    /// Where the DNS server listens; if it may not, it takes another port and the Node's annotation says which.
    pub dns_address: SocketAddr,
    /// Runs Pods of foreign images as plain processes where the host cannot isolate, and lets `exec` run any program in
    /// process Pods. Off by default.
    pub allow_unisolated: bool,
    /// Delays between restarts of a crashing container.
    pub backoff: Backoff,
}

/// Why the node could not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {path}")]
    DataFolder {
        /// Which folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The listener, the spawning thread or another host resource failed.
    #[error("cannot {attempt}")]
    Host {
        /// What was attempted.
        attempt: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The API server refused the node.
    #[error("cannot register the node {name}")]
    Register {
        /// Its name.
        name: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The TLS provider or a trust anchor was refused.
    #[error("cannot set up TLS for image pulls: {0}")]
    Tls(String),
}
