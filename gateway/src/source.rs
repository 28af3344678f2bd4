//! Where snapshots come from: the operator's stream, or a file.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::{
    follow::{FollowConfig, follow},
    snapshot::GatewaySnapshot,
};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{gateway::Gateway, table::InvalidSnapshot};

/// The last good snapshot's file in the data folder.
const LAST_GOOD: &str = "snapshot.json";

/// Where snapshots come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file, read again at SIGHUP.
    File(PathBuf),
    /// An operator.
    Operator {
        /// Its base URL.
        url: String,
        /// The file with the token.
        token_file: PathBuf,
        /// This replica's name.
        node: String,
        /// The data folder.
        data_dir: PathBuf,
    },
}

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum InvalidFile {
    /// It cannot be read.
    #[error("reading {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no snapshot.
    #[error("parsing {path}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It says something that no gateway can do.
    #[error("using {path}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InvalidSnapshot,
    },
}

/// Takes the file into use.
///
/// # Errors
/// [`InvalidFile`]; the table in use stays.
pub(crate) fn load(gateway: &Gateway, path: &Path) -> Result<(), InvalidFile> {
    let path = || path.to_owned();
    let text = std::fs::read(path()).map_err(|source| InvalidFile::Unreadable {
        path: path(),
        source,
    })?;
    let read: GatewaySnapshot =
        serde_json::from_slice(&text).map_err(|source| InvalidFile::Malformed {
            path: path(),
            source,
        })?;
    let snapshot = GatewaySnapshot::new(read.routes, read.keys);
    gateway
        .apply(&snapshot)
        .map_err(|source| InvalidFile::Invalid {
            path: path(),
            source,
        })
}

/// Feeds the gateway until shutdown.
///
/// # Errors
/// The signal that a file is read again at cannot be listened to.
pub(crate) async fn feed(
    gateway: Arc<Gateway>,
    source: Source,
    shutdown: CancellationToken,
) -> io::Result<()> {
    match source {
        Source::File(path) => reload(&gateway, &path, &shutdown).await,
        Source::Operator {
            url,
            token_file,
            node,
            data_dir,
        } => {
            let config = FollowConfig {
                url,
                token_file,
                node,
                last_good: data_dir.join(LAST_GOOD),
            };
            let apply = move |snapshot: GatewaySnapshot| {
                gateway.apply(&snapshot).map_err(|error| error.to_string())
            };
            follow(config, apply, shutdown).await;
            Ok(())
        }
    }
}

async fn reload(gateway: &Gateway, path: &Path, shutdown: &CancellationToken) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = hangups.recv() => {}
        }
        match load(gateway, path) {
            Ok(()) => info!(path = %path.display(), "configuration read again"),
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map(ToString::to_string)
                    .unwrap_or_default();
                warn!(%error, cause, "the configuration in use stays");
            }
        }
    }
}
