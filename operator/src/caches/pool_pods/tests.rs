//! Which namespaces are followed, and since when their Pods are known.

use std::sync::Arc;

use crds::Route;
use http::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, ResourceExt,
    client::Body,
    runtime::{
        reflector::{self, store::Writer},
        watcher::Event,
    },
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Keeper, PoolPods, wanted};
use crate::{
    caches::{Signals, Wake},
    inference_pool::InferencePool,
};

fn route(namespace: &str, reference: &Value) -> Route {
    let mut backend = json!({"name": "b"});
    for (key, value) in reference.as_object().expect("an object") {
        backend[key] = value.clone();
    }
    let route = json!({
        "apiVersion": "quarterdeck.dev/v1alpha1", "kind": "Route", "metadata": {"name": "r", "namespace": namespace},
        "spec": {"match": {"models": ["m"]}, "targets": {"backends": [backend]}},
    });
    serde_json::from_value(route).expect("a route")
}

fn to_pool(namespace: &str, name: &str) -> Route {
    route(namespace, &json!({"inferencePoolRef": {"name": name}}))
}

#[test]
fn only_namespaces_with_a_route_to_a_pool_that_exists_are_followed() {
    let routes = [
        to_pool("a", "vllm"),
        to_pool("b", "nobody"),
        route("c", &json!({"modelRef": {"name": "vllm"}})),
    ];
    let found = wanted(&routes.map(Arc::new), |_, name| name == "vllm");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a"]);
}

/// Tells of objects as a first list does.
fn list<K>(writer: &mut Writer<K>, objects: Vec<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    writer.apply_watcher_event(&Event::Init);
    for object in objects {
        writer.apply_watcher_event(&Event::InitApply(object));
    }
    writer.apply_watcher_event(&Event::InitDone);
}

/// An API server with one Pod in each namespace, which notes whose Pods are listed.
fn server(listed: Arc<Mutex<Vec<String>>>) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=");
        if !is_watch {
            listed.lock().push(path.clone());
        }
        async move {
            if is_watch {
                return std::future::pending().await;
            }
            let namespace = path.split('/').nth(4).unwrap_or_default();
            let pod = json!({"metadata": {"name": "p", "namespace": namespace, "uid": "u"}});
            let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [pod]});
            Response::builder().body(Body::from(list.to_string().into_bytes()))
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn pods_are_known_before_readers_go_on_and_only_as_long_as_a_pool_is_named() {
    let (pools, mut pool_writer) = reflector::store();
    let (routes, mut route_writer) = reflector::store();
    let (signals, mut wakes) = Signals::new();
    let listed: Arc<Mutex<Vec<String>>> = Arc::default();
    let keeper = Keeper {
        client: server(Arc::clone(&listed)),
        pools,
        routes,
        signals,
    };
    let (pods, shutdown) = (PoolPods::default(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(pods.clone().keep(keeper, shutdown.clone()));
    let pool: InferencePool = serde_json::from_value(json!({
        "metadata": {"name": "vllm", "namespace": "a"}, "spec": {},
    }))
    .expect("a pool");
    list(&mut pool_writer, vec![pool.clone()]);
    list(
        &mut route_writer,
        vec![to_pool("a", "vllm"), to_pool("b", "vllm")],
    );
    assert!(pods.wait_until_ready().await);
    let names = |found: Vec<Arc<Pod>>| found.iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
    assert_eq!(names(pods.of("a")), ["p"]);
    assert_eq!(names(pods.of("b")), [""; 0]);
    assert_eq!(*listed.lock(), ["/api/v1/namespaces/a/pods"]);
    assert_eq!(wakes.recv().await, Some(Wake::Snapshots));
    pool_writer.apply_watcher_event(&Event::Delete(pool));
    pods.look_again();
    while !pods.of("a").is_empty() {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    tasks.join_next().await.expect("a task").expect("an end");
    // Nobody is left who could wake anybody.
    assert_eq!(wakes.recv().await, None);
}
