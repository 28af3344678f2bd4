//! Compiles the snapshots from the caches whenever something changes, on every replica of the operator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use protocol::snapshot::{AgentsSnapshot, GatewaySnapshot};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Snapshots, keys::key_entries};
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
        let holds = routes
            .iter()
            .map(|entry| (Key::new(&entry.namespace, &entry.name), entry.generation));
        let holds: BTreeMap<Key, i64> = holds.collect();
        if self
            .snapshots
            .gateway
            .publish(&GatewaySnapshot::new(routes, all_keys), holds)
        {
            self.published(self.snapshots.gateway.name, Wake::AllRoutes);
        }
        let agents = agent::entries(&self.caches, &self.snapshots, &self.settings);
        let holds = agents
            .iter()
            .map(|entry| (Key::new(&entry.namespace, &entry.name), entry.generation));
        let holds: BTreeMap<Key, i64> = holds.collect();
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
