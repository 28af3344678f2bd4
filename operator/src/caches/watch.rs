//! One watch: list, then follow; keep the objects, wake those whom a change concerns.

use std::{fmt::Debug, sync::Arc};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, reflector::store::Writer, watcher},
};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::prune::Prune;

/// A kind that can be watched.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + Prune + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + Prune
        + 'static
{
}

/// Runs until `shutdown`, or until an error that `is_over` takes for the end; a watch that breaks otherwise starts again
/// with back-off.
pub(super) async fn watch<K: Watched>(
    api: Api<K>,
    config: watcher::Config,
    writer: &mut Writer<K>,
    wake: impl Fn(&K) + Send,
    is_over: impl Fn(&watcher::Error) -> bool + Send,
    shutdown: &CancellationToken,
) {
    let kind = K::kind(&()).into_owned();
    let mut events = watcher(api, config).default_backoff().boxed();
    let reader = writer.as_reader();
    // What a new list no longer has was deleted unseen; its owners must hear of it.
    let mut before: Vec<Arc<K>> = Vec::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Err(error)) if is_over(&error) => return,
            Some(Err(error)) => tracing::warn!(%kind, error = %error, "watch interrupted"),
            Some(Ok(mut event)) => {
                if let watcher::Event::Apply(object) | watcher::Event::InitApply(object) =
                    &mut event
                {
                    object.managed_fields_mut().clear();
                    object.prune();
                }
                if matches!(event, watcher::Event::Init) {
                    before = reader.state();
                }
                writer.apply_watcher_event(&event);
                match &event {
                    watcher::Event::Apply(object) | watcher::Event::Delete(object) => wake(object),
                    watcher::Event::InitDone => {
                        reader
                            .state()
                            .iter()
                            .chain(&before)
                            .for_each(|object| wake(object));
                        before = Vec::new();
                    }
                    watcher::Event::Init | watcher::Event::InitApply(_) => {}
                }
            }
        }
    }
}
