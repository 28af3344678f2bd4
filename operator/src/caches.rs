//! What the operator knows of the cluster: one watch a kind, kept in memory, and who is woken by a change.

mod optional;
mod pool_pods;
mod prune;
mod wake;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use crds::{
    Agent, Model, Route, Workspace, WorkspaceTemplate,
    names::{COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, PROMPTS_LABEL},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{
    optional::{ABSENCE_PAUSE, watch_if_there},
    pool_pods::Keeper,
    wake::Wakes,
    watch::watch,
};
pub(crate) use self::{
    pool_pods::PoolPods,
    wake::{Signals, Wake, dispatch},
};
use crate::{inference_pool::InferencePool, queue::Key};

/// The label that an EndpointSlice has of its Service.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The caches.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) models: Store<Model>,
    pub(crate) routes: Store<Route>,
    pub(crate) agents: Store<Agent>,
    pub(crate) workspaces: Store<Workspace>,
    pub(crate) templates: Store<WorkspaceTemplate>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) services: Store<Service>,
    pub(crate) claims: Store<PersistentVolumeClaim>,
    /// Pods of engines and workspaces.
    pub(crate) pods: Store<Pod>,
    /// Pods of the gateway and the agent runtime.
    pub(crate) planes: Store<Pod>,
    pub(crate) secrets: Store<Secret>,
    pub(crate) policies: Store<NetworkPolicy>,
    pub(crate) slices: Store<EndpointSlice>,
    /// Those with prompts.
    pub(crate) prompts: Store<ConfigMap>,
    /// Empty where the cluster does not have the kind.
    pub(crate) pools: Store<InferencePool>,
    pub(crate) pool_pods: PoolPods,
}

impl Caches {
    /// Starts the watches; they end with `shutdown`.
    pub(crate) fn start(
        client: &Client,
        system_namespace: &str,
        signals: &Signals,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Self {
        let all = watcher::Config::default;
        let ours = || all().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        let planes = all().labels(&format!("{COMPONENT_LABEL} in (gateway,agents)"));
        let slices = all().labels(SERVICE_NAME_LABEL);
        let mut start = Start {
            client,
            signals,
            tasks,
            shutdown,
        };
        let (pools, routes) = (start.pools(), start.all(all()));
        Self {
            pool_pods: start.pool_pods(&pools, &routes),
            pools,
            routes,
            models: start.all(all()),
            agents: start.all(all()),
            workspaces: start.all(all()),
            templates: start.all(all()),
            deployments: start.all(ours()),
            services: start.all(ours()),
            claims: start.all(ours()),
            pods: start.all(ours()),
            planes: start.within(
                Api::namespaced(client.clone(), system_namespace),
                planes,
                wake::of_plane,
            ),
            secrets: start.all(all()),
            policies: start.all(ours()),
            slices: start.all(slices),
            prompts: start.all(all().labels(PROMPTS_LABEL)),
        }
    }

    /// Waits until each kind was listed once.
    pub(crate) async fn wait_until_ready(&self) -> bool {
        let results = tokio::join!(
            self.models.wait_until_ready(),
            self.agents.wait_until_ready(),
            self.workspaces.wait_until_ready(),
            self.templates.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.services.wait_until_ready(),
            self.claims.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.planes.wait_until_ready(),
            self.secrets.wait_until_ready(),
            self.policies.wait_until_ready(),
            self.slices.wait_until_ready(),
            self.prompts.wait_until_ready(),
            // These wait for the Routes. A store wakes only the last of those who wait for it: nobody else may.
            self.pool_pods.wait_until_ready(),
        );
        let (
            models,
            agents,
            workspaces,
            templates,
            deployments,
            services,
            claims,
            pods,
            planes,
            secrets,
            policies,
            slices,
            prompts,
            pool_pods,
        ) = results;
        let kinds = [
            models,
            agents,
            workspaces,
            templates,
            deployments,
            services,
            claims,
            pods,
            planes,
            secrets,
            policies,
            slices,
            prompts,
        ];
        pool_pods && kinds.iter().all(Result::is_ok)
    }

    /// An object by name.
    pub(crate) fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<Arc<K>>
    where
        K: kube::Resource<DynamicType = ()> + Clone,
    {
        store.get(&ObjectRef::new(name).within(namespace))
    }

    /// The pods with a label, by name.
    pub(crate) fn pods_with(&self, namespace: &str, label: &str, value: &str) -> Vec<Arc<Pod>> {
        let has = |pod: &Pod| {
            pod.namespace().as_deref() == Some(namespace)
                && pod.labels().get(label).is_some_and(|found| found == value)
        };
        let mut pods = self.pods.state_filter(has);
        pods.sort_by_key(|pod| pod.name_any());
        pods
    }

    /// The data of a Secret, if it exists.
    pub(crate) fn secret_data(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<BTreeMap<String, String>> {
        let secret = Self::get(&self.secrets, namespace, name)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(
            secret
                .data
                .iter()
                .flatten()
                .map(|(key, bytes)| (key.clone(), text(&bytes.0)))
                .collect(),
        )
    }

    /// Names of all objects in a cache.
    pub(crate) fn keys<K>(store: &Store<K>) -> Vec<Key>
    where
        K: kube::Resource<DynamicType = ()> + Clone,
    {
        store
            .state()
            .iter()
            .map(|object| Key::of(&**object))
            .collect()
    }
}

struct Start<'a> {
    client: &'a Client,
    signals: &'a Signals,
    tasks: &'a mut JoinSet<()>,
    shutdown: &'a CancellationToken,
}

impl Start<'_> {
    /// Watches a kind in all namespaces.
    fn all<K>(&mut self, config: watcher::Config) -> Store<K>
    where
        K: watch::Watched + Wakes,
    {
        self.within(Api::all(self.client.clone()), config, K::wakes)
    }

    fn within<K: watch::Watched>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        wakes: fn(&K) -> Vec<Wake>,
    ) -> Store<K> {
        let (store, writer) = kube::runtime::reflector::store();
        let signals = self.signals.clone();
        let wake = move |object: &K| signals.send(wakes(object));
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let mut writer = writer;
            watch(api, config, &mut writer, wake, |_| false, &shutdown).await;
        });
        store
    }

    /// Watches InferencePools, as soon as the cluster has that kind.
    fn pools(&mut self) -> Store<InferencePool> {
        let (store, writer) = kube::runtime::reflector::store();
        let signals = self.signals.clone();
        let wake = move |pool: &InferencePool| signals.send(pool.wakes());
        let api = Api::all(self.client.clone());
        let shutdown = self.shutdown.clone();
        self.tasks
            .spawn(watch_if_there(api, writer, wake, ABSENCE_PAUSE, shutdown));
        store
    }

    /// Follows the Pods of the pools that Routes name.
    fn pool_pods(&mut self, pools: &Store<InferencePool>, routes: &Store<Route>) -> PoolPods {
        let pods = PoolPods::default();
        let keeper = Keeper {
            client: self.client.clone(),
            pools: pools.clone(),
            routes: routes.clone(),
            signals: self.signals.clone(),
        };
        self.tasks
            .spawn(pods.clone().keep(keeper, self.shutdown.clone()));
        pods
    }
}
