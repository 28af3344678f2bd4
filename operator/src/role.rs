//! The process: caches and snapshots on every replica, controllers on the leader, a stop that finishes what is under way.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use axum::Router;
use crds::{Agent, Model, Route, Workspace, WorkspaceTemplate};
use kube::{Client, Config, client::ClientBuilder};
use thiserror::Error;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    args::OperatorArgs,
    caches::{Caches, Signals, Wake, dispatch},
    context::{Context, Failures, Settings},
    controller,
    demand::Notes,
    executor::{
        Executor,
        lease::{Election, Leadership},
    },
    load::LoadReports,
    metrics::{Metrics, Named},
    probes::{self, Readiness},
    queue::{Key, Queue},
    requests::CountRequests,
    snapshots::{self, Authenticator, Publisher, SnapshotServer, Snapshots, TokenPlace},
};

/// Why the operator ended.
#[derive(Debug, Error)]
pub enum OperatorError {
    /// No cluster is configured.
    #[error("finding out how to reach the API server; set KUBECONFIG or run in a Pod")]
    Config(#[from] kube::config::InferConfigError),
    /// The client cannot be made.
    #[error("making a client for the API server")]
    Client(#[source] Box<kube::Error>),
    /// An address cannot be listened on.
    #[error("listening on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A watch ended for good.
    #[error("the caches were not filled")]
    Caches,
}

/// The queues of the controllers.
#[derive(Debug, Clone, Default)]
struct Queues {
    models: Queue,
    routes: Queue,
    agents: Queue,
    workspaces: Queue,
    templates: Queue,
}

/// Runs the operator until `shutdown`.
///
/// # Errors
/// [`OperatorError`] if it cannot start.
pub async fn run(args: OperatorArgs, shutdown: CancellationToken) -> Result<(), OperatorError> {
    let config = Config::infer().await?;
    let metrics = Metrics::default();
    let client = client(config, &metrics)?;
    let snapshot_listener = listen(args.listen).await?;
    let probe_listener = listen(args.probes).await?;
    let readiness = Readiness::default();
    let mut tasks = JoinSet::new();
    // Watches and servers outlive the controllers, which need them to finish.
    let late = CancellationToken::new();
    serve(
        &mut tasks,
        probe_listener,
        probes::router(readiness.clone(), metrics.clone()),
        &late,
    );

    let (signals, wakes) = Signals::new();
    let caches = Caches::start(&client, &args.system_namespace, &signals, &mut tasks, &late);
    let queues = Queues::default();
    let changed = Arc::new(Notify::new());
    tasks.spawn(dispatch(
        wakes,
        dispatcher(
            caches.clone(),
            queues.clone(),
            Arc::clone(&changed),
            metrics.clone(),
        ),
    ));
    let system = System {
        args,
        client,
        caches,
        queues,
        signals,
        metrics,
        snapshots: Arc::default(),
    };
    // Data planes that come early wait for the first snapshot here instead of backing off.
    let router = snapshots::router(system.snapshot_server(&late));
    serve(&mut tasks, snapshot_listener, router, &late);
    tokio::select! {
        is_filled = system.caches.wait_until_ready() => if !is_filled { return Err(OperatorError::Caches) },
        () = shutdown.cancelled() => return Ok(()),
    }
    let token = system.token_place();
    if token.find(&system.caches).is_none() {
        tasks.spawn(token.make(system.client.clone(), late.clone()));
    }
    tasks.spawn(system.publisher(changed).run(late.clone()));
    readiness.set();
    tracing::info!("operator ready");

    system.lead(&shutdown).await;
    late.cancel();
    drop(system);
    // The dispatcher ends when the last watch is gone; whatever is left does not hold the process.
    while tasks.len() > 1 {
        tasks.join_next().await;
    }
    Ok(())
}

fn client(config: Config, metrics: &Metrics) -> Result<Client, OperatorError> {
    let builder =
        ClientBuilder::try_from(config).map_err(|error| OperatorError::Client(Box::new(error)))?;
    let count = CountRequests {
        metrics: metrics.clone(),
    };
    Ok(builder.with_layer(&count).build())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, OperatorError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| OperatorError::Listen { address, source })
}

fn serve(
    tasks: &mut JoinSet<()>,
    listener: TcpListener,
    router: Router,
    shutdown: &CancellationToken,
) {
    let shutdown = shutdown.clone().cancelled_owned();
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(shutdown)
            .await
        {
            tracing::error!(%error, "server ended");
        }
    });
}

/// What replicas have, leading or not.
struct System {
    args: OperatorArgs,
    client: Client,
    caches: Caches,
    queues: Queues,
    signals: Signals,
    metrics: Metrics,
    snapshots: Arc<Snapshots>,
}

impl System {
    fn settings(&self) -> Settings {
        Settings {
            image: self.args.image.clone(),
            system_namespace: self.args.system_namespace.clone(),
            gateway_url: self.args.gateway_url.clone(),
        }
    }

    /// Where the token lies that the gateway's replicas show to each other.
    fn token_place(&self) -> TokenPlace {
        TokenPlace {
            namespace: self.args.system_namespace.clone(),
            name: format!("{}-peers", self.args.gateway_service_account),
        }
    }

    fn publisher(&self, changed: Arc<Notify>) -> Publisher {
        Publisher {
            caches: self.caches.clone(),
            snapshots: Arc::clone(&self.snapshots),
            settings: self.settings(),
            token: self.token_place(),
            signals: self.signals.clone(),
            changed,
            metrics: self.metrics.clone(),
        }
    }

