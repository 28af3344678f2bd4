//! Wiring: log, catalog, workers and server, and how they end.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures::FutureExt;
use protocol::{
    follow::{FollowConfig, follow},
    snapshot::AgentsSnapshot,
};
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    args::AgentsArgs,
    catalog::Catalog,
    clock::Millis,
    http,
    hub::Hub,
    metrics::Metrics,
    outbound::{ClientError, Outbound},
    steps::Services,
    store::{CommitHook, OpenError, Store, StoreConfig, StoreError},
    tools::McpPool,
    worker::{Backoff, Dispatcher, Patience, Workshop, work},
};

/// How often old runs are looked for.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);
/// Milliseconds of a day.
const DAY_MILLIS: i64 = 24 * 3600 * 1000;

/// Why the runtime ended by itself.
#[derive(Debug, Error)]
pub enum AgentsError {
    /// The address cannot be served on.
    #[error("listening on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file cannot be read.
    #[error("reading agents from {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("the agents in {path} are not usable: {reason}")]
    InvalidConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Neither an operator nor a file was named.
    #[error("name an operator with --snapshots and --token-file, or a file with --config")]
    NoSource,
    /// The run log cannot be opened.
    #[error("opening the run log: {0}")]
    Log(String),
    /// The run log broke while running.
    #[error("the run log is closed")]
    LogClosed,
    /// HTTP clients cannot be made.
    #[error("preparing HTTP clients: {0}")]
    Clients(String),
    /// The server ended.
    #[error("serving")]
    Serve(#[source] std::io::Error),
}

impl From<OpenError> for AgentsError {
    fn from(error: OpenError) -> Self {
        Self::Log(crate::failure::chain(&error))
    }
}

impl From<ClientError> for AgentsError {
    fn from(error: ClientError) -> Self {
        Self::Clients(crate::failure::chain(&error))
    }
}

/// Where definitions come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Operator(FollowConfig),
    /// Applied once, at the start.
    Fixed(Box<AgentsSnapshot>),
}

/// All that a runtime needs to start.
pub(crate) struct RuntimeConfig {
    pub(crate) data_dir: PathBuf,
    pub(crate) source: Source,
    pub(crate) concurrent_runs: usize,
    pub(crate) waiting_runs: usize,
    pub(crate) retention: Duration,
    pub(crate) patience: Patience,
    /// Tests crash at commits.
    pub(crate) commit_hook: Option<CommitHook>,
}

/// Serves agents until `shutdown` is cancelled; runs that have not ended then continue at the next start.
///
/// # Errors
/// [`AgentsError`], if the runtime cannot start or its log breaks.
pub async fn run(args: AgentsArgs, shutdown: CancellationToken) -> Result<(), AgentsError> {
    let AgentsArgs {
        listen,
        snapshots,
        token_file,
        config,
        data_dir,
        node,
        concurrent_runs,
        waiting_runs,
        retention_days,
    } = args;
    let source = match (config, snapshots, token_file) {
        (Some(path), _, _) => Source::Fixed(Box::new(read_config(path)?)),
        (None, Some(url), Some(token_file)) => {
            let last_good = data_dir.join("agents-snapshot.json");
            Source::Operator(FollowConfig {
                url,
                token_file,
                node,
                last_good,
            })
        }
        (None, _, _) => return Err(AgentsError::NoSource),
    };
    let config = RuntimeConfig {
        data_dir,
        source,
        concurrent_runs: usize::from(concurrent_runs),
        waiting_runs: usize::try_from(waiting_runs).unwrap_or(usize::MAX),
        retention: Duration::from_secs(u64::from(retention_days) * 24 * 3600),
        patience: Patience::default(),
        commit_hook: None,
    };
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| AgentsError::Listen {
            address: listen,
            source,
        })?;
    serve(listener, config, shutdown).await
}

fn read_config(path: PathBuf) -> Result<AgentsSnapshot, AgentsError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(AgentsError::Config { path, source }),
    };
    let snapshot: AgentsSnapshot = match serde_json::from_str(&text) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            return Err(AgentsError::InvalidConfig {
                path,
                reason: error.to_string(),
            });
        }
    };
    // A file has nobody to tell its faults to but whoever starts the process.
    match Catalog::new().apply(snapshot.clone()) {
        Ok(()) => Ok(snapshot),
        Err(reason) => Err(AgentsError::InvalidConfig { path, reason }),
    }
}

