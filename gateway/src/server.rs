//! The listener: connections, paths and methods; every answer carries its request's id.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, request::Parts};
use hyper::{body::Body as HttpBody, service::service_fn, upgrade::OnUpgrade};
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
    a2a, admin,
    call::{Surface, request_id},
    decode::Asked,
    door::Head,
    encode::{self, Body, REQUEST_ID},
    fault::Fault,
    gateway::Gateway,
    mcp, ollama,
    paths::{Place, place},
    stored,
};

/// The header by which clients of Anthropic's API are known.
const ANTHROPIC_VERSION: &str = "anthropic-version";

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
    let drained = async {
        gateway.talks.end().await;
        while connections.join_next().await.is_some() {}
        gateway.copies.end().await;
    };
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
    let mut connection =
        std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
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
pub(crate) async fn handle<B>(gateway: &Arc<Gateway>, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let id = request_id();
    let (head, body) = request.into_parts();
    let Parts {
        method,
        uri,
        headers,
        mut extensions,
        ..
    } = head;
    let place = place(uri.path());
    let surface = surface_of(place.as_ref(), &headers);
    let answer = match place {
        Some(Place::Realtime) if method == Method::GET => {
            let upgrade = extensions.remove::<OnUpgrade>();
            gateway.talk(&id, &uri, headers, upgrade).await
        }
        Some(place) => match allow(&method, place.methods()) {
            Ok(()) => {
                let head = (&method, &uri);
                dispatch(gateway, &id, (head, place), headers, body).await
            }
            Err(fault) => Err(fault),
        },
        None if admin::owns(uri.path()) => {
            admin::handle(gateway, (&method, &uri, &headers), body).await
        }
        None if mcp::owns(uri.path()) || a2a::owns(uri.path()) => {
            let head = Head {
                method: &method,
                uri: &uri,
                headers: &headers,
            };
            if mcp::owns(uri.path()) {
                mcp::handle(gateway, &id, head, body).await
            } else {
                a2a::handle(gateway, &id, head, body).await
            }
        }
        None => {
            let message = format!("There is nothing at {method} {}.", uri.path());
            Err(Fault::new(ErrorKind::NotFound, message))
        }
    };
    let mut response = answer.unwrap_or_else(|fault| {
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

/// Whose API a request belongs to: clients of Anthropic's tell by a header what a path does not.
fn surface_of(place: Option<&Place<'_>>, headers: &HeaderMap) -> Surface {
    match place {
        Some(Place::Models | Place::Model(_)) if headers.contains_key(ANTHROPIC_VERSION) => {
            Surface::Anthropic
        }
        Some(place) => place.surface(),
        None => Surface::OpenAi,
    }
}

async fn dispatch<B>(
    gateway: &Arc<Gateway>,
    id: &str,
    ((method, uri), place): ((&Method, &Uri), Place<'_>),
    headers: HeaderMap,
    body: B,
) -> Result<Response<Body>, Fault>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let surface = surface_of(Some(&place), &headers);
    match place {
        Place::Call(operation, model) => {
            let asked = Asked {
                model: model.as_deref(),
                ..Asked::from(operation)
            };
            gateway.call(id, asked, headers, body).await
        }
        Place::Ollama(place) => ollama::handle(gateway, id, place, (headers, body)).await,
        // Its socket is taken over before, where it is asked for rightly.
        Place::Realtime => Err(Fault::new(ErrorKind::InvalidRequest, "Use GET here.")),
        Place::Models => gateway.list_models(&headers, surface),
        Place::Model(name) => gateway.get_model(&headers, &name, surface),
        Place::Usage => gateway.usage(&headers).await,
        Place::Stored(stored) => {
            stored::handle(gateway, (method, uri, &headers), stored, body).await
        }
        Place::Health => Ok(plain(StatusCode::OK, "ok\n")),
        Place::Readiness if gateway.is_ready() => Ok(plain(StatusCode::OK, "ok\n")),
        Place::Readiness => Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "no snapshot yet\n")),
        Place::Metrics => Ok(encode::text(
            StatusCode::OK,
            telemetry::metrics::CONTENT_TYPE,
            gateway.render_metrics(),
        )),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    encode::text(status, "text/plain", text.to_owned())
}

fn allow(method: &Method, allowed: &'static str) -> Result<(), Fault> {
    if allowed
        .split(", ")
        .any(|allowed| method.as_str() == allowed)
    {
        return Ok(());
    }
    let mut fault = Fault::new(
        ErrorKind::MethodNotAllowed,
        format!("Use {allowed} here, not {method}."),
    );
    fault.allow = Some(allowed);
    Err(fault)
}
