//! The listener: HTTP/2 without encryption, and which method is called.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    grpc::{self, Body, Messages, Status},
    health,
    message::HealthCheckRequest,
    session,
};
use crate::gateway::Gateway;

/// The service that picks.
pub(super) const SERVICE: &str = "envoy.service.ext_proc.v3.ExternalProcessor";
/// Its method.
const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
/// Connections at once; gateways need one for each of their threads.
const CONNECTIONS_MAX: usize = 1024;
/// Requests at once on one connection.
const STREAMS_MAX: u32 = 1024;
/// Bytes of one request, and of all on a connection, that may be on their way before they are read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How long a connection is silent before it is asked whether it is still there, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests in progress get at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// How long to wait after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a health check may take to say what it asks after, and in how many bytes.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
const CHECK_BYTES_MAX: usize = 4096;

/// Accepts connections until shutdown, then lets requests in progress end.
pub(super) async fn accept(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    shutdown: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let gateway = Arc::clone(&gateway);
                connections.spawn(serve(stream, gateway, shutdown.clone()));
            }
            Err(error) => {
                debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve(stream: TcpStream, gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let service = service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(handle(gateway, request).await) }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection of another gateway ended");
    }
}

/// Answers one call.
async fn handle(gateway: Arc<Gateway>, request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::POST || !grpc::is_grpc(request.headers()) {
        return Status::UNIMPLEMENTED.response();
    }
    match request.uri().path() {
        PROCESS => grpc::respond(session::run(gateway, request.into_body()).boxed_unsync()),
        health::CHECK => {
            let mut messages = Messages::new(request.into_body(), CHECK_BYTES_MAX);
            let asked = messages
                .next::<HealthCheckRequest>(Some(CHECK_TIMEOUT))
                .await;
            match asked {
                // A request without fields is an empty message, but a message.
                Ok(Some(asked)) => match health::check(&asked.service, gateway.is_ready()) {
                    Some(answer) => grpc::one(&answer),
                    None => Status::NOT_FOUND.response(),
                },
                Ok(None) => Status::INVALID.response(),
                Err(status) => status.response(),
            }
        }
        _ => Status::UNIMPLEMENTED.response(),
    }
}
