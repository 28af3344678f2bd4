//! TLS, connections and shutdown; everything else is a function from request to response.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::pki::{Pki, PkiError};
use crate::response::{Body, failure};
use crate::status::ApiError;
use crate::store::{InvalidDatabase, Store};

/// The largest request body that is read; the real server has the same bound.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long a client may take to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may take to finish after shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server needs.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The folder of the database; `None` keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Certificates, keys and the two shared tokens.
    pub pki: Pki,
    /// The URL under which clients reach the listener.
    pub advertise_url: String,
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database could not be opened.
    #[error("cannot open the store")]
    Store(#[from] InvalidDatabase),
    /// The keys or certificates are of no use.
    #[error("cannot use the keys")]
    Pki(#[from] PkiError),
    /// The data folder could not be made.
    #[error("cannot create the data folder")]
    Folder(#[source] std::io::Error),
    /// The first objects could not be written.
    #[error("cannot create the first objects: {0}")]
    Bootstrap(String),
}

/// Serves the API until `shutdown`, then lets open requests finish.
///
/// # Errors
/// When the store or the keys cannot be used.
pub async fn serve(
    config: ServerConfig,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let ServerConfig {
        data_dir,
        pki,
        advertise_url,
    } = config;
    let store = match data_dir {
        Some(folder) => {
            std::fs::create_dir_all(&folder).map_err(ServeError::Folder)?;
            Store::open(&folder.join("objects.redb"))?
        }
        None => Store::in_memory(),
    };
    let acceptor = TlsAcceptor::from(Arc::new(pki.server_config()?));
    let api = Api::start(Arc::new(store), &pki, &advertise_url, shutdown.clone()).await?;
    let tasks = api.tasks.clone();
    tasks.spawn(Arc::clone(&api).keep_house());
    tracing::info!(url = %advertise_url, revision = api.store.revision(), "API server is ready");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (api, acceptor, shutdown) =
                    (Arc::clone(&api), acceptor.clone(), shutdown.clone());
                tasks.spawn(connection(api, acceptor, stream, peer, shutdown));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    tasks.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not finish in time");
    }
    Ok(())
}

async fn connection(
    api: Arc<Api>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: CancellationToken,
) {
    drop(stream.set_nodelay(true));
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let service = service_fn(move |request| answer(Arc::clone(&api), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1000);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        let mut error = ApiError::too_large("");
        error.message = format!("Request entity too large: limit is {BODY_BYTES_MAX}");
        return Ok(failure(&error));
    };
    Ok(api.respond(parts, body.to_bytes()).await)
}
