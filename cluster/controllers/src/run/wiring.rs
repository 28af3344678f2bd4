//! Which change of which kind concerns which controller.

use std::{future::Future, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{
            ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Service,
            ServiceAccount,
        },
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{ResourceExt, api::PartialObjectMeta};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    cache::{Cache, Change, Key},
    endpoint_slice,
    expectations::Expectations,
    inventory::Uid,
    owners,
    queue::Queue,
    replica_set,
    volume_claim::{self, VolumeKey},
    worker::{Reconcile, work},
};

/// The caches that controllers share.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) namespaces: Arc<Cache<Namespace>>,
    pub(super) pods: Arc<Cache<Pod>>,
    pub(super) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(super) deployments: Arc<Cache<Deployment>>,
    pub(super) jobs: Arc<Cache<Job>>,
    pub(super) stateful_sets: Arc<Cache<StatefulSet>>,
    pub(super) revisions: Arc<Cache<ControllerRevision>>,
    pub(super) services: Arc<Cache<Service>>,
    pub(super) slices: Arc<Cache<EndpointSlice>>,
    pub(super) claims: Arc<Cache<PersistentVolumeClaim>>,
    pub(super) volumes: Arc<Cache<PersistentVolume>>,
    pub(super) accounts: Arc<Cache<ServiceAccount>>,
    pub(super) config_maps: Arc<Cache<ConfigMap>>,
    pub(super) definitions: Arc<Cache<PartialObjectMeta<CustomResourceDefinition>>>,
}

/// The queues of all controllers.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) namespaces: Arc<Queue<Key>>,
    pub(super) garbage: Arc<Queue<Uid>>,
    pub(super) accounts: Arc<Queue<Key>>,
    pub(super) deployments: Arc<Queue<Key>>,
    pub(super) replica_sets: Arc<Queue<Key>>,
    pub(super) jobs: Arc<Queue<Key>>,
    pub(super) stateful_sets: Arc<Queue<Key>>,
    pub(super) services: Arc<Queue<Key>>,
    pub(super) volumes: Arc<Queue<VolumeKey>>,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            namespaces: Arc::new(Queue::new()),
            garbage: Arc::new(Queue::new()),
            accounts: Arc::new(Queue::new()),
            deployments: Arc::new(Queue::new()),
            replica_sets: Arc::new(Queue::new()),
            jobs: Arc::new(Queue::new()),
            stateful_sets: Arc::new(Queue::new()),
            services: Arc::new(Queue::new()),
            volumes: Arc::new(Queue::new()),
        }
    }
}

/// Waits for the caches that controllers count in.
#[derive(Clone)]
pub(super) struct Synced {
    namespaces: Arc<Cache<Namespace>>,
    pods: Arc<Cache<Pod>>,
    replica_sets: Arc<Cache<ReplicaSet>>,
    slices: Arc<Cache<EndpointSlice>>,
    claims: Arc<Cache<PersistentVolumeClaim>>,
    volumes: Arc<Cache<PersistentVolume>>,
    revisions: Arc<Cache<ControllerRevision>>,
}

impl Caches {
    /// The caches to wait for.
    pub(super) fn synced(&self) -> Synced {
        Synced {
            namespaces: Arc::clone(&self.namespaces),
            pods: Arc::clone(&self.pods),
            replica_sets: Arc::clone(&self.replica_sets),
            slices: Arc::clone(&self.slices),
            claims: Arc::clone(&self.claims),
            volumes: Arc::clone(&self.volumes),
            revisions: Arc::clone(&self.revisions),
        }
    }
}

