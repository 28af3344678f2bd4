//! The snapshot surface over HTTP, with a scripted API server behind it for token reviews.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::Body, body::BodyDataStream};
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use kube::{Client, client};
use protocol::snapshot::{GatewaySnapshot, KeyEntry, RouteEntry};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Authenticator, SnapshotServer, Snapshots, router};
use crate::{
    caches::{Signals, Wake},
    demand::Notes,
    metrics::Metrics,
};

/// The API server: the token `gateway` is the gateway's, `other` somebody else's, all others nobody's.
fn reviewer() -> Client {
    let service = tower::service_fn(|request: Request<client::Body>| async move {
        let body = request
            .into_body()
            .collect_bytes()
            .await
            .unwrap_or_default();
        let review: Value = serde_json::from_slice(&body).unwrap_or_default();
        let user = match review.pointer("/spec/token").and_then(Value::as_str) {
            Some("gateway") => json!({"username": "system:serviceaccount:s:quarterdeck-gateway"}),
            Some("other") => json!({"username": "system:serviceaccount:s:other"}),
            _ => Value::Null,
        };
        let status = json!({"authenticated": !user.is_null(), "audiences": review.pointer("/spec/audiences"), "user": user});
        let answer = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": ""}, "status": status});
        Response::builder().body(client::Body::from(answer.to_string().into_bytes()))
    });
    Client::new(service, "default")
}

struct Surface {
    router: Router,
    snapshots: Arc<Snapshots>,
    wakes: tokio::sync::mpsc::UnboundedReceiver<Wake>,
    shutdown: CancellationToken,
}

impl Surface {
    fn new() -> Self {
        let snapshots = Arc::new(Snapshots::default());
        let (signals, wakes) = Signals::new();
        let shutdown = CancellationToken::new();
        let server = SnapshotServer {
            snapshots: Arc::clone(&snapshots),
            authenticator: Authenticator::new(reviewer()),
            users: BTreeMap::from([(
                "gateway",
                "system:serviceaccount:s:quarterdeck-gateway".to_owned(),
            )]),
            notes: Notes::new(reviewer(), kube::runtime::reflector::store().0),
            signals,
            metrics: Metrics::default(),
            shutdown: shutdown.clone(),
        };
        Self {
            router: router(server),
            snapshots,
            wakes,
            shutdown,
        }
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (StatusCode, BodyDataStream) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::empty()).expect("a request"))
            .await
            .expect("an answer");
        (response.status(), response.into_body().into_data_stream())
    }

    async fn acknowledge(&self, ack: &Value) -> StatusCode {
        let request = Request::post("/v1/snapshots/gateway/acks")
            .header("authorization", "Bearer gateway")
            .header("content-type", "application/json")
            .body(Body::from(ack.to_string()))
            .expect("a request");
        self.router
            .clone()
            .oneshot(request)
            .await
            .expect("an answer")
            .status()
    }

    fn publish(&self, key: &str) -> bool {
        let key = KeyEntry {
            id: key.to_owned(),
            hash: String::new(),
            ..KeyEntry::default()
        };
        let snapshot = GatewaySnapshot::new(Vec::<RouteEntry>::new(), vec![key]);
        self.snapshots.gateway.publish(&snapshot, BTreeMap::new())
    }
}

async fn snapshot(stream: &mut BodyDataStream) -> GatewaySnapshot {
    let line = stream.next().await.expect("a line").expect("bytes");
    assert!(line.ends_with(b"\n"));
    serde_json::from_slice(&line).expect("a snapshot")
}

#[tokio::test]
async fn only_the_planes_own_account_gets_its_snapshot() {
    let surface = Surface::new();
    surface.publish("a");
    for (path, token, expected) in [
        (
            "/v1/snapshots/gateway?node=g",
            None,
            StatusCode::UNAUTHORIZED,
        ),
        (
            "/v1/snapshots/gateway?node=g",
            Some("nobody"),
            StatusCode::UNAUTHORIZED,
        ),
        (
            "/v1/snapshots/gateway?node=g",
            Some("other"),
            StatusCode::FORBIDDEN,
        ),
        (
            "/v1/snapshots/gateway?node=",
            Some("gateway"),
            StatusCode::BAD_REQUEST,
        ),
        (
            "/v1/snapshots/gateway",
            Some("gateway"),
            StatusCode::BAD_REQUEST,
        ),
        (
            "/v1/snapshots/engines?node=g",
            Some("gateway"),
            StatusCode::NOT_FOUND,
        ),
        (
            "/v1/snapshots/gateway?node=g",
            Some("gateway"),
            StatusCode::OK,
        ),
    ] {
        assert_eq!(
            surface.get(path, token).await.0,
            expected,
            "{path} {token:?}"
        );
    }
}

#[tokio::test]
async fn editions_are_streamed_as_they_come_and_equal_ones_once() {
    let surface = Surface::new();
    assert!(surface.publish("a"));
    let (_, mut stream) = surface
        .get("/v1/snapshots/gateway?node=g", Some("gateway"))
        .await;
    assert_eq!(snapshot(&mut stream).await.keys[0].id, "a");
    assert!(!surface.publish("a"));
    assert!(surface.publish("b"));
    assert_eq!(snapshot(&mut stream).await.keys[0].id, "b");
    surface.shutdown.cancel();
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn an_acknowledgement_wakes_the_routes_and_a_lost_stream_too() {
    let mut surface = Surface::new();
    surface.publish("a");
    let (_, mut stream) = surface
        .get("/v1/snapshots/gateway?node=g", Some("gateway"))
        .await;
    let version = snapshot(&mut stream).await.version;
    assert_eq!(surface.wakes.recv().await, Some(Wake::AllRoutes));
    let ack = json!({"node": "g", "version": version});
    assert_eq!(surface.acknowledge(&ack).await, StatusCode::NO_CONTENT);
    assert_eq!(surface.wakes.recv().await, Some(Wake::AllRoutes));
    // The same once more is no news.
    assert_eq!(surface.acknowledge(&ack).await, StatusCode::NO_CONTENT);
    assert!(surface.wakes.try_recv().is_err());
    drop(stream);
    assert_eq!(surface.wakes.recv().await, Some(Wake::AllRoutes));
    assert_eq!(surface.snapshots.gateway.replicas.lock().connections(), 0);
}

#[tokio::test]
async fn a_data_plane_that_comes_early_waits_for_the_first_snapshot() {
    let surface = Surface::new();
    let asked = surface.get("/v1/snapshots/gateway?node=g", Some("gateway"));
    let compiled = async {
        tokio::task::yield_now().await;
        assert!(surface.publish("a"));
    };
    let ((status, mut stream), ()) = tokio::join!(asked, compiled);
    assert_eq!(status, StatusCode::OK);
    assert_eq!(snapshot(&mut stream).await.keys[0].id, "a");
}