    fn snapshot_server(&self, shutdown: &CancellationToken) -> SnapshotServer {
        let user = |account: &str| {
            format!(
                "system:serviceaccount:{}:{account}",
                self.args.system_namespace
            )
        };
        SnapshotServer {
            snapshots: Arc::clone(&self.snapshots),
            authenticator: Authenticator::new(self.client.clone()),
            users: BTreeMap::from([
                (
                    self.snapshots.gateway.name,
                    user(&self.args.gateway_service_account),
                ),
                (
                    self.snapshots.agents.name,
                    user(&self.args.agents_service_account),
                ),
            ]),
            notes: Notes::new(self.client.clone(), self.caches.models.clone()),
            signals: self.signals.clone(),
            metrics: self.metrics.clone(),
            shutdown: shutdown.clone(),
        }
    }

    /// Takes part in the election until `shutdown`; runs the controllers while it leads.
    async fn lead(&self, shutdown: &CancellationToken) {
        let identity = self
            .args
            .identity
            .clone()
            .unwrap_or_else(|| format!("operator-{:08x}", rand::random::<u32>()));
        let leadership = Leadership::default();
        let election = Election {
            client: self.client.clone(),
            namespace: self.args.system_namespace.clone(),
            identity: identity.clone(),
            leadership: leadership.clone(),
        };
        let leading = self.metrics.leading.get_or_create_owned(&Named {
            name: "quarterdeck-operator",
        });
        leading.set(0);
        while !shutdown.is_cancelled() && election.acquire(shutdown).await {
            leading.set(1);
            let term = CancellationToken::new();
            let context = Arc::new(self.context(Executor::new(
                self.client.clone(),
                leadership.clone(),
                &identity,
            )));
            let hold = async {
                election.hold(shutdown).await;
                // Reconciles under way finish while the lease still holds.
                term.cancel();
            };
            tokio::join!(hold, self.reconcile(&context, &term));
            leading.set(0);
            election.release().await;
        }
    }

    fn context(&self, executor: Executor) -> Context {
        Context {
            settings: self.settings(),
            caches: self.caches.clone(),
            executor,
            snapshots: Arc::clone(&self.snapshots),
            load: LoadReports::new(),
            metrics: self.metrics.clone(),
            failures: Failures::default(),
            since: Instant::now(),
        }
    }

    async fn reconcile(&self, context: &Arc<Context>, term: &CancellationToken) {
        let queues = &self.queues;
        tokio::join!(
            Box::pin(controller::run::<Model>(
                Arc::clone(context),
                queues.models.clone(),
                term.clone()
            )),
            Box::pin(controller::run::<Route>(
                Arc::clone(context),
                queues.routes.clone(),
                term.clone()
            )),
            Box::pin(controller::run::<Agent>(
                Arc::clone(context),
                queues.agents.clone(),
                term.clone()
            )),
            Box::pin(controller::run::<Workspace>(
                Arc::clone(context),
                queues.workspaces.clone(),
                term.clone()
            )),
            Box::pin(controller::run::<WorkspaceTemplate>(
                Arc::clone(context),
                queues.templates.clone(),
                term.clone()
            )),
        );
    }
}

/// Sorts wakes into queues.
fn dispatcher(
    caches: Caches,
    queues: Queues,
    changed: Arc<Notify>,
    metrics: Metrics,
) -> Arc<dyn Fn(Wake) + Send + Sync> {
    let add = move |queue: &Queue, name: &'static str, keys: Vec<Key>| {
        metrics
            .queue_adds
            .get_or_create(&Named { name })
            .inc_by(keys.len() as u64);
        keys.into_iter().for_each(|key| queue.add(key));
    };
    Arc::new(move |wake| {
        let within = |keys: Vec<Key>, namespace: &str| {
            keys.into_iter()
                .filter(|key| key.namespace == namespace)
                .collect::<Vec<_>>()
        };
        match wake {
            Wake::Model(key) => add(&queues.models, "model", vec![key]),
            Wake::Route(key) => add(&queues.routes, "route", vec![key]),
            Wake::Agent(key) => add(&queues.agents, "agent", vec![key]),
            Wake::Workspace(key) => add(&queues.workspaces, "workspace", vec![key]),
            Wake::Template(key) => add(&queues.templates, "workspacetemplate", vec![key]),
            Wake::ModelsOf(namespace) => add(
                &queues.models,
                "model",
                within(Caches::keys(&caches.models), &namespace),
            ),
            Wake::RoutesOf(namespace) => add(
                &queues.routes,
                "route",
                within(Caches::keys(&caches.routes), &namespace),
            ),
            Wake::AgentsOf(namespace) => add(
                &queues.agents,
                "agent",
                within(Caches::keys(&caches.agents), &namespace),
            ),
            Wake::WorkspacesOf(namespace) => add(
                &queues.workspaces,
                "workspace",
                within(Caches::keys(&caches.workspaces), &namespace),
            ),
            Wake::TemplatesOf(namespace) => add(
                &queues.templates,
                "workspacetemplate",
                within(Caches::keys(&caches.templates), &namespace),
            ),
            Wake::AllRoutes => add(&queues.routes, "route", Caches::keys(&caches.routes)),
            Wake::AllAgents => add(&queues.agents, "agent", Caches::keys(&caches.agents)),
            Wake::Pools => caches.pool_pods.look_again(),
            Wake::Snapshots => changed.notify_one(),
        }
    })
}
