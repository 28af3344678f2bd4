//! What the node keeps in memory of the API's objects, and the news of their changes.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Resource, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::environment::Sources;

/// Reflected objects; clones share them.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) config_maps: Store<ConfigMap>,
    pub(crate) secrets: Store<Secret>,
    pub(crate) services: Store<Service>,
    pub(crate) slices: Store<EndpointSlice>,
    /// Counts changes of ConfigMaps and Secrets.
    pub(crate) files_changed: watch::Receiver<u64>,
    /// Counts changes of Services and their endpoints.
    pub(crate) services_changed: watch::Receiver<u64>,
}

impl Caches {
    /// Starts the watches; they end with `shutdown`.
    pub(crate) fn start(
        client: &kube::Client,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let (files, files_changed) = watch::channel(0);
        let (services, services_changed) = watch::channel(0);
        let (files, services) = (Arc::new(files), Arc::new(services));
        Self {
            config_maps: keep(client, tasks, shutdown, &files),
            secrets: keep(client, tasks, shutdown, &files),
            services: keep(client, tasks, shutdown, &services),
            slices: keep(client, tasks, shutdown, &services),
            files_changed,
            services_changed,
        }
    }

    /// Waits until the first list of every kind is in.
    pub(crate) async fn ready(&self) -> bool {
        let ready = tokio::join!(
            self.config_maps.wait_until_ready(),
            self.secrets.wait_until_ready(),
            self.services.wait_until_ready(),
            self.slices.wait_until_ready(),
        );
        ready.0.is_ok() && ready.1.is_ok() && ready.2.is_ok() && ready.3.is_ok()
    }
}

fn keep<K>(
    client: &kube::Client,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
    changed: &Arc<watch::Sender<u64>>,
) -> Store<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (reader, writer) = store();
    let events =
        watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
    let mut stream = Box::pin(reflector(writer, events));
    let (shutdown, changed) = (shutdown.clone(), Arc::clone(changed));
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = stream.next() => match event {
                    Some(Ok(watcher::Event::InitApply(_) | watcher::Event::Init)) => {}
                    Some(Ok(_)) => changed.send_modify(|count| *count += 1),
                    Some(Err(error)) => tracing::debug!(kind = %K::kind(&()), %error, "watch interrupted"),
                    None => return,
                },
            }
        }
    });
    reader
}

/// The ConfigMaps and Secrets of one namespace.
pub(crate) struct NamespaceSources<'a> {
    pub(crate) caches: &'a Caches,
    pub(crate) namespace: &'a str,
}

impl Sources for NamespaceSources<'_> {
    fn config_map(&self, name: &str) -> Option<ConfigMap> {
        get(&self.caches.config_maps, self.namespace, name)
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        get(&self.caches.secrets, self.namespace, name)
    }
}

fn get<K: Resource<DynamicType = ()> + Clone + 'static>(
    store: &Store<K>,
    namespace: &str,
    name: &str,
) -> Option<K> {
    store
        .get(&ObjectRef::new(name).within(namespace))
        .map(|object| (*object).clone())
}

/// The Services whose link variables a Pod of `namespace` gets.
pub(crate) fn linked_services(caches: &Caches, namespace: &str, all: bool) -> Vec<Arc<Service>> {
    let services = caches.services.state().into_iter();
    services
        .filter(|service| {
            let in_namespace = service.namespace().as_deref() == Some(namespace);
            let is_master = service.namespace().as_deref() == Some("default")
                && service.name_any() == "kubernetes";
            (all && in_namespace) || is_master
        })
        .collect()
}
