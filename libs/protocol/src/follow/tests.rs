//! A data plane follows a fake operator.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    routing::{get, post},
};
use futures::StreamExt;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{FollowConfig, follow};
use crate::snapshot::{Ack, GatewaySnapshot, KeyEntry};

fn snapshot(id: &str) -> GatewaySnapshot {
    let key = KeyEntry {
        id: id.to_owned(),
        hash: String::new(),
        ..KeyEntry::default()
    };
    GatewaySnapshot::new(Vec::new(), vec![key])
}

/// An operator that sends `lines` and passes on the acks that it gets.
async fn operator(
    tasks: &mut JoinSet<()>,
    lines: Vec<String>,
) -> (String, mpsc::UnboundedReceiver<Ack>) {
    let (sender, acks) = mpsc::unbounded_channel();
    let lines = Arc::new(lines);
    let stream = move || {
        let lines = Arc::clone(&lines);
        async move {
            let sent = futures::stream::iter(lines.to_vec()).chain(futures::stream::pending());
            Body::from_stream(sent.map(Ok::<_, std::io::Error>))
        }
    };
    let acks_route = post(
        |State(sender): State<mpsc::UnboundedSender<Ack>>, Json(ack): Json<Ack>| async move {
            sender.send(ack).unwrap();
        },
    );
    let router = Router::new()
        .route("/v1/snapshots/gateway", get(stream))
        .route("/v1/snapshots/gateway/acks", acks_route)
        .with_state(sender);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, acks)
}

#[tokio::test]
async fn a_snapshot_is_applied_kept_and_acknowledged_and_a_refused_one_is_not_kept() {
    let mut tasks = JoinSet::new();
    let (good, bad) = (snapshot("good"), snapshot("bad"));
    let line =
        |snapshot: &GatewaySnapshot| format!("{}\n", serde_json::to_string(snapshot).unwrap());
    let (url, mut acks) =
        operator(&mut tasks, vec![line(&good), "\n".to_owned(), line(&bad)]).await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "t").unwrap();
    let last_good = folder.path().join("last-good.json");
    let config = FollowConfig {
        url,
        token_file,
        node: "n1".to_owned(),
        last_good: last_good.clone(),
    };
    let shutdown = CancellationToken::new();
    let bad_version = bad.version.clone();
    let apply = move |snapshot: GatewaySnapshot| {
        if snapshot.version == bad_version {
            Err("no".to_owned())
        } else {
            Ok(())
        }
    };
    let mut following = JoinSet::new();
    following.spawn(follow(config, apply, shutdown.clone()));
    assert_eq!(
        acks.recv().await.unwrap(),
        Ack {
            node: "n1".to_owned(),
            version: good.version.clone(),
            error: None
        }
    );
    let refusal = Ack {
        node: "n1".to_owned(),
        version: bad.version,
        error: Some("no".to_owned()),
    };
    assert_eq!(acks.recv().await.unwrap(), refusal);
    shutdown.cancel();
    following.join_next().await.unwrap().unwrap();
    let kept: GatewaySnapshot =
        serde_json::from_slice(&std::fs::read(&last_good).unwrap()).unwrap();
    assert_eq!(kept, good);
}
