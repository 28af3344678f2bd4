//! What all handlers share besides the engine's state: how many requests run, and how much memory their bodies take.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRef, Request, State as Extract};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;

use crate::state::State;

/// Memory for bodies of requests that are being read and prepared, in permits of [`PERMIT_BYTES`].
const BODIES_BYTES_MAX: usize = 128 << 20;
pub(super) const PERMIT_BYTES: usize = 1 << 10;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Anthropic's clients look for this name.
const REQUEST_ID_SHORT: HeaderName = HeaderName::from_static("request-id");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The state of the routes.
#[derive(Debug, Clone)]
pub(super) struct Surface {
    pub(super) state: Arc<State>,
    /// Requests whose answers are not complete.
    load: Arc<AtomicUsize>,
    pub(super) bodies: Arc<Semaphore>,
}

impl Surface {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            load: Arc::default(),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX / PERMIT_BYTES)),
        }
    }

    /// How many requests for answers are not complete.
    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }
}

impl FromRef<Surface> for Arc<State> {
    fn from_ref(surface: &Surface) -> Self {
        Self::clone(&surface.state)
    }
}

/// Counts a request until the last byte of its answer is sent, or its client has gone away.
pub(super) async fn count(
    Extract(surface): Extract<Surface>,
    request: Request,
    next: Next,
) -> Response {
    let counted = Counted::new(surface.load);
    let response = next.run(request).await;
    response.map(|body| {
        Body::new(CountedBody {
            body,
            _counted: counted,
        })
    })
}

/// Answers with the request's id, or with a new one.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).cloned();
    let id = given
        .filter(|id| id.len() <= REQUEST_ID_BYTES_MAX)
        .or_else(|| HeaderValue::from_str(&format!("req_{}", uuid::Uuid::now_v7().simple())).ok());
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id.clone());
        response.headers_mut().insert(REQUEST_ID_SHORT, id);
    }
    response
}

/// One request in the count.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that belongs to a counted request.
struct CountedBody {
    body: Body,
    _counted: Counted,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
