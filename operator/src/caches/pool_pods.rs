//! Pods of InferencePools: their labels are not ours, so that the Pods of each namespace with a Route to a pool are watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::Route;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use parking_lot::RwLock;
use tokio::{
    sync::{Notify, watch as settled},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    wake::{self, Signals},
    watch::watch,
};
use crate::inference_pool::InferencePool;

/// The Pods of the namespaces in which Routes name InferencePools.
#[derive(Clone)]
pub(crate) struct PoolPods {
    followed: Arc<RwLock<BTreeMap<String, Followed>>>,
    changed: Arc<Notify>,
    /// Whether the Pods of the pools that were there at the start were listed.
    is_settled: Arc<settled::Sender<bool>>,
}

/// A namespace; its watch ends when this is dropped.
struct Followed {
    pods: Store<Pod>,
    _stop: DropGuard,
}

/// What says which namespaces are followed, and who is told of their Pods.
pub(super) struct Keeper {
    pub(super) client: Client,
    pub(super) pools: Store<InferencePool>,
    pub(super) routes: Store<Route>,
    pub(super) signals: Signals,
}

impl Default for PoolPods {
    fn default() -> Self {
        Self {
            followed: Arc::default(),
            changed: Arc::default(),
            is_settled: Arc::new(settled::Sender::new(false)),
        }
    }
}

impl PoolPods {
    /// The Pods of a namespace; none if it is not followed.
    pub(crate) fn of(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let followed = self.followed.read();
        let found = followed.get(namespace);
        found.map_or_else(Vec::new, |found| found.pods.state())
    }

    /// Has it looked again which namespaces are to be followed.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Waits until the Pods of the pools that were there at the start were listed; whether that will be.
    pub(super) async fn wait_until_ready(&self) -> bool {
        let mut is_settled = self.is_settled.subscribe();
        is_settled.wait_for(|settled| *settled).await.is_ok()
    }

    /// Follows namespaces until `shutdown`.
    pub(super) async fn keep(self, keeper: Keeper, shutdown: CancellationToken) {
        let filled = async {
            let (pools, routes) = (&keeper.pools, &keeper.routes);
            let filled = tokio::join!(pools.wait_until_ready(), routes.wait_until_ready());
            filled.0.is_ok() && filled.1.is_ok()
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            is_filled = filled => if !is_filled { return },
        }
        let mut tasks = JoinSet::new();
        self.follow(&keeper, &mut tasks, &shutdown);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.listed() => {}
        }
        self.is_settled.send_replace(true);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => self.follow(&keeper, &mut tasks, &shutdown),
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Waits until the Pods of all namespaces that are followed were listed once.
    async fn listed(&self) {
        let stores: Vec<Store<Pod>> = {
            let followed = self.followed.read();
            followed.values().map(|found| found.pods.clone()).collect()
        };
        for store in stores {
            // One that will not be filled any more has lost its watch; there is nothing to wait for.
            let _ = store.wait_until_ready().await;
        }
    }

    fn follow(&self, keeper: &Keeper, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        let wanted = wanted(&keeper.routes.state(), |namespace, name| {
            let pool = ObjectRef::new(name).within(namespace);
            keeper.pools.get(&pool).is_some()
        });
        let mut followed = self.followed.write();
        followed.retain(|namespace, _| wanted.contains(namespace));
        for namespace in wanted {
            followed.entry(namespace).or_insert_with_key(|namespace| {
                let (pods, mut writer) = reflector::store();
                let stop = shutdown.child_token();
                let guard = stop.clone().drop_guard();
                let api = Api::namespaced(keeper.client.clone(), namespace);
                let signals = keeper.signals.clone();
                tasks.spawn(async move {
                    let wake = |pod: &Pod| signals.send(wake::of_pool(pod));
                    let config = watcher::Config::default();
                    watch(api, config, &mut writer, wake, |_| false, &stop).await;
                });
                Followed { pods, _stop: guard }
            });
        }
    }
}

/// The namespaces in which a Route names a pool that exists.
fn wanted(routes: &[Arc<Route>], exists: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
    let named = routes.iter().filter_map(|route| {
        let namespace = route.namespace()?;
        let mut backends = route.spec.targets.backends.iter();
        let is_named = backends.any(|backend| {
            let pool = backend.inference_pool_ref.as_ref();
            pool.is_some_and(|pool| exists(&namespace, &pool.name))
        });
        is_named.then_some(namespace)
    });
    named.collect()
}

#[cfg(test)]
mod tests;
