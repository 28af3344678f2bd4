//! Puts caches, queues and controllers together and runs them until shutdown.

mod wiring;

use std::{fmt::Debug, future::Future, path::PathBuf, sync::Arc};

use kube::{Api, Client, Resource, runtime::watcher};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::wiring::{Caches, Queues};
use crate::{
    cache::Cache,
    deployment::DeploymentController,
    endpoint_slice::EndpointSliceController,
    expectations::Expectations,
    garbage::GarbageCollector,
    inventory::Inventory,
    job::JobController,
    journal::Journal,
    namespace::NamespaceController,
    queue::Queue,
    replica_set::ReplicaSetController,
    service_account::{DEFAULT_ACCOUNT, ROOT_CA, ServiceAccountController},
    stateful_set::StatefulSetController,
    volume_claim::VolumeClaimController,
    worker::{Reconcile, work},
};

/// The folder of volumes in the data folder.
const VOLUMES: &str = "volumes";

/// What the controllers need to know.
#[derive(Debug, Clone)]
pub struct ControllersConfig {
    /// The data folder; volumes are directories of its `volumes` folder.
    pub data_dir: PathBuf,
    /// The certificate of the cluster's authority, PEM; published to every namespace.
    pub ca_pem: String,
}

/// Why the controllers stopped.
#[derive(Debug, Error)]
pub enum ControllersError {
    /// A task ended that should run until shutdown; this is a fault of ours.
    #[error("a controller stopped")]
    Stopped(#[source] Option<tokio::task::JoinError>),
}

/// Runs all controllers until shutdown; the reconciles in progress are finished.
///
/// # Errors
/// [`ControllersError::Stopped`] if a controller ends by itself.
pub async fn run(
    client: Client,
    config: ControllersConfig,
    shutdown: CancellationToken,
) -> Result<(), ControllersError> {
    let caches = Caches::default();
    let queues = Queues::default();
    let replica_expectations = Arc::new(Expectations::default());
    let job_expectations = Arc::new(Expectations::default());
    let inventory = Arc::new(Inventory::new(
        client.clone(),
        Arc::clone(&queues.garbage),
        Arc::clone(&queues.namespaces),
    ));
    let definitions_changed =
        wiring::connect(&caches, &queues, &replica_expectations, &job_expectations);
    let mut tasks = JoinSet::new();
    watch_all(&mut tasks, &client, &caches, &shutdown);
    tasks.spawn(Arc::clone(&inventory).follow(definitions_changed, shutdown.clone()));
    let world = World {
        client,
        config,
        caches,
        inventory,
        replica_expectations,
        job_expectations,
    };
    start_keepers(&mut tasks, &world, &queues, &shutdown);
    start_workloads(&mut tasks, &world, &queues, &shutdown);
    start_stateful_sets(&mut tasks, &world, &queues, &shutdown);
    // Nothing but shutdown ends a task; the first one to end before it takes the others along.
    let first = tasks.join_next().await;
    let is_expected = shutdown.is_cancelled();
    shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    match first {
        Some(Err(error)) => Err(ControllersError::Stopped(Some(error))),
        _ if is_expected => Ok(()),
        _ => Err(ControllersError::Stopped(None)),
    }
}

struct World {
    client: Client,
    config: ControllersConfig,
    caches: Caches,
    inventory: Arc<Inventory>,
    replica_expectations: Arc<Expectations>,
    job_expectations: Arc<Expectations>,
}

fn watch_all(
    tasks: &mut JoinSet<()>,
    client: &Client,
    caches: &Caches,
    shutdown: &CancellationToken,
) {
    let all = watcher::Config::default;
    let named = |name: &str| all().fields(&format!("metadata.name={name}"));
    watch(tasks, client, &caches.namespaces, all(), shutdown);
    watch(tasks, client, &caches.pods, all(), shutdown);
    watch(tasks, client, &caches.replica_sets, all(), shutdown);
    watch(tasks, client, &caches.deployments, all(), shutdown);
    watch(tasks, client, &caches.jobs, all(), shutdown);
    watch(tasks, client, &caches.stateful_sets, all(), shutdown);
    watch(tasks, client, &caches.revisions, all(), shutdown);
    watch(tasks, client, &caches.services, all(), shutdown);
    watch(tasks, client, &caches.slices, all(), shutdown);
    watch(tasks, client, &caches.claims, all(), shutdown);
    watch(tasks, client, &caches.volumes, all(), shutdown);
    watch(
        tasks,
        client,
        &caches.accounts,
        named(DEFAULT_ACCOUNT),
        shutdown,
    );
    watch(tasks, client, &caches.config_maps, named(ROOT_CA), shutdown);
    watch(tasks, client, &caches.definitions, all(), shutdown);
}

fn watch<K>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    cache: &Arc<Cache<K>>,
    config: watcher::Config,
    shutdown: &CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    tasks.spawn(Arc::clone(cache).follow(Api::all(client.clone()), config, shutdown.clone()));
}

