//! LoRA adapters: which replica is asked, and who loads what it lacks.

use std::{collections::BTreeSet, convert::Infallible, net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use parking_lot::Mutex;
use protocol::snapshot::{Adapter, Affinity, RouteEntry, Target};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::harness::{Harness, key, route};
use crate::adapters::Holding;

const CHAT: &str = "/v1/chat/completions";

/// An engine with adapters, as vLLM has them; it stops when dropped.
struct Engine {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    loaded: BTreeSet<String>,
    active: String,
    /// Paths, and the models or the adapters that were named.
    asked: Vec<(String, String)>,
}

impl Engine {
    async fn start(loaded: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let names = loaded.iter().map(|name| (*name).to_owned());
        shared.lock().loaded.extend(names);
        let mut server = JoinSet::new();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&shared);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(serve(request, &shared).await) }
                });
                connections.spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    // A connection ends with its client.
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            shared,
            _server: server,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What was named at a path, in order.
    fn asked(&self, path: &str) -> Vec<String> {
        let shared = self.shared.lock();
        let asked = shared.asked.iter().filter(|(at, _)| at == path);
        asked.map(|(_, name)| name.clone()).collect()
    }
}

async fn serve(request: Request<Incoming>, shared: &Mutex<Shared>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut shared = shared.lock();
    let named = ["model", "lora_name"].map(|field| body[field].as_str().unwrap_or_default());
    let named = named.concat();
    shared.asked.push((path.clone(), named.clone()));
    let (status, body) = match path.as_str() {
        "/v1/models" => {
            let base = [json!({"id": "base", "object": "model", "parent": null})];
            let adapted = shared.loaded.iter();
            let adapted = adapted.map(|name| json!({"id": name, "parent": "base"}));
            let data: Vec<Value> = base.into_iter().chain(adapted).collect();
            (200, json!({"object": "list", "data": data}).to_string())
        }
        "/metrics" => {
            let active = &shared.active;
            let line = format!(
                "vllm:lora_requests_info{{max_lora=\"1\",running_lora_adapters=\"{active}\",waiting_lora_adapters=\"\"}} 1.0\n\
                 vllm:num_requests_waiting{{engine=\"0\"}} 3.0\nvllm:kv_cache_usage_perc{{engine=\"0\"}} 0.5\n"
            );
            (200, line)
        }
        "/v1/load_lora_adapter" => {
            let is_readable = body["lora_path"]
                .as_str()
                .unwrap()
                .starts_with("/adapters/");
            match is_readable && shared.loaded.insert(named) {
                true => (200, "Success".to_owned()),
                false => (400, json!({"message": "no"}).to_string()),
            }
        }
        _ if named == "base" || shared.loaded.contains(&named) => {
            let choice = json!({"index": 0, "message": {"role": "assistant", "content": named}, "finish_reason": "stop"});
            (200, json!({"choices": [choice]}).to_string())
        }
        _ => (
            404,
            json!({"message": "there is no such model"}).to_string(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

/// A route to some engines that have the adapter `poet`, or find it at a path.
fn entry(engines: &[&Engine], path: Option<&str>) -> RouteEntry {
    let target = Target {
        name: "own".to_owned(),
        model: "base".to_owned(),
        endpoints: engines.iter().map(|engine| engine.url()).collect(),
        adapters: vec![Adapter {
            name: "poet".to_owned(),
            model: "poet".to_owned(),
            path: path.map(ToOwned::to_owned),
        }],
        ..Target::default()
    };
    RouteEntry {
        models: vec!["m".to_owned(), "m:poet".to_owned()],
        ..route("m", vec![target])
    }
}

/// A gateway that has asked all replicas what they hold.
async fn polled(entry: RouteEntry) -> Harness {
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    holds(&harness, |holding| holding != Holding::Unknown).await;
    harness
}

/// Waits until all replicas hold the adapter so.
async fn holds(harness: &Harness, is: impl Fn(Holding) -> bool) {
    let table = harness.gateway.table().unwrap();
    let endpoints = &table.routes[0].targets[0].endpoints;
    let holding = |name: &str| {
        let mut endpoints = endpoints.iter();
        endpoints.all(|endpoint| is(endpoint.adapters.holding(name, Instant::now())))
    };
    let known = async {
        while !holding("poet") {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, known).await.unwrap();
}

fn chat(model: &str) -> String {
    let content = "a prompt of more than one block ".repeat(40);
    json!({"model": model, "messages": [{"role": "user", "content": content}]}).to_string()
}

async fn ask(harness: &Harness, model: &str) -> String {
    harness.post(CHAT, Some("qd-a"), &chat(model)).await.text()
}

#[tokio::test]
async fn requests_go_where_the_adapter_is_with_its_name_there() {
    let [without, with] = [Engine::start(&[]).await, Engine::start(&["poet"]).await];
    for affinity in [Affinity::None, Affinity::Prefix] {
        let entry = RouteEntry {
            affinity,
            ..entry(&[&without, &with], None)
        };
        let harness = polled(entry).await;
        for _ in 0..10 {
            assert_eq!(ask(&harness, "m:poet").await, "poet");
            assert_eq!(ask(&harness, "m").await, "base");
        }
    }
    assert!(!without.asked(CHAT).contains(&"poet".to_owned()));
    assert_eq!(with.asked("/v1/load_lora_adapter"), [""; 0]);
}

#[tokio::test]
async fn of_replicas_that_have_it_the_one_that_runs_it_is_asked() {
    let [loaded, active] = [
        Engine::start(&["poet"]).await,
        Engine::start(&["poet"]).await,
    ];
    active.shared.lock().active = "other,poet".to_owned();
    let harness = polled(entry(&[&loaded, &active], None)).await;
    for _ in 0..10 {
        assert_eq!(ask(&harness, "m:poet").await, "poet");
    }
    assert_eq!(active.asked(CHAT).len(), 10);
    let metrics = harness.gateway.render_metrics();
    for line in [
        r#"llm_d_epp_ready_endpoints{name="ns/m/own"} 2"#,
        r#"llm_d_epp_average_queue_size{name="ns/m/own"} 3.0"#,
        r#"llm_d_epp_average_kv_cache_utilization{name="ns/m/own"} 0.5"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn an_adapter_that_no_replica_has_is_loaded_once() {
    let [one, other] = [Engine::start(&[]).await, Engine::start(&[]).await];
    let harness = polled(entry(&[&one, &other], Some("/adapters/poet"))).await;
    for _ in 0..5 {
        assert_eq!(ask(&harness, "m:poet").await, "poet");
    }
    let loads = || [&one, &other].map(|engine| engine.asked("/v1/load_lora_adapter").len());
    assert_eq!(loads().iter().sum::<usize>(), 1);
    // Its holder forgets it: the next request finds out, and has it loaded again.
    for engine in [&one, &other] {
        engine.shared.lock().loaded.clear();
    }
    assert_eq!(ask(&harness, "m:poet").await, "poet");
    assert_eq!(loads().iter().sum::<usize>(), 2);
}

#[tokio::test]
async fn requests_that_come_together_load_an_adapter_once() {
    let engine = Engine::start(&[]).await;
    let harness = polled(entry(&[&engine], Some("/adapters/poet"))).await;
    let asked = (0..8).map(|_| ask(&harness, "m:poet"));
    let answers = futures::future::join_all(asked).await;
    assert_eq!(answers, ["poet"; 8]);
    assert_eq!(engine.asked("/v1/load_lora_adapter"), ["poet"]);
}

#[tokio::test]
async fn an_adapter_that_cannot_be_loaded_harms_nothing_else() {
    let engine = Engine::start(&[]).await;
    let harness = polled(entry(&[&engine], Some("/nowhere"))).await;
    for _ in 0..5 {
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m:poet")).await;
        assert_eq!(answer.fault().0, 502, "{}", answer.text_body());
        assert_eq!(ask(&harness, "m").await, "base");
    }
    // A load that failed is not tried again at once.
    assert_eq!(engine.asked("/v1/load_lora_adapter"), ["poet"]);
}

#[tokio::test]
async fn nobody_is_asked_what_he_holds_while_no_route_has_adapters() {
    let engine = Engine::start(&["poet"]).await;
    let mut plain = entry(&[&engine], None);
    plain.targets[0].adapters.clear();
    let harness = Harness::start(vec![plain.clone()], vec![key("a")]).await;
    assert_eq!(ask(&harness, "m").await, "base");
    harness.apply(vec![plain], vec![key("a")]);
    assert_eq!(ask(&harness, "m").await, "base");
    assert_eq!(engine.asked("/v1/models"), [""; 0]);
    // One route with adapters is enough, and one poll for all that name the replica.
    let both = vec![
        entry(&[&engine], None),
        RouteEntry {
            name: "again".to_owned(),
            ..entry(&[&engine], None)
        },
    ];
    harness.apply(both, vec![key("a")]);
    holds(&harness, |holding| holding == Holding::Loaded).await;
    assert_eq!(engine.asked("/v1/models"), [""]);
}