impl Synced {
    /// Works the queue once the caches are complete.
    pub(super) fn then_work<R: Reconcile>(
        &self,
        reconciler: R,
        queue: Arc<Queue<R::Key>>,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<R> {
        let caches = self.clone();
        async move {
            let synced = async {
                caches.namespaces.wait_until_synced().await;
                caches.pods.wait_until_synced().await;
                caches.replica_sets.wait_until_synced().await;
                caches.slices.wait_until_synced().await;
                caches.claims.wait_until_synced().await;
                caches.volumes.wait_until_synced().await;
                caches.revisions.wait_until_synced().await;
            };
            if shutdown.run_until_cancelled(synced).await.is_some() {
                work(reconciler, queue, shutdown.clone()).await;
            }
        }
    }
}

/// Connects caches to queues; the receiver tells of changed CustomResourceDefinitions.
pub(super) fn connect(
    caches: &Caches,
    queues: &Queues,
    replica_expectations: &Arc<Expectations>,
    job_expectations: &Arc<Expectations>,
) -> watch::Receiver<u64> {
    connect_namespaces(caches, queues);
    connect_workloads(caches, queues);
    connect_pods(caches, queues, replica_expectations, job_expectations);
    connect_stateful_sets(caches, queues);
    connect_services(caches, queues);
    connect_volumes(caches, queues);
    let changes = watch::Sender::new(0u64);
    let receiver = changes.subscribe();
    caches.definitions.listen(move |change| {
        // The status changes when a definition is established; metadata shows it as a new version.
        if change.states().count() != 0 {
            changes.send_modify(|count| *count += 1);
        }
    });
    receiver
}

fn connect_namespaces(caches: &Caches, queues: &Queues) {
    let (namespaces, accounts) = (Arc::clone(&queues.namespaces), Arc::clone(&queues.accounts));
    caches.namespaces.listen(move |change| {
        if let Some(namespace) = change.new {
            namespaces.add(Key::of(namespace));
            accounts.add(Key::of(namespace));
        }
    });
    let queue = Arc::clone(&queues.accounts);
    caches
        .accounts
        .listen(move |change| add_namespace(&queue, change));
    let queue = Arc::clone(&queues.accounts);
    caches
        .config_maps
        .listen(move |change| add_namespace(&queue, change));
}

fn add_namespace<K: ResourceExt>(queue: &Queue<Key>, change: &Change<'_, K>) {
    for object in change.states() {
        queue.add(Key::new("", object.namespace().unwrap_or_default()));
    }
}

fn connect_workloads(caches: &Caches, queues: &Queues) {
    let queue = Arc::clone(&queues.deployments);
    caches
        .deployments
        .listen(move |change| add_objects(&queue, change));
    let queue = Arc::clone(&queues.jobs);
    caches
        .jobs
        .listen(move |change| add_objects(&queue, change));
    let (sets, deployments) = (
        Arc::clone(&queues.replica_sets),
        Arc::clone(&queues.deployments),
    );
    let all_deployments = Arc::clone(&caches.deployments);
    caches.replica_sets.listen(move |change| {
        add_objects(&sets, change);
        for set in change.states() {
            let namespace = set.namespace().unwrap_or_default();
            match owners::controller_of(&set.metadata) {
                Some(owner) => deployments.add(Key::new(namespace, &owner.name)),
                None => adopters(&all_deployments, set, |deployment| {
                    &deployment.spec.selector
                })
                .into_iter()
                .for_each(|key| deployments.add(key)),
            }
        }
    });
}

fn connect_pods(
    caches: &Caches,
    queues: &Queues,
    replica_expectations: &Arc<Expectations>,
    job_expectations: &Arc<Expectations>,
) {
    let (sets, jobs, deployments) = (
        Arc::clone(&queues.replica_sets),
        Arc::clone(&queues.jobs),
        Arc::clone(&queues.deployments),
    );
    let all_sets = Arc::clone(&caches.replica_sets);
    let (replica_expectations, job_expectations) = (
        Arc::clone(replica_expectations),
        Arc::clone(job_expectations),
    );
    caches.pods.listen(move |change| {
        for key in replica_set::observe(change, "ReplicaSet", &replica_expectations) {
            // `Recreate` waits for the last old Pod to go, which changes no ReplicaSet.
            let owner = all_sets
                .get(&key)
                .and_then(|set| Some(owners::controller_of(&set.metadata)?.name.clone()));
            if let Some(name) = owner.filter(|_| change.new.is_none()) {
                deployments.add(Key::new(key.namespace.clone(), name));
            }
            sets.add(key);
        }
        for key in replica_set::observe(change, "Job", &job_expectations) {
            jobs.add(key);
        }
        for pod in change
            .states()
            .filter(|pod| owners::controller_of(&pod.metadata).is_none())
        {
            adopters(&all_sets, pod, |set| &set.spec.selector)
                .into_iter()
                .for_each(|key| sets.add(key));
        }
    });
}

fn connect_stateful_sets(caches: &Caches, queues: &Queues) {
    let queue = Arc::clone(&queues.stateful_sets);
    caches
        .stateful_sets
        .listen(move |change| add_objects(&queue, change));
    let queue = Arc::clone(&queues.stateful_sets);
    caches
        .revisions
        .listen(move |change| add_owners(&queue, change));
    let queue = Arc::clone(&queues.stateful_sets);
    let all_sets = Arc::clone(&caches.stateful_sets);
    caches.pods.listen(move |change| {
        add_owners(&queue, change);
        for pod in change
            .states()
            .filter(|pod| owners::controller_of(&pod.metadata).is_none())
        {
            adopters(&all_sets, pod, |set| &set.spec.selector)
                .into_iter()
                .for_each(|key| queue.add(key));
        }
    });
}

/// Adds the StatefulSets that control a changed object.
fn add_owners<K: ResourceExt>(queue: &Queue<Key>, change: &Change<'_, K>) {
    for object in change.states() {
        let owner =
            owners::controller_of(object.meta()).filter(|owner| owner.kind == "StatefulSet");
        if let Some(owner) = owner {
            queue.add(Key::new(
                object.namespace().unwrap_or_default(),
                &owner.name,
            ));
        }
    }
}

/// The objects that might adopt an orphan.
fn adopters<K, O>(
    cache: &Cache<K>,
    orphan: &O,
    selector: impl Fn(&K) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
) -> Vec<Key>
where
    K: kube::Resource
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
    O: kube::Resource,
{
    let fits = |owner: &K| {
        owner.meta().namespace == orphan.meta().namespace
            && owners::parse_selector(selector(owner))
                .is_some_and(|selector| owners::matches(&selector, orphan.meta()))
    };
    cache
        .filter(fits)
        .iter()
        .map(|owner| Key::of(&**owner))
        .collect()
}

fn connect_services(caches: &Caches, queues: &Queues) {
    let queue = Arc::clone(&queues.services);
    caches
        .services
        .listen(move |change| add_objects(&queue, change));
    let queue = Arc::clone(&queues.services);
    caches.slices.listen(move |change| {
        change
            .states()
            .filter_map(endpoint_slice::service_of)
            .for_each(|key| queue.add(key));
    });
    let (queue, services) = (Arc::clone(&queues.services), Arc::clone(&caches.services));
    caches.pods.listen(move |change| {
        endpoint_slice::services_of(&services, change)
            .into_iter()
            .for_each(|key| queue.add(key));
    });
}

fn connect_volumes(caches: &Caches, queues: &Queues) {
    let (queue, volumes) = (Arc::clone(&queues.volumes), Arc::clone(&caches.volumes));
    caches.claims.listen(move |change| {
        for claim in change.states() {
            let key = Key::of(claim);
            for volume in
                volumes.filter(|volume| volume_claim::claim_of(volume).as_ref() == Some(&key))
            {
                queue.add(VolumeKey::Volume(volume.name_any()));
            }
            queue.add(VolumeKey::Claim(key));
        }
    });
    let queue = Arc::clone(&queues.volumes);
    caches.volumes.listen(move |change| {
        for volume in change.states() {
            queue.add(VolumeKey::Volume(volume.name_any()));
            if let Some(key) = volume_claim::claim_of(volume) {
                queue.add(VolumeKey::Claim(key));
            }
        }
    });
    let (queue, volumes) = (Arc::clone(&queues.volumes), Arc::clone(&caches.volumes));
    caches.pods.listen(move |change| {
        for pod in change.states() {
            let namespace = pod.namespace().unwrap_or_default();
            for name in volume_claim::claims_of(pod) {
                let key = Key::new(&namespace, name);
                for volume in
                    volumes.filter(|volume| volume_claim::claim_of(volume).as_ref() == Some(&key))
                {
                    queue.add(VolumeKey::Volume(volume.name_any()));
                }
            }
        }
    });
}

fn add_objects<K: ResourceExt>(queue: &Queue<Key>, change: &Change<'_, K>) {
    if let Some(object) = change.new.or(change.old) {
        queue.add(Key::of(object));
    }
}
