//! The HTTP surface: runs API, OpenAI-compatible API, probes and metrics.

mod auth;
mod chat;
mod chat_stream;
mod error;
mod events;
mod input;
mod models;
mod probes;
mod runs;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{steps::Services, worker::Dispatcher};

pub(crate) use chat::cancel_abandoned;

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 4 << 20;
/// How long open requests may take to end after a shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) services: Arc<Services>,
    pub(crate) dispatcher: Arc<Dispatcher>,
}

/// Serves until shutdown; requests that are open then have a few seconds.
pub(crate) async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving agents");
    let stop = shutdown.clone();
    let serving = axum::serve(listener, router(app))
        .with_graceful_shutdown(async move { stop.cancelled().await });
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        result = serving => result,
        () = late => Ok(()),
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route(
            "/v1/agents/{namespace}/{name}/runs",
            get(runs::list).post(runs::create),
        )
        .route("/v1/runs/{id}", get(runs::read))
        .route("/v1/runs/{id}/cancel", post(runs::cancel))
        .route("/v1/runs/{id}/events", get(events::stream))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::read))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/healthz", get(probes::health))
        .route("/readyz", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}
