//! Reports of gateways, with a scripted API server that takes the statuses.

use std::sync::Arc;

use crds::Model;
use http::{Request, Response};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Client, client,
    runtime::{reflector::store, watcher},
};
use parking_lot::Mutex;
use protocol::demand::Demand;
use serde_json::{Value, json};

use super::Notes;

/// What was written: path and body.
type Written = Arc<Mutex<Vec<(String, Value)>>>;

fn model(name: &str, scaling: &Value, last_wanted: Option<&str>) -> Model {
    serde_json::from_value(json!({
        "apiVersion": "quarterdeck.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name, "namespace": "n"},
        "spec": {"source": {"uri": "file:///w.gguf"}, "scaling": scaling},
        "status": {"lastWanted": last_wanted},
    }))
    .unwrap()
}

/// Notes with these Models, and an API server that answers each write with this status.
fn notes(models: Vec<Model>, status: u16) -> (Notes, Written) {
    let written = Written::default();
    let taken = Arc::clone(&written);
    let service = tower::service_fn(move |request: Request<client::Body>| {
        let taken = Arc::clone(&taken);
        async move {
            let path = request.uri().to_string();
            let body = request.into_body().collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            taken.lock().push((path, body));
            let answer = match status {
                200 => json!(model("a", &Value::Null, None)),
                code => {
                    json!({"kind": "Status", "status": "Failure", "code": code, "reason": if code == 404 { "NotFound" } else { "InternalError" }, "message": ""})
                }
            };
            let body = client::Body::from(answer.to_string().into_bytes());
            Response::builder().status(status).body(body)
        }
    });
    let (reader, mut writer) = store();
    for model in models {
        writer.apply_watcher_event(&watcher::Event::Apply(model));
    }
    (Notes::new(Client::new(service, "default"), reader), written)
}

fn demand(models: &[&str]) -> Demand {
    Demand {
        node: "gateway-1".to_owned(),
        models: models.iter().map(|model| (*model).to_owned()).collect(),
    }
}

#[tokio::test]
async fn what_is_wanted_is_noted_in_the_status_of_models_that_ask_for_it() {
    let now = Timestamp::now();
    let just = (now - SignedDuration::from_secs(1)).to_string();
    let models = vec![
        model("a", &json!({"idle": "10m"}), None),
        model("awake", &json!({"idle": "10m"}), Some(&just)),
        model("always", &Value::Null, None),
        model("broken", &json!({"idle": "1ms"}), None),
    ];
    let (notes, written) = notes(models, 200);
    let named = ["n/a", "n/awake", "n/always", "n/broken", "n/gone", "a", ""];
    notes.note(&demand(&named), now).await.unwrap();
    let written = written.lock();
    let [(path, body)] = &written[..] else {
        panic!("{written:?}");
    };
    assert_eq!(
        path,
        "/apis/quarterdeck.dev/v1alpha1/namespaces/n/models/a/status?&force=true&fieldManager=quarterdeck-demand"
    );
    assert_eq!(body["status"], json!({"lastWanted": now.to_string()}));
}

#[tokio::test]
async fn a_write_that_fails_is_told_and_one_for_a_deleted_model_is_not() {
    for (status, expected) in [(404, true), (500, false)] {
        let models = vec![model("a", &json!({"idle": "10m"}), None)];
        let (notes, _) = notes(models, status);
        let outcome = notes.note(&demand(&["n/a"]), Timestamp::now()).await;
        assert_eq!(outcome.is_ok(), expected, "{status}");
    }
}
