//! Following an operator: snapshots are applied and answered, a bad agent harms no other.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::HeaderMap,
    routing::{get, post},
};
use protocol::{
    agent::Definition,
    follow::FollowConfig,
    key::hash_key,
    snapshot::{Ack, AgentsSnapshot, KeyEntry},
};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};

use super::harness::{KEY, Runtime, World};
use crate::runtime::Source;

#[derive(Clone)]
struct FakeOperator {
    snapshots: Arc<parking_lot::Mutex<Option<mpsc::UnboundedReceiver<AgentsSnapshot>>>>,
    acks: mpsc::UnboundedSender<Ack>,
}

async fn snapshots(State(operator): State<FakeOperator>, headers: HeaderMap) -> Body {
    assert_eq!(headers["authorization"], "Bearer operator-token");
    let receiver = operator.snapshots.lock().take().unwrap();
    let lines = UnboundedReceiverStream::new(receiver).map(|snapshot| {
        Ok::<_, std::convert::Infallible>(serde_json::to_string(&snapshot).unwrap() + "\n")
    });
    Body::from_stream(lines)
}

async fn acks(State(operator): State<FakeOperator>, Json(ack): Json<Ack>) {
    operator.acks.send(ack).unwrap();
}

fn key() -> KeyEntry {
    KeyEntry {
        id: "team/main".to_owned(),
        hash: hash_key(KEY),
        ..KeyEntry::default()
    }
}

fn template(text: &str) -> serde_json::Value {
    json!({ "graph": {
        "state": { "out": {} },
        "nodes": { "a": { "step": { "template": { "template": text, "to": "out" } } } },
        "edges": [{ "from": "start", "arms": [{ "to": "a" }] }],
        "output": "state.out"
    } })
}

/// An operator that sends what the test sends, and the acks that it gets.
async fn operator(
    world: &World,
    tasks: &mut JoinSet<()>,
) -> (
    mpsc::UnboundedSender<AgentsSnapshot>,
    mpsc::UnboundedReceiver<Ack>,
    Source,
) {
    let (send, receiver) = mpsc::unbounded_channel();
    let (ack_sender, ack_receiver) = mpsc::unbounded_channel();
    let operator = FakeOperator {
        snapshots: Arc::new(parking_lot::Mutex::new(Some(receiver))),
        acks: ack_sender,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/snapshots/agents", get(snapshots))
        .route("/v1/snapshots/agents/acks", post(acks))
        .with_state(operator);
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let token_file = world.data.path().join("token");
    std::fs::write(&token_file, "operator-token").unwrap();
    let source = Source::Operator(FollowConfig {
        url: format!("http://{address}"),
        token_file,
        node: "agents-0".to_owned(),
        last_good: world.data.path().join("agents-snapshot.json"),
    });
    (send, ack_receiver, source)
}

#[tokio::test]
async fn a_bad_agent_is_told_to_the_operator_and_harms_no_other() {
    let world = World::silent().await;
    let mut tasks = JoinSet::new();
    let (send, mut ack_receiver, source) = operator(&world, &mut tasks).await;
    let runtime = Runtime::start_with(world.data.path(), source, None).await;
    assert_eq!(
        runtime.get("/readyz").send().await.unwrap().status(),
        503,
        "no snapshot yet"
    );

    let entry = |name: &str, text: &str| -> protocol::snapshot::AgentEntry {
        let definition: Definition = world.definition(&template(text));
        world.entry(name, definition)
    };
    send.send(AgentsSnapshot::new(
        vec![entry("worker", "one"), entry("other", "one")],
        vec![key()],
    ))
    .unwrap();
    let ack = ack_receiver.recv().await.unwrap();
    assert_eq!((ack.node.as_str(), ack.error), ("agents-0", None));
    assert_eq!(runtime.finish(&json!(1)).await.0.output, Some(json!("one")));
    assert_eq!(runtime.get("/readyz").send().await.unwrap().status(), 200);

    let second = AgentsSnapshot::new(
        vec![entry("worker", "two"), entry("other", "{% if %}")],
        vec![key()],
    );
    send.send(second.clone()).unwrap();
    let ack = ack_receiver.recv().await.unwrap();
    assert_eq!(ack.version, second.version);
    let error = ack.error.unwrap();
    assert!(
        error.contains("agent team/other: graph.nodes.a.template"),
        "{error}"
    );
    assert_eq!(
        runtime.finish(&json!(1)).await.0.output,
        Some(json!("two")),
        "the good one changed"
    );
    let other = runtime
        .post("/v1/agents/team/other/runs", &json!({ "input": 1 }))
        .send()
        .await
        .unwrap();
    assert_eq!(
        other.status(),
        201,
        "the bad one keeps its last good definition"
    );

    send.send(AgentsSnapshot::new(Vec::new(), Vec::new()))
        .unwrap();
    assert_eq!(ack_receiver.recv().await.unwrap().error, None);
    let refused = runtime.get("/v1/models").send().await.unwrap();
    assert_eq!(refused.status(), 401, "a key that is gone is gone at once");
    tokio::time::timeout(Duration::from_secs(5), runtime.stop())
        .await
        .unwrap()
        .unwrap();
}
