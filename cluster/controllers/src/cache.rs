//! The watched objects of one kind, and who wants to hear of their changes.
//!
//! Invariant: listeners hear every change between two states of the cache, also those found by a new list after a
//! broken watch; the cache holds the new state when they are called.

use std::{collections::HashMap, fmt, sync::Arc};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Namespace and name; the namespace of cluster-scoped objects is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The namespace.
    pub(crate) namespace: String,
    /// The name.
    pub(crate) name: String,
}

impl Key {
    /// The key of an object.
    pub(crate) fn of(object: &impl ResourceExt) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }

    /// The key of a name in a namespace.
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// One change of one object; never both `None`.
#[derive(Debug)]
pub(crate) struct Change<'a, K> {
    /// The object before, unless it is new.
    pub(crate) old: Option<&'a K>,
    /// The object now, unless it is gone.
    pub(crate) new: Option<&'a K>,
}

impl<'a, K> Change<'a, K> {
    /// The states that there are, old first.
    pub(crate) fn states(&self) -> impl Iterator<Item = &'a K> {
        self.old.into_iter().chain(self.new)
    }
}

type Listener<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// The watched objects of one kind.
pub(crate) struct Cache<K> {
    objects: RwLock<HashMap<Key, Arc<K>>>,
    listeners: RwLock<Vec<Listener<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> fmt::Debug for Cache<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cache")
            .field("objects", &self.objects.read().len())
            .finish_non_exhaustive()
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::new(HashMap::new()),
            listeners: RwLock::new(Vec::new()),
            synced: watch::Sender::new(false),
        }
    }
}

impl<K> Cache<K>
where
    K: Resource + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Adds a listener; called from the watching task, so it must not block.
    pub(crate) fn listen(&self, listener: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.listeners.write().push(Box::new(listener));
    }

    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.read().get(key).map(Arc::clone)
    }

    /// All objects that fit.
    pub(crate) fn filter(&self, fits: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.objects
            .read()
            .values()
            .filter(|object| fits(object))
            .map(Arc::clone)
            .collect()
    }

    /// All objects of a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.filter(|object| object.meta().namespace.as_deref() == Some(namespace))
    }

    /// Waits for the first complete list.
    pub(crate) async fn wait_until_synced(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Keeps the cache up to date until shutdown.
    pub(crate) async fn follow(
        self: Arc<Self>,
        api: Api<K>,
        config: watcher::Config,
        shutdown: CancellationToken,
    ) {
        let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut listed = HashMap::new();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                None => return,
                Some(Ok(event)) => self.take(event, &mut listed),
                Some(Err(error)) => debug!(%error, "watch interrupted, will resume"),
            }
        }
    }

    fn take(&self, event: Event<K>, listed: &mut HashMap<Key, Arc<K>>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(Key::of(&object), Arc::new(slim(object)));
            }
            Event::InitDone => self.swap(listed),
            Event::Apply(object) => {
                let object = Arc::new(slim(object));
                let old = self
                    .objects
                    .write()
                    .insert(Key::of(&*object), Arc::clone(&object));
                self.tell(old.as_deref(), Some(&*object));
            }
            Event::Delete(object) => {
                let old = self.objects.write().remove(&Key::of(&object));
                self.tell(Some(old.as_deref().unwrap_or(&object)), None);
            }
        }
    }

    fn swap(&self, listed: &mut HashMap<Key, Arc<K>>) {
        let before = std::mem::replace(&mut *self.objects.write(), listed.clone());
        for (key, old) in &before {
            if !listed.contains_key(key) {
                self.tell(Some(old), None);
            }
        }
        for (key, new) in listed.drain() {
            let old = before.get(&key);
            if old.is_none_or(|old| old.resource_version() != new.resource_version()) {
                self.tell(old.map(|old| &**old), Some(&new));
            }
        }
        self.synced.send_replace(true);
    }

    fn tell(&self, old: Option<&K>, new: Option<&K>) {
        let change = Change { old, new };
        for listener in self.listeners.read().iter() {
            listener(&change);
        }
    }
}

/// Managed fields are the larger half of most objects and no controller reads them.
fn slim<K: ResourceExt>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use k8s_openapi::api::core::v1::Namespace;
    use kube::{ResourceExt, core::ObjectMeta, runtime::watcher::Event};
    use parking_lot::Mutex;

    use super::Cache;

    fn namespace(name: &str, version: &str) -> Namespace {
        Namespace {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        }
    }

    #[test]
    fn a_new_list_tells_of_what_was_missed() {
        let cache = Cache::<Namespace>::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        cache.listen(move |change| {
            sink.lock().push((
                change.old.map(ResourceExt::name_any),
                change.new.map(ResourceExt::name_any),
            ));
        });
        let mut listed = HashMap::new();
        for event in [
            Event::Init,
            Event::InitApply(namespace("a", "1")),
            Event::InitApply(namespace("b", "2")),
            Event::InitDone,
        ] {
            cache.take(event, &mut listed);
        }
        heard.lock().clear();
        for event in [
            Event::Init,
            Event::InitApply(namespace("b", "2")),
            Event::InitApply(namespace("c", "3")),
            Event::InitDone,
        ] {
            cache.take(event, &mut listed);
        }
        assert_eq!(
            *heard.lock(),
            [(Some("a".to_owned()), None), (None, Some("c".to_owned()))]
        );
    }
}
