//! The process: binds, loads while it serves, drains when asked to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::args::EngineArgs;
use crate::state::State;
use crate::{http, loader};

/// Why the engine's process ends early.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The HTTP server failed.
    #[error("serving HTTP failed")]
    Serve(#[source] io::Error),
    /// The step loop died; a new process is needed.
    #[error("the step loop ended unexpectedly")]
    StepLoop,
}

/// Serves until `shutdown`, then finishes what runs.
///
/// # Errors
/// [`EngineError`] if the process cannot serve any longer.
pub async fn run(args: EngineArgs, shutdown: CancellationToken) -> Result<(), EngineError> {
    let bind = |source| EngineError::Bind {
        address: args.listen,
        source,
    };
    let listener = TcpListener::bind(args.listen).await.map_err(bind)?;
    let names: Vec<_> = [&args.served_name]
        .into_iter()
        .chain(&args.aliases)
        .cloned()
        .collect();
    let has_admin = args.admin;
    let created = jiff::Timestamp::now().as_second();
    serve(
        listener,
        args,
        Arc::new(State::new(names, created, shutdown).with_admin(has_admin)),
    )
    .await
}

/// As [`run`], on a listener that the caller has bound; ends when the state drains.
pub(crate) async fn serve(
    listener: TcpListener,
    args: EngineArgs,
    state: Arc<State>,
) -> Result<(), EngineError> {
    let shutdown = state.draining.clone();
    let address = listener.local_addr().map_err(EngineError::Serve)?;
    info!(model = %args.served_name, %address, "engine listens");
    let drain_timeout = Duration::from_secs(args.drain_seconds);
    let mut tasks = JoinSet::new();
    let abort = CancellationToken::new();
    let served = axum::serve(listener, http::router(Arc::clone(&state)))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tasks.spawn(async move { served.await.map_err(EngineError::Serve) });
    let (loading, aborted, stopping) = (Arc::clone(&state), abort.clone(), shutdown.clone());
    tasks.spawn(async move { compute(args, loading, stopping, aborted).await });
    drop(state);
    let outcome = watch(&mut tasks, &shutdown, drain_timeout).await;
    abort.cancel();
    tasks.shutdown().await;
    outcome
}

/// Loads, then computes on a thread of its own until the process stops.
async fn compute(
    args: EngineArgs,
    state: Arc<State>,
    shutdown: CancellationToken,
    abort: CancellationToken,
) -> Result<(), EngineError> {
    let work = tokio::select! {
        work = loader::load(&args, &state) => work,
        () = shutdown.cancelled() => return Ok(()),
    };
    drop(state);
    let looped = tokio::task::spawn_blocking(move || work.run(&abort));
    let ended = looped.await;
    if matches!(ended, Ok(true)) && shutdown.is_cancelled() {
        Ok(())
    } else {
        Err(EngineError::StepLoop)
    }
}

/// Waits for the first failure, or for the end of what runs at shutdown, as long as it may take.
async fn watch(
    tasks: &mut JoinSet<Result<(), EngineError>>,
    shutdown: &CancellationToken,
    drain_timeout: Duration,
) -> Result<(), EngineError> {
    let next =
        |joined: Option<Result<Result<(), EngineError>, tokio::task::JoinError>>| match joined {
            None => Some(Ok(())),
            Some(Ok(Ok(()))) => None,
            Some(Ok(Err(error))) => Some(Err(error)),
            Some(Err(_)) => Some(Err(EngineError::StepLoop)),
        };
    while !shutdown.is_cancelled() {
        tokio::select! {
            joined = tasks.join_next() => {
                if let Some(outcome) = next(joined) {
                    return outcome;
                }
            }
            () = shutdown.cancelled() => {}
        }
    }
    let drained = timeout(drain_timeout, async {
        // The server's task ends when the last answer is sent.
        loop {
            if let Some(outcome) = next(tasks.join_next().await) {
                return outcome;
            }
        }
    });
    drained.await.unwrap_or_else(|_| {
        warn!(
            ?drain_timeout,
            "answers were cut off at the end of the drain"
        );
        Ok(())
    })
}

#[cfg(test)]
mod tests;
