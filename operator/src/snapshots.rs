//! What the data planes get: compiled, published as editions, streamed, acknowledged.

mod acks;
mod authenticate;
mod keys;
mod peers;
mod publisher;
mod server;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use crds::{Condition, ConditionKind};
use kube::Resource;
use parking_lot::Mutex;
use protocol::snapshot::{AgentsSnapshot, GatewaySnapshot, Snapshot, content_hash};
use serde::Serialize;
use tokio::sync::watch;

use self::acks::Asked;
pub(crate) use self::{
    acks::{Programmed, Replicas, SETTLING},
    authenticate::Authenticator,
    keys::{has_key_label, key_id},
    peers::TokenPlace,
    publisher::Publisher,
    server::{SnapshotServer, router},
};
use crate::{conditions, queue::Key};

/// A snapshot as it is sent, with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edition {
    pub(crate) version: String,
    /// The JSON line with its end.
    pub(crate) line: Bytes,
    /// The objects in it.
    pub(crate) holds: BTreeMap<Key, Held>,
}

/// What an edition holds of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The generation that it was compiled from.
    pub(crate) generation: i64,
    /// The hash of its entries, addresses included.
    pub(crate) content: String,
}

/// One kind of data plane.
#[derive(Debug)]
pub(crate) struct Plane {
    /// The plane's name in URLs, labels and metrics.
    pub(crate) name: &'static str,
    current: watch::Sender<Option<Arc<Edition>>>,
    pub(crate) replicas: Mutex<Replicas>,
}

impl Plane {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            current: watch::Sender::new(None),
            replicas: Mutex::default(),
        }
    }

    /// The editions as they are published.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<Arc<Edition>>> {
        self.current.subscribe()
    }

    /// Whether every replica has the object: this generation of it, and these entries.
    ///
    /// `before` are its conditions, `ready` the plane's ready Pods.
    pub(crate) fn programmed<K: Resource>(
        &self,
        object: &K,
        entries: &impl Serialize,
        before: &[Condition],
        ready: &[String],
    ) -> Programmed {
        let generation = object.meta().generation.unwrap_or(0);
        let asked = Asked {
            key: &Key::of(object),
            wanted: Held {
                generation,
                content: content_hash(entries),
            },
            was_programmed: conditions::holds(before, ConditionKind::Programmed, generation),
            ready,
        };
        self.replicas.lock().programmed(self.name, &asked)
    }

    /// Publishes a snapshot if it differs from the one before; tells whether it did.
    fn publish(&self, snapshot: &impl Snapshot, holds: BTreeMap<Key, Held>) -> bool {
        if self
            .current
            .borrow()
            .as_ref()
            .is_some_and(|edition| edition.version == snapshot.version())
        {
            return false;
        }
        let Ok(mut line) = serde_json::to_vec(snapshot) else {
            return false;
        };
        line.push(b'\n');
        let edition = Arc::new(Edition {
            version: snapshot.version().to_owned(),
            line: Bytes::from(line),
            holds,
        });
        tracing::info!(plane = self.name, version = %edition.version, objects = edition.holds.len(), "snapshot published");
        self.replicas.lock().published(Arc::clone(&edition));
        self.current.send_replace(Some(edition));
        true
    }
}

/// The snapshots of all planes.
#[derive(Debug)]
pub(crate) struct Snapshots {
    pub(crate) gateway: Plane,
    pub(crate) agents: Plane,
    /// Where workspaces were reached last, so that an agent keeps its tools while a Pod restarts.
    addresses: Mutex<HashMap<Key, String>>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            gateway: Plane::new(GatewaySnapshot::PLANE),
            agents: Plane::new(AgentsSnapshot::PLANE),
            addresses: Mutex::default(),
        }
    }
}

impl Snapshots {
    /// The plane with this name.
    pub(crate) fn plane(&self, name: &str) -> Option<&Plane> {
        [&self.gateway, &self.agents]
            .into_iter()
            .find(|plane| plane.name == name)
    }

    /// The address of a workspace: the one now, else the last one.
    pub(crate) fn remember_address(&self, workspace: &Key, now: Option<String>) -> Option<String> {
        let mut addresses = self.addresses.lock();
        match now {
            Some(address) => {
                addresses.insert(workspace.clone(), address.clone());
                Some(address)
            }
            None => addresses.get(workspace).cloned(),
        }
    }
}
