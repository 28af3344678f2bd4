//! The HTTP surface: `GET /v1/snapshots/{plane}?node=NODE` streams editions, `POST /v1/snapshots/{plane}/acks` takes acks
//! and `POST /v1/snapshots/gateway/demand` what gateways want.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::{Stream, stream};
use jiff::Timestamp;
use protocol::{
    demand::Demand,
    snapshot::{Ack, GatewaySnapshot, HEARTBEAT_SECONDS, Snapshot},
};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Authenticator, Edition, Snapshots};
use crate::{
    caches::{Signals, Wake},
    controller::chain,
    demand::Notes,
    metrics::{Metrics, Plane as PlaneLabel},
};

/// Bytes of an acknowledgement, and of a report.
const BYTES_MAX: usize = 64 << 10;
/// Bytes of a replica's name.
const NODE_LENGTH_MAX: usize = 253;

/// How long a replica that starts lets data planes wait for the first edition.
const FIRST_EDITION_LIMIT: Duration = Duration::from_secs(5);

/// What the surface needs.
pub(crate) struct SnapshotServer {
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) authenticator: Authenticator,
    /// Who may ask for which plane.
    pub(crate) users: BTreeMap<&'static str, String>,
    /// Where it is noted what gateways want.
    pub(crate) notes: Notes,
    pub(crate) signals: Signals,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
}

#[derive(Debug, Deserialize)]
struct Who {
    node: String,
}

/// The surface's routes.
pub(crate) fn router(server: SnapshotServer) -> Router {
    Router::new()
        .route("/v1/snapshots/{plane}", get(follow))
        .route("/v1/snapshots/{plane}/acks", post(acknowledge))
        .route("/v1/snapshots/gateway/demand", post(note))
        .layer(DefaultBodyLimit::max(BYTES_MAX))
        .with_state(Arc::new(server))
}

async fn follow(
    State(server): State<Arc<SnapshotServer>>,
    Path(plane): Path<String>,
    Query(who): Query<Who>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = server.admit(&plane, &headers).await {
        return refusal;
    }
    if who.node.is_empty() || NODE_LENGTH_MAX < who.node.len() {
        return (
            StatusCode::BAD_REQUEST,
            "the parameter `node` must name the replica",
        )
            .into_response();
    }
    if !server.has_edition(&plane).await {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "no snapshot is compiled yet",
        )
            .into_response();
    }
    let Some(connection) = Connection::open(server, &plane, who.node) else {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            "too many replicas are connected",
        )
            .into_response();
    };
    (
        [(CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines(connection)),
    )
        .into_response()
}

async fn acknowledge(
    State(server): State<Arc<SnapshotServer>>,
    Path(plane): Path<String>,
    headers: HeaderMap,
    Json(ack): Json<Ack>,
) -> Response {
    if let Err(refusal) = server.admit(&plane, &headers).await {
        return refusal;
    }
    let Some(found) = server.snapshots.plane(&plane) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(error) = &ack.error {
        tracing::warn!(plane = found.name, node = %ack.node, version = %ack.version, %error, "snapshot refused");
    }
    let is_news = found.replicas.lock().acknowledged(ack);
    if is_news {
        server.wake(found.name);
    }
    StatusCode::NO_CONTENT.into_response()
}

/// Notes which Models a gateway wants.
async fn note(
    State(server): State<Arc<SnapshotServer>>,
    headers: HeaderMap,
    Json(demand): Json<Demand>,
) -> Response {
    if let Err(refusal) = server.admit(GatewaySnapshot::PLANE, &headers).await {
        return refusal;
    }
    match server.notes.note(&demand, Timestamp::now()).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::warn!(node = %demand.node, error = %chain(&error), "demand not noted");
            // The gateway tells it again.
            (StatusCode::SERVICE_UNAVAILABLE, "it could not be noted").into_response()
        }
    }
}

