//! The work queue of a controller: names of objects to look at, each at most once.
//!
//! Bounded by the number of objects, since a name that waits already is not added again.

use std::{collections::BTreeSet, sync::Arc};

use futures::{Stream, stream};
use kube::{Resource, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    pub(crate) fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn to_ref<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

/// Names that wait to be looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    waiting: Arc<Mutex<BTreeSet<Key>>>,
    added: Arc<Notify>,
}

impl Queue {
    pub(crate) fn add(&self, key: Key) {
        self.waiting.lock().insert(key);
        self.added.notify_one();
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    fn take(&self) -> Option<Key> {
        self.waiting.lock().pop_first()
    }

    /// The names as they come, until `shutdown`.
    pub(crate) fn stream(
        &self,
        shutdown: CancellationToken,
    ) -> impl Stream<Item = Key> + Send + use<> {
        stream::unfold((self.clone(), shutdown), |(queue, shutdown)| async move {
            loop {
                if shutdown.is_cancelled() {
                    return None;
                }
                // Registered before the look, so that an addition in between is not missed.
                let added = queue.added.clone();
                let notified = added.notified();
                if let Some(key) = queue.take() {
                    return Some((key, (queue, shutdown)));
                }
                tokio::select! {
                    () = notified => {}
                    () = shutdown.cancelled() => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio_util::sync::CancellationToken;

    use super::{Key, Queue};

    #[tokio::test]
    async fn a_name_that_waits_is_not_added_twice() {
        let queue = Queue::default();
        let shutdown = CancellationToken::new();
        for name in ["b", "a", "b", "a"] {
            queue.add(Key::new("default", name));
        }
        assert_eq!(queue.len(), 2);
        let mut stream = Box::pin(queue.stream(shutdown.clone()));
        assert_eq!(stream.next().await, Some(Key::new("default", "a")));
        assert_eq!(stream.next().await, Some(Key::new("default", "b")));
        shutdown.cancel();
        assert_eq!(stream.next().await, None);
    }
}
