//! Compiles the snapshots from the caches whenever something changes, on every replica of the operator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use protocol::snapshot::{AgentsSnapshot, GatewaySnapshot, content_hash};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Held, Snapshots,
    keys::key_entries,
    peers::{TokenPlace, peers},
};
use crate::{
    agent,
    caches::{Caches, Signals, Wake},
    context::Settings,
    metrics::{Metrics, Plane},
    queue::Key,
    route,
};

/// How long changes are gathered before a snapshot is compiled.
const GATHER: Duration = Duration::from_millis(20);

/// Compiles and publishes.
pub(crate) struct Publisher {
    pub(crate) caches: Caches,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) settings: Settings,
    pub(crate) token: TokenPlace,
    pub(crate) signals: Signals,
    pub(crate) changed: Arc<Notify>,
    pub(crate) metrics: Metrics,
}

impl Publisher {
    /// Publishes until `shutdown`; the caches must be filled before, lest half a snapshot go out.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            self.publish();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(GATHER) => {}
            }
        }
    }

    fn publish(&self) {
        let secrets = self.caches.secrets.state();
        let (all_keys, outside_keys) = key_entries(secrets.iter().map(|secret| &**secret));
        let routes = route::entries(&self.caches);
        let holds = held(&routes, |entry| {
            (Key::new(&entry.namespace, &entry.name), entry.generation)
        });
        let pods = self.caches.planes.state();
        let token = self.token.find(&self.caches);
        let replicas = peers(pods.iter().map(|pod| &**pod), token);
        let snapshot = GatewaySnapshot::new(routes, all_keys).shared_by(replicas);
        if self.snapshots.gateway.publish(&snapshot, holds) {
            self.published(self.snapshots.gateway.name, Wake::AllRoutes);
        }
        let agents = agent::entries(&self.caches, &self.snapshots, &self.settings);
        let holds = held(&agents, |entry| {
            (Key::new(&entry.namespace, &entry.name), entry.generation)
        });
        if self
            .snapshots
            .agents
            .publish(&AgentsSnapshot::new(agents, outside_keys), holds)
        {
            self.published(self.snapshots.agents.name, Wake::AllAgents);
        }
    }

    fn published(&self, plane: &'static str, wake: Wake) {
        self.metrics.snapshots.get_or_create(&Plane { plane }).inc();
        self.signals.send(vec![wake]);
    }
}

/// What a snapshot holds of each object: all its entries, in their order.
fn held<E: Serialize>(entries: &[E], of: impl Fn(&E) -> (Key, i64)) -> BTreeMap<Key, Held> {
    let mut by_object: BTreeMap<Key, (i64, Vec<&E>)> = BTreeMap::new();
    for entry in entries {
        let (key, generation) = of(entry);
        by_object
            .entry(key)
            .or_insert_with(|| (generation, Vec::new()))
            .1
            .push(entry);
    }
    let hold = |(generation, entries): (i64, Vec<&E>)| Held {
        generation,
        content: content_hash(&entries),
    };
    by_object
        .into_iter()
        .map(|(key, entries)| (key, hold(entries)))
        .collect()
}