impl SnapshotServer {
    /// Lets the plane's own ServiceAccount pass.
    async fn admit(&self, plane: &str, headers: &HeaderMap) -> Result<(), Response> {
        let Some(expected) = self.users.get(plane) else {
            return Err((StatusCode::NOT_FOUND, "no such plane").into_response());
        };
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let Some(token) = token else {
            return Err((StatusCode::UNAUTHORIZED, "a bearer token is needed").into_response());
        };
        match self.authenticator.user(token).await {
            Ok(Some(user)) if user == *expected => Ok(()),
            Ok(Some(user)) => {
                tracing::warn!(%user, plane, "snapshot refused to this user");
                Err((StatusCode::FORBIDDEN, "this snapshot is not for you").into_response())
            }
            Ok(None) => {
                Err((StatusCode::UNAUTHORIZED, "the token is not valid here").into_response())
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "token not reviewed");
                Err((
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the token could not be checked",
                )
                    .into_response())
            }
        }
    }

    /// Whether there is an edition, waiting a little for the first.
    async fn has_edition(&self, plane: &str) -> bool {
        let Some(found) = self.snapshots.plane(plane) else {
            return false;
        };
        let mut editions = found.follow();
        let first = editions.wait_for(Option::is_some);
        matches!(
            tokio::time::timeout(FIRST_EDITION_LIMIT, first).await,
            Ok(Ok(_))
        )
    }

    fn wake(&self, plane: &str) {
        let wake = if plane == self.snapshots.agents.name {
            Wake::AllAgents
        } else {
            Wake::AllRoutes
        };
        self.signals.send(vec![wake]);
    }
}

/// One open stream; closing it is noticed by its drop.
struct Connection {
    server: Arc<SnapshotServer>,
    plane: &'static str,
    node: String,
    editions: watch::Receiver<Option<Arc<Edition>>>,
    sent: Option<Arc<Edition>>,
}

impl Connection {
    fn open(server: Arc<SnapshotServer>, plane: &str, node: String) -> Option<Self> {
        let found = server.snapshots.plane(plane)?;
        let (name, editions) = (found.name, found.follow());
        let connections = {
            let mut replicas = found.replicas.lock();
            replicas.connected(&node).then(|| replicas.connections())
        }?;
        tracing::info!(plane = name, %node, "data plane connected");
        count(&server.metrics, name, connections);
        server.wake(name);
        Some(Self {
            server,
            plane: name,
            node,
            editions,
            sent: None,
        })
    }

    /// The next line: an edition that was not sent yet, or a heartbeat.
    async fn line(&mut self) -> Option<Bytes> {
        let shutdown = self.server.shutdown.clone();
        loop {
            let newest = self.editions.borrow_and_update().clone();
            if let Some(edition) = newest.filter(|newest| {
                self.sent
                    .as_ref()
                    .is_none_or(|sent| sent.version != newest.version)
            }) {
                self.sent = Some(Arc::clone(&edition));
                return Some(edition.line.clone());
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                changed = self.editions.changed() => changed.ok()?,
                () = tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS)) => return Some(Bytes::from_static(b"\n")),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(plane) = self.server.snapshots.plane(self.plane) {
            let connections = {
                let mut replicas = plane.replicas.lock();
                replicas.disconnected(&self.node);
                replicas.connections()
            };
            tracing::info!(plane = self.plane, node = %self.node, "data plane disconnected");
            count(&self.server.metrics, self.plane, connections);
            self.server.wake(self.plane);
        }
    }
}

fn count(metrics: &Metrics, plane: &'static str, connections: usize) {
    let gauge = metrics
        .snapshot_nodes
        .get_or_create_owned(&PlaneLabel { plane });
    gauge.set(connections.try_into().unwrap_or(i64::MAX));
}

fn lines(connection: Connection) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(connection, |mut connection| async move {
        let line = connection.line().await?;
        Some((Ok(line), connection))
    })
}
