//! Who routes: ours by prefix, and the peers by their own cache-aware policies, each on a core of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use protocol::key::hash_key;
use serde_json::{Value, json};

use crate::{
    apart,
    gateway::{KEY, Peer, Ports},
    process::{Server, free_port},
};

/// The core of the gateway under test; nothing else of the benchmark runs there.
const CORE: usize = 0;
const KEY_ID: &str = "bench/clients";

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contestant {
    Ours,
    Peer { peer: Peer, program: PathBuf },
}

/// Ours, and the peers that know of caches.
pub(super) fn all(no_peers: bool, folder: &Path) -> Result<Vec<Contestant>> {
    let mut all = vec![Contestant::Ours];
    for peer in [Peer::VllmRouter, Peer::Smg] {
        if !no_peers {
            let program = peer.install(&folder.join("gateway"))?;
            all.push(Contestant::Peer { peer, program });
        }
    }
    Ok(all)
}

impl Contestant {
    /// Its name in the results.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer { peer, .. } => peer.name(),
        }
    }

    /// Starts it before these engines and waits until it is ready.
    pub(super) fn start(&self, engines: &[u16], folder: &Path) -> Result<Server> {
        let folder = tempfile::tempdir_in(folder).context("making a folder")?;
        // Its data stay until the whole benchmark ends.
        let folder = folder.keep();
        let port = free_port()?;
        let (mut command, ready) = match self {
            Self::Ours => {
                let config = folder.join("snapshot.json");
                fs::write(&config, snapshot(engines).to_string())
                    .context("writing the snapshot")?;
                let own = std::env::current_exe().context("finding this program")?;
                let mut command = apart::command_on(CORE, own)?;
                command.args(["serve-gateway", "--listen", &format!("127.0.0.1:{port}")]);
                command.arg("--config").arg(config);
                command.arg("--data-dir").arg(folder.join("data"));
                (command, "/readyz")
            }
            Self::Peer { peer, program } => {
                let mut command = apart::command_on(CORE, program)?;
                let ports = Ports {
                    listen: port,
                    upstreams: engines,
                    metrics: free_port()?,
                    policy: "cache_aware",
                };
                peer.configure(&mut command, ports, &folder)?;
                (command, peer.ready_path())
            }
        };
        let log = File::create(folder.join("log.txt")).context("creating a log")?;
        command.stdout(log.try_clone().context("creating a log")?);
        command.stderr(log).current_dir(&folder);
        Server::start(&mut command, port, ready)
    }
}

fn snapshot(engines: &[u16]) -> Value {
    let endpoints: Vec<String> = engines
        .iter()
        .map(|port| format!("http://127.0.0.1:{port}/v1"))
        .collect();
    let target =
        json!({"name": "fleet", "model": "m", "endpoints": endpoints, "weight": 1, "priority": 0});
    let route = json!({
        "namespace": "bench", "name": "m", "generation": 1, "models": ["m"], "strategy": "Weighted",
        "affinity": "Prefix", "targets": [target], "access": {"Keys": [KEY_ID]},
    });
    json!({"routes": [route], "keys": [{"id": KEY_ID, "hash": hash_key(KEY)}]})
}
