//! The gate of a workspace: its API behind a token, its audit, and its only way to the network.

mod api;
mod audit;
pub(crate) mod egress;
mod folder;
mod init_client;
pub(crate) mod policy;
mod results;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::api::Gate;
use self::audit::Audit;
use self::egress::{HostNetwork, Proxy, ProxyConfig};
use self::folder::Folder;
use self::init_client::InitClient;
use self::policy::{AllowList, InvalidDomain};
use self::results::Results;
use crate::{EGRESS_SOCKET, socket};

const TOKEN_BYTES_MIN: usize = 16;
/// The gate's folder in the home, if it has no other. Programs cannot read it where their user is not the gate's.
const HOME_FOLDER: &str = ".quarterdeck";

/// How a workspace's gate runs.
#[derive(Debug, Clone, clap::Args)]
pub struct GateArgs {
    /// Address of the workspace's API
    #[arg(long)]
    pub listen: SocketAddr,
    /// Folder of the sockets shared with the workspace's first process
    #[arg(long, default_value = "/run/quarterdeck")]
    pub socket_dir: PathBuf,
    /// File with the token that every request must carry
    #[arg(long)]
    pub token_file: PathBuf,
    /// Where the home volume is mounted here
    #[arg(long)]
    pub home_dir: PathBuf,
    /// Folder for results and the audit; `.quarterdeck` in the home if not given
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Domains that programs may reach, as `example.com`, `*.example.com` or `example.com:8443`
    #[arg(long, num_args = 0..)]
    pub egress_allow: Vec<String>,
}

/// Why a gate ended.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The token cannot be read, or is too short to be one.
    #[error("cannot use the token in {}: {reason}", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An entry of the allow list is no domain.
    #[error(transparent)]
    Domain(#[from] InvalidDomain),
    /// The data folder cannot be made.
    #[error("cannot use the data folder {}", path.display())]
    Data {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket cannot be made.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The server failed.
    #[error("the server failed")]
    Serve(#[source] io::Error),
}

/// Runs a workspace's gate until shutdown; programs that run then are ended by their listener's end.
///
/// # Errors
/// The token, the allow list, the data folder or a socket is not usable.
pub async fn run_gate(args: GateArgs, shutdown: CancellationToken) -> Result<(), GateError> {
    let GateArgs {
        listen,
        socket_dir,
        token_file,
        home_dir,
        data_dir,
        egress_allow,
    } = args;
    let token = read_token(&token_file)?;
    let allow = AllowList::parse(&egress_allow)?;
    let data_dir = data_dir.unwrap_or_else(|| home_dir.join(HOME_FOLDER));
    let data = |source| GateError::Data {
        path: data_dir.clone(),
        source,
    };
    let folder = Arc::new(Folder::open(&data_dir).map_err(data)?);
    let audit = Arc::new(Audit::open(Arc::clone(&folder)).map_err(data)?);
    let results = Results::open(&folder).map_err(data)?;
    let egress_path = socket_dir.join(EGRESS_SOCKET);
    let way_out = socket::bind(&egress_path).map_err(|source| GateError::Listen {
        address: egress_path.display().to_string(),
        source,
    })?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| GateError::Listen {
            address: listen.to_string(),
            source,
        })?;
    tracing::info!(%listen, domains = egress_allow.len(), "workspace gate is up");
    let tasks = TaskTracker::new();
    let proxy = Proxy::new(
        ProxyConfig {
            allow,
            network: Arc::new(HostNetwork),
        },
        Arc::clone(&audit),
    );
    tasks.spawn(proxy.run(way_out, shutdown.clone()));
    let gate = Gate::new(
        token,
        InitClient::new(&socket_dir, tasks.clone()),
        audit,
        results,
        tasks.clone(),
        shutdown.clone(),
    );
    let outcome = axum::serve(listener, api::router(gate))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .await
        .map_err(GateError::Serve);
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    outcome
}

fn read_token(path: &Path) -> Result<String, GateError> {
    let fail = |reason: String| GateError::Token {
        path: path.to_owned(),
        reason,
    };
    let token = std::fs::read_to_string(path)
        .map_err(|error| fail(error.to_string()))?
        .trim()
        .to_owned();
    if token.len() < TOKEN_BYTES_MIN {
        return Err(fail(format!("it has fewer than {TOKEN_BYTES_MIN} bytes")));
    }
    Ok(token)
}

#[cfg(test)]
mod tests;
