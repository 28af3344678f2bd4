//! Starts the gateway and stops it when everything in progress has ended.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    GatewayArgs, adapters,
    admin::AdminKey,
    batches, endpoint_picker,
    gateway::{Gateway, Governance, Limits, Storage},
    identity::{IdentityArgs, Own},
    jwt::{self, Issuer, JwtArgs},
    kv_events,
    leases::{self, Fleet, Http},
    ledger::{DatabaseUrl, Durability, Ledger},
    observe::{self, AccessLog, Collector, Exporter, LiteLlm, LogExporter, Observers, Written},
    people::{People, exchange},
    server,
    source::{self, Source},
    table::Lasting,
    upstream,
};

/// How long the last spans may take to reach the collector, and the last lines the access log.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stream is silent while its request waits: less than what clients and proxies give up after.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Why the gateway cannot run.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The address is not free or not ours.
    #[error("listening on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The ledger cannot be opened; without it nothing is answered.
    #[error("opening the ledger in {folder}: {reason}")]
    Ledger {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The admin key is weak, or cannot be read.
    #[error("using the admin key in {path}: {reason}")]
    AdminKey {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file of keys and teams cannot be used.
    #[error("opening the keys and teams in {folder}: {reason}")]
    People {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// Files and batches cannot be opened.
    #[error("opening files and batches in {folder}: {reason}")]
    Storage {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The configuration file cannot be used.
    #[error("using the configuration: {0}")]
    Config(String),
    /// The signal handlers cannot be installed.
    #[error("listening for signals")]
    Signals(#[source] io::Error),
}

/// The runtime for a process that is a gateway and nothing else: where it has one core, as with a limit of one on a
/// cluster, one thread does it all, and no two have to wake each other.
///
/// # Errors
/// The system gives no threads or no poll.
pub fn runtime() -> io::Result<Runtime> {
    let mut builder = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

/// Runs the gateway until shutdown.
///
/// # Errors
/// [`GatewayError`] if it cannot start.
pub async fn run(args: GatewayArgs, shutdown: CancellationToken) -> Result<(), GatewayError> {
    let listener = listen(args.listen).await?;
    serve(listener, args, shutdown).await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| GatewayError::Listen { address, source })
}

async fn listen_if(address: Option<SocketAddr>) -> Result<Option<TcpListener>, GatewayError> {
    match address {
        Some(address) => listen(address).await.map(Some),
        None => Ok(None),
    }
}

fn announce(listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "gateway listens");
    }
}

/// Runs the gateway on a listener until shutdown; requests in progress end first.
///
/// # Errors
/// [`GatewayError`] if it cannot start.
pub async fn serve(
    listener: TcpListener,
    args: GatewayArgs,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let (observers, exporting, pushing) = observers(&args)?;
    let picking = listen_if(args.endpoint_picker_listen).await?;
    let GatewayArgs {
        listen: _,
        snapshots,
        token_file,
        config,
        data_dir,
        ledger_sync_millis,
        admin_key_file,
        ledger_url_file,
        jwt,
        node,
        body_bytes_max,
        requests_max,
        form_bytes_max,
        files_bytes_max,
        ..
    } = args;
    let durability = Durability::synced_within(ledger_sync_millis);
    let ledger = open_ledger(&data_dir, durability, ledger_url_file.as_deref())?;
    let ledger = Arc::new(ledger);
    let fleet = Arc::new(Fleet::new(node.clone(), Box::new(Http::default())));
    let files = (data_dir.as_path(), admin_key_file.as_deref());
    let governance = governance(&ledger, &fleet, files, (jwt, args.identity))?;
    let issuer = governance.people.issuer.clone();
    let storage = Storage::open(&data_dir, form_bytes_max, files_bytes_max);
    let storage = storage.map_err(|reason| storage_fault(&data_dir, reason))?;
    let limits = Limits {
        body_bytes_max,
        requests_max,
        keep_alive: KEEP_ALIVE,
    };
    let gateway = Gateway::new(Arc::clone(&ledger), governance, storage, limits);
    let gateway = Arc::new(gateway.observed_by(observers));
    let told = (config, snapshots, token_file);
    let source = source_of(&gateway, told, node, data_dir)?;
    announce(&listener);
    let _following = follow(&gateway, issuer, &shutdown);
    let mut feeding = JoinSet::new();
    feeding.spawn(source::feed(Arc::clone(&gateway), source, shutdown.clone()));
    let mut working = JoinSet::new();
    working.spawn(batches::run(Arc::clone(&gateway), shutdown.clone()));
    endpoint_picker::start(picking, &gateway, &mut working, &shutdown);
    let served = CancellationToken::new();
    let people = Arc::clone(&gateway.people);
    working.spawn(exchange::keep(people, Arc::clone(&fleet), shutdown.clone()));
    working.spawn(leases::keep(fleet, served.clone()));
    push_metrics(pushing, &gateway, &mut working, &served);
    server::accept(listener, gateway, shutdown.clone()).await;
    // What requests in progress held is given back once they have ended.
    served.cancel();
    while working.join_next().await.is_some() {}
    let fed = feeding.join_next().await;
    end_export(exporting).await;
    // The last rows go to disk here; the thread ends within one transaction.
    let closed = tokio::task::spawn_blocking(move || ledger.close()).await;
    if let Err(error) = closed {
        tracing::error!(%error, "the ledger was not closed");
    }
    match fed {
        Some(Ok(Err(source))) => Err(GatewayError::Signals(source)),
        _ => Ok(()),
    }
}

/// What keeps the gateway up to date with what is outside of it, for as long as it runs.
fn follow(
    gateway: &Arc<Gateway>,
    issuer: Option<Arc<Issuer>>,
    shutdown: &CancellationToken,
) -> JoinSet<()> {
    let mut following = JoinSet::new();
    if let Some(issuer) = issuer {
        let shutdown = shutdown.clone();
        following.spawn(async move { issuer.follow(shutdown).await });
    }
    following.spawn(jwt::follow(Arc::clone(gateway), shutdown.clone()));
    following.spawn(kv_events::follow(Arc::clone(gateway), shutdown.clone()));
    following.spawn(adapters::follow(Arc::clone(gateway), shutdown.clone()));
    following
}

/// Where routes come from: a file, which is read at once, or an operator.
fn source_of(
    gateway: &Gateway,
    told: (Option<PathBuf>, Option<String>, Option<PathBuf>),
    node: String,
    data_dir: PathBuf,
) -> Result<Source, GatewayError> {
    match told {
        (Some(path), _, _) => {
            source::load(gateway, &path)
                .map_err(|error| GatewayError::Config(with_cause(&error)))?;
            Ok(Source::File(path))
        }
        (None, Some(url), Some(token_file)) => Ok(Source::Operator {
            url,
            token_file,
            node,
            data_dir,
        }),
        (None, _, _) => {
            let message = "give either a configuration file or an operator's URL and a token file";
            Err(GatewayError::Config(message.to_owned()))
        }
    }
}

/// The collector that is told of metrics, and how often.
type Pushing = (Collector, Duration);

/// Those who are told of requests, what sends spans and lines on, and who is told of metrics.
fn observers(
    args: &GatewayArgs,
) -> Result<(Observers, JoinSet<()>, Option<Pushing>), GatewayError> {
    let mut exporting = JoinSet::new();
    let collector = collector(args)?;
    let traces = collector.as_ref().map(|collector| {
        let (exporter, spans) = Exporter::new(args.trace_share);
        exporting.spawn(spans.export(upstream::client(), collector.clone()));
        exporter.telling_content(args.otlp_content)
    });
    let logs = collector.as_ref().filter(|_| args.otlp_logs);
    let logs = logs.map(|collector| {
        let (exporter, lines) = LogExporter::new();
        exporting.spawn(lines.export(upstream::client(), collector.clone()));
        exporter
    });
    let access = args.access_log.as_deref().map(|path| {
        let (log, written) = open_log(path)?;
        exporting.spawn(async move { written.await.unwrap_or_default() });
        Ok(log)
    });
    let observers = Observers {
        access: access.transpose()?,
        traces,
        logs,
        litellm: args.litellm_metrics.then(LiteLlm::default),
    };
    let every = Duration::from_secs(args.otlp_metrics_seconds);
    let pushing = collector.filter(|_| !every.is_zero());
    Ok((
        observers,
        exporting,
        pushing.map(|collector| (collector, every)),
    ))
}

/// The collector that is told, if there is one.
fn collector(args: &GatewayArgs) -> Result<Option<Collector>, GatewayError> {
    let url = args.otlp_endpoint.as_deref();
    let collector = url.map(|url| Collector::new(url, &args.node)).transpose();
    collector.map_err(|error| GatewayError::Config(error.to_string()))
}

/// Tells a collector of metrics now and then, and once more when all requests have ended.
fn push_metrics(
    pushing: Option<Pushing>,
    gateway: &Arc<Gateway>,
    working: &mut JoinSet<()>,
    end: &CancellationToken,
) {
    if let Some((collector, every)) = pushing {
        let told = (upstream::client(), collector);
        working.spawn(observe::push(Arc::clone(gateway), told, every, end.clone()));
    }
}

/// Waits for the last spans and lines: the gateway that makes them is gone.
async fn end_export(mut exporting: JoinSet<()>) {
    let exported = async { while exporting.join_next().await.is_some() {} };
    if tokio::time::timeout(EXPORT_TIMEOUT, exported)
        .await
        .is_err()
    {
        tracing::warn!("the last spans or lines of the access log did not leave in time");
    }
}

fn open_log(path: &Path) -> Result<(AccessLog, Written), GatewayError> {
    AccessLog::open(path).map_err(|source| {
        let message = format!("opening the access log {}: {source}", path.display());
        GatewayError::Config(message)
    })
}

/// The ledger of a folder, or of the database that a file names.
fn open_ledger(
    folder: &Path,
    durability: Durability,
    url_file: Option<&Path>,
) -> Result<Ledger, GatewayError> {
    let opened = match url_file {
        None => Ledger::open(folder, durability),
        Some(path) => {
            let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
            let url = read.and_then(|text| text.parse::<DatabaseUrl>());
            let url = url.map_err(|reason| {
                let path = path.display();
                GatewayError::Config(format!("the database's URL in {path}: {reason}"))
            })?;
            Ledger::open_shared(folder, &url, durability)
        }
    };
    opened.map_err(|error| GatewayError::Ledger {
        folder: folder.to_owned(),
        reason: error.to_string(),
    })
}

fn storage_fault(folder: &Path, reason: String) -> GatewayError {
    let folder = folder.to_owned();
    GatewayError::Storage { folder, reason }
}

fn governance(
    ledger: &Arc<Ledger>,
    fleet: &Arc<Fleet>,
    (data_dir, admin_key_file): (&Path, Option<&Path>),
    (jwt, identity): (JwtArgs, IdentityArgs),
) -> Result<Governance, GatewayError> {
    let admin = admin_key_file.map(|path| {
        AdminKey::read(path).map_err(|reason| GatewayError::AdminKey {
            path: path.to_owned(),
            reason: reason.to_string(),
        })
    });
    let admin = admin.transpose()?;
    let lasting = Lasting::new(ledger, fleet);
    lasting.identities.introduce(Own::of(identity));
    let people = People::open(data_dir, admin.is_some(), Arc::clone(&lasting));
    let people = people.map_err(|reason| GatewayError::People {
        folder: data_dir.to_owned(),
        reason,
    })?;
    Ok(Governance {
        lasting,
        fleet: Arc::clone(fleet),
        people: Arc::new(people.trusting(Issuer::of(jwt))),
        admin,
    })
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
