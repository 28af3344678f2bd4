//! The node's own HTTP API, which the API server tunnels to: logs, exec, attach and port-forward.

pub(crate) mod channels;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod log;
pub(crate) mod query;
pub(crate) mod spdy;
pub(crate) mod tunnel;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use crate::context::NodeContext;

/// Serves until the node shuts down.
pub(crate) async fn serve(listener: TcpListener, context: Arc<NodeContext>, token: String) {
    let expected: Arc<str> = format!("Bearer {token}").into();
    let shutdown = context.shutdown.clone();
    let router = Router::new()
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(log::container_logs),
        )
        .route(
            "/exec/{namespace}/{pod}/{container}",
            get(exec::exec).post(exec::exec),
        )
        .route(
            "/attach/{namespace}/{pod}/{container}",
            get(exec::attach).post(exec::attach),
        )
        .route(
            "/portForward/{namespace}/{pod}",
            get(forward::port_forward).post(forward::port_forward),
        )
        .route("/healthz", get(|| async { "ok" }))
        .layer(from_fn_with_state(expected, authenticate))
        .with_state(context);
    let served =
        axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        result = served => if let Err(error) = result {
            tracing::error!(%error, "the node's API ended");
        },
        // Streams such as `logs -f` end when the containers do, or now.
        () = async { shutdown.cancelled().await; tokio::time::sleep(STREAM_GRACE).await } => {}
    }
}

/// Open streams get this long after shutdown began.
const STREAM_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

async fn authenticate(State(expected): State<Arc<str>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    if is_same(given, expected.as_bytes()) {
        return next.run(request).await;
    }
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "Unauthorized",
        "only the API server may talk to the node",
    )
    .into_response()
}

/// Compares without telling by its time where the first difference is.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    given.len() == expected.len()
        && given
            .iter()
            .zip(expected)
            .fold(0, |different, (a, b)| different | (a ^ b))
            == 0
}

/// An answer that refuses, in the form of a Kubernetes Status.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        (self.code, Json(body)).into_response()
    }
}
