//! What replicas say of their caches: heard over either wire, and believed.

use std::net::{Ipv4Addr, SocketAddr};

use protocol::snapshot::{Affinity, KvEvents, RouteEntry, Target};
use serde_json::json;
use testkit::scripted_model::ScriptedModel;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    harness::{Harness, key, route, target},
    raw::{RawUpstream, Reply, STREAM_HEAD, chunk},
};

/// MessagePack of a batch: the time, and one event without fields.
const CLEARED: &[u8] = b"\x92\x00\x91\x91\xb0AllBlocksCleared";

/// The publisher of a replica, with its one subscriber.
struct Publisher(TcpStream);

impl Publisher {
    async fn meet(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[11] = 1;
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).await.unwrap();
        let ready = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB";
        stream.write_all(ready).await.unwrap();
        let mut said = [0; 64 + 27 + 5];
        stream.read_exact(&mut said).await.unwrap();
        assert!(said.ends_with(b"\x00\x03\x01kv"), "{said:?}");
        Self(stream)
    }

    async fn publish(&mut self, sequence: u64, events: &[u8]) {
        let length = u8::try_from(events.len()).unwrap();
        let frames = [
            &b"\x01\x04kv@a\x01\x08"[..],
            &sequence.to_be_bytes(),
            &[0, length],
            events,
        ];
        self.0.write_all(&frames.concat()).await.unwrap();
    }
}

/// Waits for a line of the metrics.
async fn told(harness: &Harness, line: &str) {
    let told = async {
        while !harness.gateway.render_metrics().contains(line) {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(20);
    let is_told = tokio::time::timeout(limit, told).await;
    assert!(
        is_told.is_ok(),
        "{line}: {}",
        harness.gateway.render_metrics()
    );
}

fn with_events(target: Target, events: KvEvents) -> RouteEntry {
    let target = Target {
        kv_events: Some(events),
        ..target
    };
    RouteEntry {
        affinity: Affinity::Prefix,
        ..route("m", vec![target])
    }
}

/// Asks for the same conversation; its hit ratios are counted.
async fn ask(harness: &Harness) {
    let content = "what was said before ".repeat(100);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": content}]});
    let answer = harness
        .post("/v1/chat/completions", Some("qd-a"), &body.to_string())
        .await;
    assert_eq!(answer.text(), "x");
}

#[tokio::test]
async fn caches_that_were_cleared_or_restarted_are_expected_to_be_empty() {
    // Replicas differ in their hosts, and publish at one port.
    let publisher = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = publisher.local_addr().unwrap().port();
    let host = Ipv4Addr::new(127, 0, 0, 2);
    let other_publisher = TcpListener::bind((host, port)).await.unwrap();
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let address = SocketAddr::from((host, model.address().port()));
    let other_model = ScriptedModel::start_at(address, vec!["x".into()]).await;
    let events = KvEvents::Zmq {
        port,
        topic: "kv".to_owned(),
    };
    let entry = with_events(target("own", "m", &[&model, &other_model]), events);
    let harness = Harness::start(vec![entry.clone()], vec![key("a")]).await;
    let mut publishers = [
        Publisher::meet(&publisher).await,
        Publisher::meet(&other_publisher).await,
    ];
    let misses = |count: u32| {
        format!("gateway_prefix_hit_ratio_bucket{{le=\"0.0\",route=\"ns/m\"}} {count}\n")
    };
    ask(&harness).await;
    ask(&harness).await;
    told(&harness, &misses(1)).await;
    for publisher in &mut publishers {
        publisher.publish(7, CLEARED).await;
    }
    told(&harness, "gateway_kv_events_total{event=\"cleared\"} 2").await;
    ask(&harness).await;
    told(&harness, &misses(2)).await;
    // A snapshot in between keeps the connections, and their place.
    harness.apply(vec![entry], vec![key("a")]);
    ask(&harness).await;
    told(&harness, &misses(2)).await;
    // The number of a process that has just begun, with nothing that says so.
    for publisher in &mut publishers {
        publisher.publish(0, b"\x92\x00\x90").await;
    }
    told(&harness, "gateway_kv_events_total{event=\"restarted\"} 2").await;
    ask(&harness).await;
    told(&harness, &misses(3)).await;
    for publisher in &mut publishers {
        publisher.publish(5, b"\x92\x00\x90").await;
    }
    told(&harness, "gateway_kv_events_total{event=\"missed\"} 8").await;
    ask(&harness).await;
    told(&harness, &misses(3)).await;
}

#[tokio::test]
async fn our_engines_events_are_heard() {
    let batch = json!({"seq": 1, "ts": 1.5, "events": [
        {"type": "BlockStored", "block_hashes": ["0a", "0b"], "parent_block_hash": null, "token_ids": [1, 2, 3, 4],
            "block_size": 2, "lora_id": null, "medium": "GPU"},
        {"type": "BlockRemoved", "block_hashes": ["0b"], "medium": "GPU"},
    ]});
    let said = chunk(&format!("id: 1\ndata: {batch}\n\n"));
    let reply = || Reply::Stall(format!("{STREAM_HEAD}{said}").into_bytes());
    let [one, other] = [
        RawUpstream::start(vec![reply()]).await,
        RawUpstream::start(vec![reply()]).await,
    ];
    let mut target = one.target("own");
    target.endpoints.extend(other.target("own").endpoints);
    let entry = with_events(target.clone(), KvEvents::Http);
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    told(&harness, "gateway_kv_events_total{event=\"stored\"} 4").await;
    told(&harness, "gateway_kv_events_total{event=\"removed\"} 2").await;
    assert_eq!((one.asked(), other.asked()), (1, 1));
    // Whom no route picks by its cache nobody listens to.
    let plain = route("m", vec![target]);
    harness.apply(vec![plain], vec![key("a")]);
    assert_eq!((one.asked(), other.asked()), (1, 1));
}
