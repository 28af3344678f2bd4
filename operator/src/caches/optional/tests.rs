//! A kind that comes and goes, from a scripted API server.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
use kube::{
    Api, Client,
    client::Body,
    runtime::reflector::{self, ObjectRef},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::mpsc::unbounded_channel, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::watch_if_there;
use crate::inference_pool::InferencePool;

/// What the API server says to the next request, if that is a list or a watch, as the script has it; nothing otherwise.
struct Said {
    is_watch: bool,
    status: u16,
    body: Value,
}

fn pools(script: Vec<Said>) -> Api<InferencePool> {
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=");
        let next = script.lock().pop_front_if(|said| said.is_watch == is_watch);
        async move {
            let Some(Said { status, body, .. }) = next else {
                return std::future::pending().await;
            };
            Response::builder()
                .status(StatusCode::from_u16(status).expect("a status"))
                .body(Body::from(body.to_string().into_bytes()))
        }
    });
    Api::all(Client::new(service, "default"))
}

fn refused(is_watch: bool, status: u16) -> Said {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": "x", "message": "no"});
    Said {
        is_watch,
        status,
        body,
    }
}

fn listed() -> Said {
    let pool = json!({"metadata": {"name": "vllm", "namespace": "n", "uid": "u"}, "spec": {"targetPorts": [{"number": 1}]}});
    let body = json!({
        "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePoolList",
        "metadata": {"resourceVersion": "1"}, "items": [pool],
    });
    Said {
        is_watch: false,
        status: 200,
        body,
    }
}

/// How often those whom the pool concerns are woken, and whether it is known then. Readers wait for nothing else than the
/// first answer.
async fn check(script: Vec<Said>, wakes: usize, expected: bool) {
    let (store, writer) = reflector::store();
    let shutdown = CancellationToken::new();
    let (sender, mut woken) = unbounded_channel();
    let wake = move |pool: &InferencePool| {
        let _ = sender.send(pool.metadata.name.clone());
    };
    let watching = watch_if_there(
        pools(script),
        writer,
        wake,
        Duration::from_millis(1),
        shutdown.clone(),
    );
    let mut running = JoinSet::new();
    running.spawn(watching);
    store.wait_until_ready().await.expect("a watch");
    for _ in 0..wakes {
        woken.recv().await.expect("a wake");
    }
    let found = store.get(&ObjectRef::new("vllm").within("n"));
    assert_eq!(found.is_some(), expected);
    shutdown.cancel();
    running.join_next().await.expect("a watch").expect("an end");
    assert_eq!(woken.recv().await, None);
}

#[tokio::test]
async fn a_kind_may_be_installed_later_and_removed_again() {
    check(vec![listed()], 1, true).await;
    check(vec![refused(false, 404)], 0, false).await;
    check(vec![refused(false, 403)], 0, false).await;
    let later = vec![refused(false, 404), refused(false, 403), listed()];
    check(later, 1, true).await;
    // An API server that stumbles says nothing of the kind.
    check(vec![refused(false, 500), listed()], 1, true).await;
    check(vec![listed(), refused(true, 404)], 2, false).await;
    let again = vec![listed(), refused(true, 404), refused(false, 404), listed()];
    check(again, 3, true).await;
}
