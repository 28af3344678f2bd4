//! The workspace's API: who may ask, what is passed on, what is kept.

mod exec;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audit::Audit;
use super::init_client::InitClient;
use super::results::Results;
use crate::fault::Refusal;

/// A request to run something, with its standard input in base64.
const EXEC_BODY_BYTES_MAX: usize = 16 << 20;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Gate {
    token: String,
    init: InitClient,
    audit: Arc<Audit>,
    results: Arc<Results>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Gate {
    pub(crate) fn new(
        token: String,
        init: InitClient,
        audit: Arc<Audit>,
        results: Results,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            token,
            init,
            audit,
            results: Arc::new(results),
            tasks,
            shutdown,
        }
    }
}

/// The API. Health needs no token, everything else does.
pub(crate) fn router(gate: Gate) -> Router {
    let gate = Arc::new(gate);
    Router::new()
        .route(
            "/v1/exec",
            post(exec::handle).layer(DefaultBodyLimit::max(EXEC_BODY_BYTES_MAX)),
        )
        .route("/v1/info", get(pass_on))
        .route("/v1/files", get(pass_on).put(pass_on).delete(pass_on))
        .route("/v1/files/list", get(pass_on))
        .layer(middleware::from_fn_with_state(Arc::clone(&gate), authorize))
        .route("/healthz", get(|| async { StatusCode::OK }))
        .route("/readyz", get(ready))
        .fallback(|| async {
            Refusal::NotFound(
                "there is no such path; see /v1/info, /v1/exec and /v1/files".to_owned(),
            )
        })
        .with_state(gate)
}

async fn authorize(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    if !equal_in_constant_time(given.as_bytes(), gate.token.as_bytes()) {
        return Refusal::Unauthorized("the token is missing or wrong".to_owned()).into_response();
    }
    next.run(request).await
}

/// Takes as long for a token that is almost right as for one that is not, whatever their lengths.
fn equal_in_constant_time(given: &[u8], known: &[u8]) -> bool {
    let mut difference = given.len() ^ known.len();
    for (index, byte) in known.iter().enumerate() {
        difference |= usize::from(byte ^ given.get(index).copied().unwrap_or(0));
    }
    std::hint::black_box(difference) == 0
}

/// Up, and so is the workspace behind.
async fn ready(State(gate): State<Arc<Gate>>) -> Result<StatusCode, Refusal> {
    let request = Request::get("/v1/info")
        .header(HOST, "workspace")
        .body(Body::empty());
    let request = request.map_err(|error| Refusal::Internal(error.to_string()))?;
    gate.init.send(request).await.map(|answer| answer.status())
}

/// Passes a request on as it is, less what is between the client and us.
async fn pass_on(State(gate): State<Arc<Gate>>, request: Request) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    parts
        .headers
        .insert(HOST, HeaderValue::from_static("workspace"));
    let answer = gate.init.send(Request::from_parts(parts, body)).await?;
    let (mut parts, body) = answer.into_parts();
    strip(&mut parts.headers);
    Ok(Response::from_parts(parts, Body::new(body)))
}

fn strip(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, CONNECTION, UPGRADE, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(equal_in_constant_time(b"abc", b"abc"));
        for given in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!equal_in_constant_time(given, b"abc"));
        }
    }
}
