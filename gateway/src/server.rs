//! The listener: connections, paths and methods; every answer carries its request's id.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::{body::Body as HttpBody, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use protocol::openai::ErrorKind;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    call::{Operation, Surface, request_id},
    encode::{self, Body, REQUEST_ID},
    fault::Fault,
    gateway::Gateway,
    mcp,
};

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in progress get at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// How long to wait after the system refused a connection, as when it has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until shutdown, then lets requests in progress end.
pub(crate) async fn accept(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    shutdown: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve_connection(
                    stream,
                    Arc::clone(&gateway),
                    shutdown.clone(),
                ));
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
        tracing::warn!(
            connections = connections.len(),
            "requests are cut off, the time to drain is over"
        );
        connections.shutdown().await;
    }
}

async fn serve_connection(stream: TcpStream, gateway: Arc<Gateway>, shutdown: CancellationToken) {
    // Events are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let service = service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(handle(&gateway, request).await) }
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
        debug!(error = %error, "a connection ended");
    }
}

/// Answers one request.
pub(crate) async fn handle<B>(gateway: &Gateway, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let id = request_id();
    let surface = Surface::of(request.uri().path());
    let mut response = dispatch(gateway, &id, request)
        .await
        .unwrap_or_else(|fault| {
            gateway.metrics.count_fault(fault.kind.code());
            debug!(
                request_id = id,
                code = fault.kind.code(),
                message = fault.message,
                "request refused"
            );
            encode::fault(&fault, surface)
        });
    // Ids are letters, digits and an underscore.
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn dispatch<B>(
    gateway: &Gateway,
    id: &str,
    request: Request<B>,
) -> Result<Response<Body>, Fault>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let below = path.strip_prefix("/v1").unwrap_or("");
    if let Some(operation) = Operation::ALL
        .into_iter()
        .find(|operation| operation.path() == below)
    {
        allow(&head.method, &Method::POST, "POST")?;
        return gateway.call(id, operation, &head.headers, body).await;
    }
    if path.starts_with("/mcp") && matches!(path.as_bytes().get(4), None | Some(b'/')) {
        return mcp::handle(gateway, id, &head, body).await;
    }
    let is_known = matches!(
        path,
        "/healthz" | "/readyz" | "/metrics" | "/v1/models" | "/v1/usage"
    );
    let model = path
        .strip_prefix("/v1/models/")
        .filter(|name| !name.is_empty());
    if is_known || model.is_some() {
        allow(&head.method, &Method::GET, "GET")?;
    }
    match path {
        "/healthz" => Ok(encode::text(
            StatusCode::OK,
            "text/plain",
            "ok\n".to_owned(),
        )),
        "/readyz" if gateway.is_ready() => Ok(encode::text(
            StatusCode::OK,
            "text/plain",
            "ok\n".to_owned(),
        )),
        "/readyz" => Ok(encode::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "no snapshot yet\n".to_owned(),
        )),
        "/metrics" => Ok(encode::text(
            StatusCode::OK,
            telemetry::metrics::CONTENT_TYPE,
            gateway.render_metrics(),
        )),
        "/v1/models" => gateway.list_models(&head.headers),
        "/v1/usage" => gateway.usage(&head.headers).await,
        _ if path.starts_with(mcp::METADATA) => gateway.resource_metadata(&head),
        _ => match model {
            Some(name) => gateway.get_model(&head.headers, name),
            None => Err(Fault::new(
                ErrorKind::NotFound,
                format!("There is nothing at {} {path}.", head.method),
            )),
        },
    }
}

fn allow(method: &Method, allowed: &Method, name: &'static str) -> Result<(), Fault> {
    if method == allowed {
        return Ok(());
    }
    let mut fault = Fault::new(
        ErrorKind::MethodNotAllowed,
        format!("Use {name} here, not {method}."),
    );
    fault.allow = Some(name);
    Err(fault)
}
