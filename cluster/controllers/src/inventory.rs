//! The metadata of all objects of all kinds, whatever kinds there are: who owns what, what is left in a namespace.
//!
//! Kinds come from discovery, which runs again whenever a CustomResourceDefinition changes. Events are left out:
//! nothing owns them, they own nothing, and there are many.

mod discover;
mod graph;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use parking_lot::RwLock;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

#[cfg(test)]
pub(crate) use self::graph::tests as graph_tests;
pub(crate) use self::{
    discover::Kind,
    graph::{Graph, Node, Uid},
};
use crate::{cache::Key, queue::Queue};

/// How long to wait for more definitions before discovery runs again: they come in batches.
const SETTLE: Duration = Duration::from_millis(100);
/// How long to wait before failed discovery is tried again.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);
/// Objects a page when a kind is listed.
const PAGE_SIZE: u32 = 500;

/// The metadata of all objects of all kinds.
pub(crate) struct Inventory {
    client: Client,
    graph: RwLock<Graph>,
    kinds: RwLock<Arc<Vec<Kind>>>,
    kinds_unsynced: watch::Sender<usize>,
    garbage: Arc<Queue<Uid>>,
    namespaces: Arc<Queue<Key>>,
}

impl Inventory {
    /// An inventory that queues the objects to look at and the namespaces that lost one.
    pub(crate) fn new(
        client: Client,
        garbage: Arc<Queue<Uid>>,
        namespaces: Arc<Queue<Key>>,
    ) -> Self {
        Self {
            client,
            graph: RwLock::default(),
            kinds: RwLock::default(),
            // One until the first discovery, so that nobody takes "nothing known" for "nothing there".
            kinds_unsynced: watch::Sender::new(1),
            garbage,
            namespaces,
        }
    }

    /// The kinds that can be listed and deleted.
    pub(crate) fn kinds(&self) -> Arc<Vec<Kind>> {
        Arc::clone(&self.kinds.read())
    }

    /// One object and the objects that name it as owner.
    pub(crate) fn family(&self, uid: &Uid) -> Option<(Arc<Node>, Vec<Arc<Node>>)> {
        let graph = self.graph.read();
        Some((graph.get(uid)?, graph.dependents(uid)))
    }

    /// One object.
    pub(crate) fn get(&self, uid: &Uid) -> Option<Arc<Node>> {
        self.graph.read().get(uid)
    }

    /// Waits until every known kind was listed once.
    pub(crate) async fn wait_until_synced(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self
            .kinds_unsynced
            .subscribe()
            .wait_for(|unsynced| *unsynced == 0)
            .await;
    }

    /// Watches all kinds until shutdown; `changed` says that definitions changed.
    pub(crate) async fn follow(
        self: Arc<Self>,
        mut changed: watch::Receiver<u64>,
        shutdown: CancellationToken,
    ) {
        let mut watchers: HashMap<ApiResource, CancellationToken> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut is_first = true;
        loop {
            match discover::discover(&self.client).await {
                Ok(kinds) => {
                    self.watch_kinds(&kinds, &mut watchers, &mut tasks, &shutdown);
                    *self.kinds.write() = Arc::new(kinds);
                    if std::mem::take(&mut is_first) {
                        self.kinds_unsynced.send_modify(|unsynced| *unsynced -= 1);
                    }
                    self.look_at_owned();
                }
                Err(error) => {
                    warn!(%error, "discovery failed, will retry");
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = tokio::time::sleep(DISCOVERY_RETRY) => continue,
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                result = changed.changed() => if result.is_err() { break },
            }
            tokio::time::sleep(SETTLE).await;
            changed.mark_unchanged();
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Starts watching the kinds that are new and stops watching those that are gone.
    fn watch_kinds(
        self: &Arc<Self>,
        kinds: &[Kind],
        watchers: &mut HashMap<ApiResource, CancellationToken>,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) {
        watchers.retain(|resource, stop| {
            let stays = kinds.iter().any(|kind| kind.resource == *resource);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for kind in kinds
            .iter()
            .filter(|kind| kind.is_watchable && kind.resource.plural != "events")
        {
            if watchers.contains_key(&kind.resource) {
                continue;
            }
            let stop = shutdown.child_token();
            watchers.insert(kind.resource.clone(), stop.clone());
            self.kinds_unsynced.send_modify(|unsynced| *unsynced += 1);
            tasks.spawn(Arc::clone(self).follow_kind(kind.resource.clone(), stop));
        }
        while tasks.try_join_next().is_some() {}
        debug!(kinds = watchers.len(), "inventory watches");
    }

    async fn follow_kind(self: Arc<Self>, resource: ApiResource, stop: CancellationToken) {
        let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(self.client.clone(), &resource);
        let config = watcher::Config::default().page_size(PAGE_SIZE);
        let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let resource = Arc::new(resource);
        let mut known: HashMap<Key, Uid> = HashMap::new();
        let mut listed: HashMap<Key, Uid> = HashMap::new();
        let mut is_synced = false;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(object))) => {
                    let object = Node::new(&resource, object);
                    listed.insert(object.key.clone(), object.uid.clone());
                    self.put(object);
                }
                Some(Ok(Event::InitDone)) => {
                    let before = std::mem::replace(&mut known, std::mem::take(&mut listed));
                    for (key, uid) in before {
                        if known.get(&key) != Some(&uid) {
                            self.remove(&uid);
                        }
                    }
                    if !std::mem::replace(&mut is_synced, true) {
                        self.kinds_unsynced.send_modify(|unsynced| *unsynced -= 1);
                    }
                }
                Some(Ok(Event::Apply(object))) => {
                    let object = Node::new(&resource, object);
                    let before = known.insert(object.key.clone(), object.uid.clone());
                    if let Some(uid) = before.filter(|uid| *uid != object.uid) {
                        self.remove(&uid);
                    }
                    self.put(object);
                }
                Some(Ok(Event::Delete(object))) => {
                    known.remove(&Key::of(&object));
                    self.remove(&object.uid().unwrap_or_default());
                }
                Some(Err(error)) => {
                    debug!(kind = resource.kind, %error, "watch interrupted, will resume");
                }
                None => break,
            }
        }
        for uid in known.values() {
            self.remove(uid);
        }
        if !is_synced {
            self.kinds_unsynced.send_modify(|unsynced| *unsynced -= 1);
        }
    }

    fn put(&self, node: Node) {
        let affected = self.graph.write().put(node);
        for uid in affected {
            self.garbage.add(uid);
        }
    }

    fn remove(&self, uid: &Uid) {
        let (node, affected) = self.graph.write().remove(uid);
        for uid in affected {
            self.garbage.add(uid);
        }
        if let Some(node) = node.filter(|node| !node.key.namespace.is_empty()) {
            self.namespaces
                .add(Key::new("", node.key.namespace.clone()));
        }
    }

    /// Kinds changed, so an owner of a kind that was unknown may be known now.
    fn look_at_owned(&self) {
        let owned = self.graph.read().owned();
        info!(objects_owned = owned.len(), "kinds discovered");
        for uid in owned {
            self.garbage.add(uid);
        }
    }
}
