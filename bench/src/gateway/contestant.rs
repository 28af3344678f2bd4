//! Who is measured: ours, the floor, the peers; each started the same way, on the same core.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use protocol::key::hash_key;
use serde_json::{Value, json};

use crate::{
    apart,
    process::{Server, free_port},
};

use super::{
    peers::{Peer, Ports},
    script::{KEY, MODEL},
};

/// The core of the gateway under test; nothing else of the benchmark runs there.
const CORE: usize = 0;
const KEY_ID: &str = "bench/clients";
/// What a million tokens cost, in nano-dollars.
const PRICE: u64 = 200_000_000;
/// More than any measurement uses, of requests, tokens and nano-dollars.
const NEVER_REACHED: u64 = 1_000_000_000_000_000;

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contestant {
    Ours {
        /// Further routes and keys that nobody uses.
        others: usize,
    },
    Floor,
    Peer {
        peer: Peer,
        program: PathBuf,
    },
}

/// What all of them find when they start.
#[derive(Debug)]
pub(super) struct Place {
    /// A copy of this program: what is measured shares no memory with the rest of the benchmark.
    pub(super) program: PathBuf,
    /// The fake upstream's port.
    pub(super) upstream: u16,
    /// A folder for files.
    pub(super) folder: PathBuf,
}

impl Contestant {
    /// Its name in the results.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Ours { others: 0 } => "ours".to_owned(),
            Self::Ours { others } => format!("ours, {others} further routes and keys"),
            Self::Floor => "bare hyper".to_owned(),
            Self::Peer { peer, .. } => peer.name().to_owned(),
        }
    }

    /// Starts it and waits until it is ready.
    pub(super) fn start(&self, place: &Place) -> Result<Server> {
        let folder = tempfile::tempdir_in(&place.folder).context("making a folder")?;
        // Its data stay until the whole benchmark ends.
        let folder = folder.keep();
        let port = free_port()?;
        let (mut command, ready) = match self {
            Self::Ours { others } => (ours(place, &folder, port, *others)?, "/readyz"),
            Self::Floor => (floor(place, port)?, "/ready"),
            Self::Peer { peer, program } => {
                let mut command = apart::command_on(CORE, program)?;
                let ports = Ports {
                    listen: port,
                    upstreams: &[place.upstream],
                    metrics: free_port()?,
                    policy: "round_robin",
                };
                peer.configure(&mut command, ports, &folder)?;
                (command, peer.ready_path())
            }
        };
        let log = folder.join("log.txt");
        let file = File::create(&log).context("creating a log")?;
        command.stdout(file.try_clone().context("creating a log")?);
        command.stderr(file).current_dir(&folder);
        Server::start(&mut command, port, ready).with_context(|| {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<_> = text.lines().rev().take(3).collect();
            format!("its log ends with `{}`", last.join(" / "))
        })
    }
}

/// The gateway's role, with a key, limits, a budget and the ledger.
fn ours(place: &Place, folder: &Path, port: u16, others: usize) -> Result<Command> {
    let config = folder.join("snapshot.json");
    let snapshot = snapshot(place.upstream, others);
    fs::write(&config, snapshot.to_string()).context("writing the snapshot")?;
    let mut command = apart::command_on(CORE, &place.program)?;
    command.args(["serve-gateway", "--listen", &format!("127.0.0.1:{port}")]);
    command.arg("--config").arg(config);
    command.arg("--data-dir").arg(folder.join("data"));
    Ok(command)
}

fn floor(place: &Place, port: u16) -> Result<Command> {
    let mut command = apart::command_on(CORE, &place.program)?;
    command.args(["serve-floor", "--port", &port.to_string()]);
    command.args(["--upstream", &place.upstream.to_string()]);
    Ok(command)
}

/// As people write it: what the file format has beyond this has defaults.
fn snapshot(upstream: u16, others: usize) -> Value {
    let route = |name: &str| {
        let endpoint = format!("http://127.0.0.1:{upstream}/v1");
        let prices = json!({"inputNanos": PRICE, "outputNanos": PRICE});
        let target = json!({
            "name": "fake", "model": name, "endpoints": [endpoint], "weight": 1, "priority": 0, "prices": prices,
        });
        let rate = json!({"limit": NEVER_REACHED, "windowMillis": 60_000});
        json!({
            "namespace": "bench", "name": name, "generation": 1, "models": [name], "strategy": "Weighted",
            "targets": [target], "access": {"Keys": [KEY_ID]},
            "limits": [{"name": "rates", "requests": rate, "tokens": rate, "concurrency": 10_000}],
            "budgets": [{"name": "daily", "amountNanos": NEVER_REACHED, "windowMillis": 86_400_000}],
        })
    };
    let key = |id: &str, secret: &str| json!({"id": id, "hash": hash_key(secret)});
    // Ours is the last one that a search from the front finds.
    let names = (0..others).map(|number| format!("other-{number}"));
    let mut routes: Vec<_> = names.clone().map(|name| route(&name)).collect();
    let mut keys: Vec<_> = names.map(|name| key(&name, &name)).collect();
    routes.push(route(MODEL));
    keys.push(key(KEY_ID, KEY));
    json!({"routes": routes, "keys": keys})
}

#[cfg(test)]
mod tests {
    use protocol::snapshot::{Access, GatewaySnapshot, RouteEntry};

    use super::{KEY_ID, snapshot};

    #[test]
    fn the_snapshot_is_one_with_a_key_limits_and_a_budget() {
        let snapshot: GatewaySnapshot = serde_json::from_value(snapshot(8000, 2)).unwrap();
        assert_eq!((snapshot.routes.len(), snapshot.keys.len()), (3, 3));
        let access = Access::Keys(vec![KEY_ID.to_owned()]);
        let is_governed = |route: &RouteEntry| {
            route.access == access && route.limits.len() == 1 && route.budgets.len() == 1
        };
        assert!(snapshot.routes.iter().all(is_governed));
    }
}
