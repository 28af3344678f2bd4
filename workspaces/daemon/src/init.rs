//! Process 1 of a workspace: starts programs, keeps the files, passes connections to the gate's proxy, reaps orphans.

mod exec;
mod facts;
mod listener;
mod orphans;
mod program;
mod relay;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use protocol::workspace::Info;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use workspaces_sandbox::SandboxError;
use workspaces_sandbox::confine::{Confinement, ConfinementSpec, become_init};

use self::exec::Execs;
use crate::files::{self, Home};
use crate::{EGRESS_SOCKET, INIT_SOCKET, socket};

/// Open files of a program.
const OPEN_FILES_MAX: u64 = 16_384;

/// How a workspace's first process runs.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// Folder of the sockets shared with the gate
    #[arg(long, default_value = "/run/quarterdeck")]
    pub socket_dir: PathBuf,
    /// Home of the programs, the only folder besides /tmp that they may write to
    #[arg(long, default_value = "/work")]
    pub home: PathBuf,
    /// Port on the loopback where programs find the proxy
    #[arg(long, default_value_t = 3128)]
    pub proxy_port: u16,
}

/// Why a workspace's first process ended.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The home cannot be opened.
    #[error("cannot open the home {}", path.display())]
    Home {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket cannot be made.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The confinement of programs cannot be prepared.
    #[error("cannot prepare the confinement of programs")]
    Confine(#[from] SandboxError),
    /// The runtime or its signal handlers cannot be started.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

/// What the handlers share.
#[derive(Debug)]
struct Shared {
    info: Info,
    execs: Execs,
}

/// Runs as a workspace's first process until a signal says stop.
///
/// It makes a runtime of its own on a thread of its own, so it may be called from anywhere.
///
/// # Errors
/// The home, a socket or the confinement cannot be prepared.
pub fn run_init(args: InitArgs) -> Result<(), InitError> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .map_err(InitError::Runtime)?;
                runtime.block_on(run(args))
            })
            .join()
            .unwrap_or_else(|_| Err(InitError::Runtime(io::Error::other("its thread panicked"))))
    })
}

async fn run(args: InitArgs) -> Result<(), InitError> {
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    become_init()?;
    let stop = stop_on_signals(shutdown.clone())?;
    tasks.spawn(stop);
    let orphans = orphans::Orphans::adopting();
    tasks.spawn(
        orphans
            .clone()
            .reap(shutdown.clone())
            .map_err(InitError::Runtime)?,
    );
    let outcome = serve(args, orphans, tasks.clone(), shutdown.clone()).await;
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    outcome
}

/// Serves the gate until shutdown.
async fn serve(
    args: InitArgs,
    orphans: orphans::Orphans,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) -> Result<(), InitError> {
    let InitArgs {
        socket_dir,
        home,
        proxy_port,
    } = args;
    let confinement = Confinement::new(&ConfinementSpec {
        writable: vec![home.clone(), PathBuf::from("/tmp")],
        hidden: vec![socket_dir.clone()],
        open_files_max: OPEN_FILES_MAX,
        processes_max: None,
    })?;
    let home = Arc::new(Home::open(&home).map_err(|source| InitError::Home {
        path: home.clone(),
        source,
    })?);
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, proxy_port))
        .await
        .map_err(|source| InitError::Listen {
            address: format!("127.0.0.1:{proxy_port}"),
            source,
        })?;
    let info = facts::gather(home.path(), &confinement);
    tracing::info!(home = %home.path().display(), enforced = ?info.enforced, missing = ?info.missing, "workspace is up");
    tasks.spawn(relay::run(
        proxy,
        socket_dir.join(EGRESS_SOCKET),
        shutdown.clone(),
    ));
    let listener = listen(&socket_dir.join(INIT_SOCKET))?;
    let base = program::base_environment(home.path(), proxy_port);
    let shared = Arc::new(Shared {
        info,
        execs: Execs::new(
            confinement,
            Arc::clone(&home),
            base,
            orphans,
            tasks,
            shutdown.clone(),
        ),
    });
    axum::serve(listener::OutsideOnly::new(listener), router(shared, home))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
        .map_err(InitError::Runtime)
}

fn router(shared: Arc<Shared>, home: Arc<Home>) -> Router {
    Router::new()
        .route("/v1/info", get(info))
        .route("/v1/exec", post(exec::handle))
        .with_state(shared)
        .merge(files::router(home))
}

async fn info(State(shared): State<Arc<Shared>>) -> Json<Info> {
    Json(shared.info.clone())
}

/// Binds the socket in place of one that an earlier process left. Whoever is outside may connect; programs cannot reach it.
fn listen(path: &Path) -> Result<UnixListener, InitError> {
    socket::bind(path).map_err(|source| InitError::Listen {
        address: path.display().to_string(),
        source,
    })
}

/// Cancels at the first signal that asks to stop.
fn stop_on_signals(shutdown: CancellationToken) -> Result<impl Future<Output = ()>, InitError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(InitError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(InitError::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = shutdown.cancelled() => {}
        }
        shutdown.cancel();
    })
}

#[cfg(test)]
mod tests;