/// Serves on a listener until shutdown.
pub(crate) async fn serve(
    listener: TcpListener,
    config: RuntimeConfig,
    shutdown: CancellationToken,
) -> Result<(), AgentsError> {
    let store_config = StoreConfig {
        folder: config.data_dir.clone(),
        commit_hook: config.commit_hook.clone(),
    };
    let store = tokio::select! {
        store = Store::open(store_config) => store?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let catalog = Arc::new(Catalog::new());
    let services = services(&store, &catalog)?;
    let hub = Arc::clone(&services.hub);
    let (dispatcher, abandoned) = Dispatcher::new(config.waiting_runs + config.concurrent_runs);
    let workshop = Workshop {
        services: Arc::clone(&services),
        dispatcher: Arc::clone(&dispatcher),
        patience: config.patience,
        shutdown: shutdown.child_token(),
    };
    let mut tasks = JoinSet::new();
    match config.source {
        Source::Fixed(snapshot) => {
            if let Err(reason) = catalog.apply(*snapshot) {
                tracing::error!(%reason, "some agents are not usable");
            }
        }
        Source::Operator(config) => {
            let apply = move |snapshot| catalog.apply(snapshot);
            tasks.spawn(follow(config, apply, workshop.shutdown.clone()));
        }
    }
    tasks.spawn(forget(
        store.clone(),
        config.retention,
        workshop.shutdown.clone(),
    ));
    tasks.spawn(recover_and_work(workshop.clone(), config.concurrent_runs));
    let end = workshop.shutdown.clone();
    let closed = store.closed().clone();
    tasks.spawn(async move {
        tokio::select! {
            () = closed.cancelled() => end.cancel(),
            () = end.cancelled() => {}
        }
        hub.closing().cancel();
    });
    let app = http::App {
        services,
        dispatcher,
    };
    let shutdown = workshop.shutdown.clone();
    let cancelling = http::cancel_abandoned(app.clone(), abandoned);
    tasks.spawn(
        shutdown
            .clone()
            .run_until_cancelled_owned(cancelling)
            .map(drop),
    );
    let served = http::serve(listener, app, shutdown).await;
    workshop.shutdown.cancel();
    while tasks.join_next().await.is_some() {}
    served.map_err(AgentsError::Serve)?;
    if store.closed().is_cancelled() {
        Err(AgentsError::LogClosed)
    } else {
        Ok(())
    }
}

fn services(store: &Store, catalog: &Arc<Catalog>) -> Result<Arc<Services>, ClientError> {
    Ok(Arc::new(Services {
        catalog: Arc::clone(catalog),
        store: store.clone(),
        hub: Arc::new(Hub::default()),
        outbound: Outbound::new()?,
        pool: McpPool::default(),
        metrics: Metrics::default(),
    }))
}

/// Picks up what the last process left, then works. Without definitions there are no addresses to work with.
async fn recover_and_work(workshop: Workshop, concurrent: usize) {
    tokio::select! {
        () = workshop.services.catalog.loaded() => {}
        () = workshop.shutdown.cancelled() => return,
    }
    let mut backoff = Backoff::default();
    loop {
        match workshop.services.store.open_runs().await {
            Ok(runs) => {
                if !runs.is_empty() {
                    tracing::info!(runs = runs.len(), "unfinished runs are picked up");
                }
                for (run, account) in runs {
                    workshop.dispatcher.enqueue(account, run);
                }
                break;
            }
            Err(error) => {
                tracing::error!(error = %crate::failure::chain(&error), "unfinished runs cannot be read");
                tokio::select! {
                    () = workshop.shutdown.cancelled() => return,
                    () = backoff.pause(None) => {}
                }
            }
        }
    }
    work(workshop, concurrent).await;
}

async fn forget(store: Store, retention: Duration, shutdown: CancellationToken) {
    let retention = i64::try_from(retention.as_millis()).unwrap_or(DAY_MILLIS);
    loop {
        let limit = Millis(Millis::now().0.saturating_sub(retention));
        match store.forget_ended_before(limit).await {
            // There may be more: forgetting goes in portions so that runs do not wait behind it.
            Ok(forgotten) if 0 < forgotten => {
                tracing::info!(runs = forgotten, "old runs are forgotten");
                continue;
            }
            Ok(_) => {}
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(error = %crate::failure::chain(&error), "old runs cannot be forgotten");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(FORGET_INTERVAL) => {}
        }
    }
}