/// Starts the controllers of everything that is not a workload.
fn start_keepers(
    tasks: &mut JoinSet<()>,
    world: &World,
    queues: &Queues,
    shutdown: &CancellationToken,
) {
    let World {
        client,
        config,
        caches,
        inventory,
        ..
    } = world;
    let namespaces = NamespaceController {
        client: client.clone(),
        namespaces: Arc::clone(&caches.namespaces),
        inventory: Arc::clone(inventory),
    };
    let garbage = GarbageCollector {
        client: client.clone(),
        inventory: Arc::clone(inventory),
    };
    let accounts = ServiceAccountController {
        client: client.clone(),
        namespaces: Arc::clone(&caches.namespaces),
        accounts: Arc::clone(&caches.accounts),
        config_maps: Arc::clone(&caches.config_maps),
        ca_pem: config.ca_pem.clone(),
    };
    let volumes = VolumeClaimController {
        client: client.clone(),
        claims: Arc::clone(&caches.claims),
        volumes: Arc::clone(&caches.volumes),
        pods: Arc::clone(&caches.pods),
        volumes_dir: config.data_dir.join(VOLUMES),
        journal: Journal::new(client.clone(), "persistentvolume-controller"),
    };
    let synced = caches.synced();
    tasks.spawn(once_known(
        inventory,
        namespaces,
        &queues.namespaces,
        shutdown,
    ));
    tasks.spawn(once_known(inventory, garbage, &queues.garbage, shutdown));
    tasks.spawn(synced.then_work(accounts, Arc::clone(&queues.accounts), shutdown.clone()));
    tasks.spawn(synced.then_work(volumes, Arc::clone(&queues.volumes), shutdown.clone()));
}

/// Starts the controllers of workloads and Services.
///
/// They count what is there, so they start once everything that is there is known.
fn start_workloads(
    tasks: &mut JoinSet<()>,
    world: &World,
    queues: &Queues,
    shutdown: &CancellationToken,
) {
    let World {
        client,
        caches,
        replica_expectations,
        job_expectations,
        ..
    } = world;
    let deployments = DeploymentController {
        client: client.clone(),
        deployments: Arc::clone(&caches.deployments),
        replica_sets: Arc::clone(&caches.replica_sets),
        pods: Arc::clone(&caches.pods),
        journal: Journal::new(client.clone(), "deployment-controller"),
    };
    let replica_sets = ReplicaSetController {
        client: client.clone(),
        replica_sets: Arc::clone(&caches.replica_sets),
        pods: Arc::clone(&caches.pods),
        expectations: Arc::clone(replica_expectations),
        journal: Journal::new(client.clone(), "replicaset-controller"),
    };
    let jobs = JobController {
        client: client.clone(),
        jobs: Arc::clone(&caches.jobs),
        pods: Arc::clone(&caches.pods),
        expectations: Arc::clone(job_expectations),
        journal: Journal::new(client.clone(), "job-controller"),
    };
    let slices = EndpointSliceController {
        client: client.clone(),
        services: Arc::clone(&caches.services),
        pods: Arc::clone(&caches.pods),
        slices: Arc::clone(&caches.slices),
    };
    let synced = caches.synced();
    tasks.spawn(synced.then_work(
        deployments,
        Arc::clone(&queues.deployments),
        shutdown.clone(),
    ));
    tasks.spawn(synced.then_work(
        replica_sets,
        Arc::clone(&queues.replica_sets),
        shutdown.clone(),
    ));
    tasks.spawn(synced.then_work(jobs, Arc::clone(&queues.jobs), shutdown.clone()));
    tasks.spawn(synced.then_work(slices, Arc::clone(&queues.services), shutdown.clone()));
}

fn start_stateful_sets(
    tasks: &mut JoinSet<()>,
    world: &World,
    queues: &Queues,
    shutdown: &CancellationToken,
) {
    let World { client, caches, .. } = world;
    let stateful_sets = StatefulSetController {
        client: client.clone(),
        stateful_sets: Arc::clone(&caches.stateful_sets),
        revisions: Arc::clone(&caches.revisions),
        pods: Arc::clone(&caches.pods),
        claims: Arc::clone(&caches.claims),
        journal: Journal::new(client.clone(), "statefulset-controller"),
    };
    let work = caches.synced().then_work(
        stateful_sets,
        Arc::clone(&queues.stateful_sets),
        shutdown.clone(),
    );
    tasks.spawn(work);
}

/// Works the queue once every object of every kind is known.
fn once_known<R: Reconcile>(
    inventory: &Arc<Inventory>,
    reconciler: R,
    queue: &Arc<Queue<R::Key>>,
    shutdown: &CancellationToken,
) -> impl Future<Output = ()> + Send + use<R> {
    let (inventory, queue, shutdown) = (Arc::clone(inventory), Arc::clone(queue), shutdown.clone());
    async move {
        if shutdown
            .run_until_cancelled(inventory.wait_until_synced())
            .await
            .is_some()
        {
            work(reconciler, queue, shutdown.clone()).await;
        }
    }
}
