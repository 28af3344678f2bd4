//! Models that have replicas only while they are wanted: who is asked for, who is told, and who waits.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use protocol::{
    demand::{Demand, Teller},
    snapshot::{RouteEntry, Strategy, Target},
};
use testkit::scripted_model::ScriptedModel;
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::harness::{Answer, Harness, chat, completes, key, route, target};
use crate::demand;

const CHAT: &str = "/v1/chat/completions";

fn on_demand(name: &str, models: &[&ScriptedModel]) -> Target {
    Target {
        on_demand: Some(format!("ns/{name}")),
        ..target(name, "m", models)
    }
}

fn held(targets: Vec<Target>, cold_start_millis: Option<u64>) -> RouteEntry {
    RouteEntry {
        cold_start_millis,
        ..route("m", targets)
    }
}

/// An operator that refuses the first reports and takes those that follow.
async fn operator(refused: usize) -> (String, UnboundedReceiver<Vec<String>>, JoinSet<()>) {
    let (sender, told) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (sender, asked) = (sender.clone(), Arc::clone(&asked));
            let service = service_fn(move |request: Request<Incoming>| {
                let (sender, asked) = (sender.clone(), Arc::clone(&asked));
                async move {
                    assert_eq!(request.uri().path(), "/v1/snapshots/gateway/demand");
                    assert_eq!(request.headers()["authorization"], "Bearer token");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let demand: Demand = serde_json::from_slice(&body).unwrap();
                    assert_eq!(demand.node, "gateway-1");
                    let before = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let status = if before < refused {
                        503
                    } else {
                        sender.send(demand.models).unwrap();
                        204
                    };
                    let answer = Response::builder().status(status);
                    Ok::<_, Infallible>(answer.body(Full::new(Bytes::new())).unwrap())
                }
            });
            connections
                .spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, told, tasks)
}

/// Has the gateway tell that operator what is wanted, until the folder is dropped.
fn telling(harness: &Harness, url: &str, tasks: &mut JoinSet<()>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "token\n").unwrap();
    let teller = Teller::new(url, token_file, "gateway-1".to_owned());
    let gateway = Arc::clone(&harness.gateway);
    tasks.spawn(demand::tell(gateway, teller, CancellationToken::new()));
    folder
}

async fn next(told: &mut UnboundedReceiver<Vec<String>>) -> Vec<String> {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, told.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_held_request_is_told_of_until_the_operator_knows_and_goes_on_with_the_replica() {
    let model = ScriptedModel::start(vec!["one two".into()]).await;
    let entry = held(vec![on_demand("m", &[])], Some(60_000));
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let (url, mut told, mut tasks) = operator(2).await;
    let _folder = telling(&harness, &url, &mut tasks);
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    assert_eq!(next(&mut told).await, ["ns/m"]);
    // Once more, since it still waits: an operator that was told and forgot it learns it again.
    assert_eq!(next(&mut told).await, ["ns/m"]);
    let entry = held(vec![on_demand("m", &[&model])], Some(60_000));
    harness.apply(vec![entry], vec![key("a")]);
    completes(&mut stream, "one two").await;
    harness.at_rest().await;
}

#[tokio::test]
async fn a_burst_is_told_of_once_and_only_half_of_the_gateway_waits() {
    let model = ScriptedModel::start(vec!["one two".into()]).await;
    let entry = held(vec![on_demand("m", &[])], Some(60_000));
    let harness = Arc::new(Harness::start(vec![entry], vec![key("a")]).await);
    let mut clients = JoinSet::new();
    for _ in 0..80 {
        let harness = Arc::clone(&harness);
        clients.spawn(async move { harness.post(CHAT, Some("qd-a"), &chat("m", false)).await });
    }
    let mut refused = 0;
    while refused < 30 {
        let answer: Answer = clients.join_next().await.unwrap().unwrap();
        assert_eq!(answer.fault(), (503, "unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), "1");
        refused += 1;
    }
    assert_eq!(harness.gateway.demands().take(), ["ns/m"]);
    let entry = held(vec![on_demand("m", &[&model])], Some(60_000));
    harness.apply(vec![entry], vec![key("a")]);
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap().text(), "one two");
    }
    harness.at_rest().await;
    // Answered requests are use, too; then nobody wants it any more.
    assert_eq!(harness.gateway.demands().take(), ["ns/m"]);
    assert!(harness.gateway.demands().take().is_empty());
}

#[tokio::test]
async fn a_request_that_may_not_wait_asks_for_the_replica_all_the_same() {
    let harness = Harness::start(vec![held(vec![on_demand("m", &[])], None)], vec![key("a")]).await;
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(harness.gateway.demands().take(), ["ns/m"]);
}

/// Whom a request wants, of targets with or without a replica.
async fn wants(strategy: Strategy, targets: &[(&str, bool, u32)]) -> Vec<String> {
    let model = ScriptedModel::start(vec!["one".into()]).await;
    let targets = targets.iter().map(|(name, is_warm, weight)| Target {
        weight: *weight,
        ..on_demand(name, &[&model][..usize::from(*is_warm)])
    });
    let entry = RouteEntry {
        strategy,
        ..held(targets.collect(), None)
    };
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    harness.at_rest().await;
    harness.gateway.demands().take()
}

#[tokio::test]
async fn replicas_are_asked_for_only_where_the_request_would_go() {
    let (cold, warm) = (false, true);
    let better = [("a", cold, 1), ("b", warm, 1)];
    assert_eq!(wants(Strategy::Failover, &better).await, ["ns/a", "ns/b"]);
    let worse = [("a", warm, 1), ("b", cold, 1)];
    assert_eq!(wants(Strategy::Failover, &worse).await, ["ns/a"]);
    assert_eq!(wants(Strategy::Weighted, &worse).await, ["ns/a", "ns/b"]);
    let spare = [("a", warm, 1), ("b", cold, 0)];
    assert_eq!(wants(Strategy::Weighted, &spare).await, ["ns/a"]);
}
