//! What reaches the API server, seen by a scripted one.

use std::{sync::Arc, time::Instant};

use http::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{ExecuteError, Executor, lease::Leadership};

/// Requests as `METHOD PATH?QUERY`.
type Seen = Arc<Mutex<Vec<String>>>;

/// An executor whose API server answers every write with `written`, and every read with `read`.
fn executor(
    is_leader: bool,
    read: (StatusCode, Value),
    written: (StatusCode, Value),
) -> (Executor, Seen) {
    let seen = Seen::default();
    let requests = Arc::clone(&seen);
    let service = tower::service_fn(move |request: Request<Body>| {
        requests
            .lock()
            .push(format!("{} {}", request.method(), request.uri()));
        let (status, body) = if request.method() == http::Method::GET {
            read.clone()
        } else {
            written.clone()
        };
        async move {
            Response::builder()
                .status(status)
                .body(Body::from(body.to_string().into_bytes()))
        }
    });
    let leadership = Leadership::default();
    if is_leader {
        leadership.extend(Instant::now());
    }
    (
        Executor::new(Client::new(service, "default"), leadership, "test"),
        seen,
    )
}

fn secret(owner: &str, value: &str) -> Secret {
    let owner = json!({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "Agent", "name": "a", "uid": owner, "controller": true});
    let meta = json!({"name": "s", "namespace": "n", "uid": "secret-uid", "resourceVersion": "7", "ownerReferences": [owner]});
    serde_json::from_value(json!({"metadata": meta, "stringData": {"k": value}})).expect("a secret")
}

fn wanted(value: &str) -> Secret {
    let mut secret = secret("ours", value);
    secret.metadata.uid = None;
    secret.metadata.resource_version = None;
    secret
}

fn good() -> (StatusCode, Value) {
    (
        StatusCode::OK,
        serde_json::to_value(secret("ours", "1")).expect("JSON"),
    )
}

fn refusal(code: u16, reason: &str) -> (StatusCode, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"});
    (StatusCode::from_u16(code).expect("a code"), body)
}

#[tokio::test]
async fn a_child_that_is_as_wanted_is_not_written() {
    let (executor, seen) = executor(true, good(), good());
    executor
        .apply(&wanted("1"), Some(&secret("ours", "1")))
        .await
        .expect("applied");
    assert!(seen.lock().is_empty(), "{:?}", seen.lock());
    executor
        .apply(&wanted("2"), Some(&secret("ours", "1")))
        .await
        .expect("applied");
    assert_eq!(
        *seen.lock(),
        ["PATCH /api/v1/namespaces/n/secrets/s?&force=true&fieldManager=quarterdeck-operator"]
    );
}

#[tokio::test]
async fn an_answer_in_another_form_is_not_written_again() {
    let (executor, seen) = executor(true, good(), good());
    // The API server keeps `1` whatever is asked for, as it would another form of a quantity.
    for _ in 0..3 {
        executor
            .apply(&wanted("01"), Some(&secret("ours", "1")))
            .await
            .expect("applied");
    }
    assert_eq!(seen.lock().len(), 1);
}

#[tokio::test]
async fn who_does_not_lead_does_not_write() {
    let (executor, seen) = executor(false, good(), good());
    let current = secret("ours", "1");
    let outcomes = [
        executor.apply(&wanted("2"), Some(&current)).await,
        executor.create(&wanted("2")).await,
        executor.delete(&current).await,
        executor.write_status(&current, &json!({})).await,
    ];
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Err(ExecuteError::NotLeader)))
    );
    assert!(seen.lock().is_empty());
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_left_alone() {
    let theirs = (
        StatusCode::OK,
        serde_json::to_value(secret("theirs", "1")).expect("JSON"),
    );
    let (executor, seen) = executor(true, theirs, good());
    // Known from the cache, and found only by asking: neither is written.
    let known = executor
        .apply(&wanted("2"), Some(&secret("theirs", "1")))
        .await;
    let found = executor.apply(&wanted("2"), None).await;
    assert!(matches!(
        (known, found),
        (
            Err(ExecuteError::NotOurs { .. }),
            Err(ExecuteError::NotOurs { .. })
        )
    ));
    assert!(seen.lock().iter().all(|request| request.starts_with("GET")));
}

#[tokio::test]
async fn answers_become_what_can_be_done_about_them() {
    for (answer, expected) in [
        (refusal(409, "Conflict"), "stale"),
        (refusal(422, "Invalid"), "refused"),
        (refusal(403, "Forbidden"), "refused"),
        (refusal(400, "BadRequest"), "refused"),
        (refusal(500, "InternalError"), "again"),
    ] {
        let (executor, _) = executor(true, good(), answer);
        let found = match executor
            .write_status(&secret("ours", "1"), &json!({}))
            .await
        {
            Err(ExecuteError::Stale { .. }) => "stale",
            Err(ExecuteError::Refused { .. }) => "refused",
            Err(ExecuteError::Api { .. }) => "again",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected);
    }
    let (executor, _) = executor(true, good(), refusal(404, "NotFound"));
    assert!(
        executor
            .write_status(&secret("ours", "1"), &json!({}))
            .await
            .is_ok()
    );
    assert!(executor.delete(&secret("ours", "1")).await.is_ok());
}
