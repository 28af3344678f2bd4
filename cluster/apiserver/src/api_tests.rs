//! Whole requests against the server in process: who may what, lists and watches, deletion, tokens, tunnels.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::pki::Pki;
use crate::response::Body;
use crate::store::Store;

/// A server and the tokens of who asks it.
pub(crate) struct Server {
    api: Arc<Api>,
    token: String,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let pki = Pki::ephemeral().unwrap();
        let store = Arc::new(Store::in_memory());
        let api = Api::start(
            store,
            &pki,
            "https://127.0.0.1:6443",
            CancellationToken::new(),
        )
        .await
        .unwrap();
        Self {
            api,
            token: pki.admin_token.clone(),
        }
    }

    fn with_token(&self, token: &str) -> Self {
        Self {
            api: Arc::clone(&self.api),
            token: token.to_owned(),
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: String,
    ) -> Response<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, content_type);
        if !self.token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        }
        self.api
            .respond(request.body(()).unwrap().into_parts().0, Bytes::from(body))
            .await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let content_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let response = self.send(method, path, content_type, body).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))),
        )
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Value::Null).await
    }

    #[track_caller]
    pub(crate) fn made((status, object): (u16, Value)) -> Value {
        assert!(status < 300, "{status} {object}");
        object
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"n": name}}, "data": {"a": "1"}})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

/// The events that a watch has now.
async fn events(response: Response<Body>, count: usize) -> Vec<Value> {
    let mut body = response.into_body();
    let mut events = Vec::new();
    while events.len() < count {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let lines = frame
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        events.extend(lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
    }
    events
}

#[tokio::test]
async fn only_who_may_may() {
    let admin = Server::start().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    Server::made(
        admin
            .call(
                "POST",
                "/api/v1/namespaces/default/serviceaccounts",
                json!({"metadata": {"name": "bot"}}),
            )
            .await,
    );
    let path = "/api/v1/namespaces/default/serviceaccounts/bot/token";
    let answer = Server::made(
        admin
            .call("POST", path, json!({"spec": {"expirationSeconds": 600}}))
            .await,
    );
    let bot = admin.with_token(answer["status"]["token"].as_str().unwrap());
    let nobody = admin.with_token("");
    assert_eq!(bot.get(MAPS).await.0, 403);
    assert_eq!(nobody.get(MAPS).await.0, 403);
    assert_eq!(nobody.get("/healthz").await.0, 200);
    assert_eq!(nobody.get("/api").await.0, 403);
    assert_eq!(admin.with_token("wrong").get(MAPS).await.0, 401);
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    Server::made(
        admin
            .call(
                "POST",
                &format!("{rbac}/roles"),
                json!({"metadata": {"name": "r"}, "rules": rules}),
            )
            .await,
    );
    let binding = json!({
        "metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}],
    });
    Server::made(
        admin
            .call("POST", &format!("{rbac}/rolebindings"), binding)
            .await,
    );
    assert_eq!(bot.get(MAPS).await.0, 200);
    assert_eq!(bot.call("POST", MAPS, map("a")).await.0, 403);
    let larger = json!({"metadata": {"name": "s"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    assert_eq!(
        bot.call("POST", &format!("{rbac}/roles"), larger).await.0,
        403
    );
    Server::made(
        admin
            .call(
                "DELETE",
                "/api/v1/namespaces/default/serviceaccounts/bot",
                Value::Null,
            )
            .await,
    );
    assert_eq!(bot.get(MAPS).await.0, 401, "the token outlived its account");
}

#[tokio::test]
async fn pages_show_the_same_revision_although_the_collection_changes() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        Server::made(server.call("POST", MAPS, map(name)).await);
    }
    let (_, first) = server.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    Server::made(
        server
            .call("DELETE", &format!("{MAPS}/c"), Value::Null)
            .await,
    );
    Server::made(server.call("POST", MAPS, map("bb")).await);
    let next = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = server.get(&format!("{MAPS}?limit=2&continue={next}")).await;
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let names: Vec<&Value> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["c"]);
}

#[tokio::test]
async fn a_watch_sees_objects_come_into_and_leave_its_selection() {
    let server = Server::start().await;
    let (_, list) = server.get(MAPS).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{MAPS}?watch=1&resourceVersion={version}&labelSelector=n%3Da");
    let watch = server.send("GET", &path, "", String::new()).await;
    Server::made(server.call("POST", MAPS, map("a")).await);
    Server::made(server.call("POST", MAPS, map("b")).await);
    Server::made(
        server
            .call("PATCH", &format!("{MAPS}/a"), json!({"data": {"a": "2"}}))
            .await,
    );
    Server::made(
        server
            .call(
                "PATCH",
                &format!("{MAPS}/a"),
                json!({"metadata": {"labels": {"n": "z"}}}),
            )
            .await,
    );
    let kinds: Vec<Value> = events(watch, 3)
        .await
        .into_iter()
        .map(|event| event["type"].clone())
        .collect();
    assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED"]);
}

#[tokio::test]
async fn a_streamed_list_ends_with_its_bookmark() {
    let server = Server::start().await;
    Server::made(server.call("POST", MAPS, map("a")).await);
    let options = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let watch = server
        .send("GET", &format!("{MAPS}?{options}"), "", String::new())
        .await;
    let events = events(watch, 2).await;
    assert_eq!(events[0]["object"]["metadata"]["name"], "a");
    assert_eq!(events[1]["type"], "BOOKMARK");
    assert_eq!(
        events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
}

#[tokio::test]
async fn shutdown_ends_watches() {
    let server = Server::start().await;
    let watch = server
        .send("GET", &format!("{MAPS}?watch=1"), "", String::new())
        .await;
    server.api.shutdown.cancel();
    assert!(
        watch
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
}

#[tokio::test]
async fn a_running_pod_has_its_grace_and_a_waiting_one_goes_at_once() {
    let server = Server::start().await;
    Server::made(server.call("POST", PODS, pod("waits")).await);
    Server::made(
        server
            .call("DELETE", &format!("{PODS}/waits"), Value::Null)
            .await,
    );
    assert_eq!(server.get(&format!("{PODS}/waits")).await.0, 404);
    let created = Server::made(server.call("POST", PODS, pod("runs")).await);
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    assert_eq!(created["status"]["qosClass"], "BestEffort");
    Server::made(
        server
            .call(
                "POST",
                &format!("{PODS}/runs/binding"),
                json!({"target": {"name": "n"}}),
            )
            .await,
    );
    let going = Server::made(
        server
            .call("DELETE", &format!("{PODS}/runs"), Value::Null)
            .await,
    );
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(server.get(&format!("{PODS}/runs")).await.0, 200);
    let now =
        json!({"gracePeriodSeconds": 0, "preconditions": {"uid": created["metadata"]["uid"]}});
    Server::made(server.call("DELETE", &format!("{PODS}/runs"), now).await);
    assert_eq!(server.get(&format!("{PODS}/runs")).await.0, 404);
}

#[tokio::test]
async fn a_namespace_takes_nothing_new_while_it_ends() {
    let server = Server::start().await;
    Server::made(
        server
            .call(
                "POST",
                "/api/v1/namespaces",
                json!({"metadata": {"name": "n"}}),
            )
            .await,
    );
    let maps = "/api/v1/namespaces/n/configmaps";
    Server::made(server.call("POST", maps, map("a")).await);
    let going = Server::made(
        server
            .call("DELETE", "/api/v1/namespaces/n", Value::Null)
            .await,
    );
    assert_eq!(going["status"]["phase"], "Terminating");
    assert_eq!(server.call("POST", maps, map("b")).await.0, 403);
    let mut emptied = going.clone();
    emptied["spec"]["finalizers"] = json!([]);
    Server::made(
        server
            .call("PUT", "/api/v1/namespaces/n/finalize", emptied)
            .await,
    );
    assert_eq!(server.get("/api/v1/namespaces/n").await.0, 404);
    assert_eq!(
        server
            .call("POST", "/api/v1/namespaces/none/configmaps", map("b"))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn concurrent_patches_without_a_version_all_arrive() {
    let server = Arc::new(Server::start().await);
    Server::made(server.call("POST", MAPS, map("a")).await);
    let mut patches = tokio::task::JoinSet::new();
    for number in 0..20 {
        let server = Arc::clone(&server);
        patches.spawn(async move {
            let data = json!({"data": {format!("k{number}"): "v"}});
            Server::made(server.call("PATCH", &format!("{MAPS}/a"), data).await);
        });
    }
    while patches.join_next().await.is_some() {}
    let (_, found) = server.get(&format!("{MAPS}/a")).await;
    assert_eq!(found["data"].as_object().unwrap().len(), 21);
}

#[tokio::test]
async fn both_kinds_of_events_are_one() {
    let server = Server::start().await;
    let event = json!({
        "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Test", "reason": "Why",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "it happened",
        "reportingController": "us", "reportingInstance": "us-1", "type": "Normal",
    });
    Server::made(
        server
            .call(
                "POST",
                "/apis/events.k8s.io/v1/namespaces/default/events",
                event,
            )
            .await,
    );
    let (_, core) = server
        .get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp")
        .await;
    assert_eq!(core["items"][0]["message"], "it happened");
    let patch = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}});
    Server::made(
        server
            .call(
                "PATCH",
                "/apis/events.k8s.io/v1/namespaces/default/events/e",
                patch,
            )
            .await,
    );
    let (_, newer) = server
        .get("/apis/events.k8s.io/v1/namespaces/default/events/e")
        .await;
    assert_eq!(newer["note"], "it happened");
    assert_eq!(newer["series"]["count"], 2);
}

#[tokio::test]
async fn logs_come_from_the_node_that_the_pod_is_on() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let node = tokio::task::JoinSet::from_iter([async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi\n")
            .await
            .unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    }]);
    Server::made(
        server
            .call("POST", "/api/v1/nodes", json!({"metadata": {"name": "n"}}))
            .await,
    );
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    Server::made(server.call("PATCH", "/api/v1/nodes/n/status", status).await);
    Server::made(server.call("POST", PODS, pod("p")).await);
    assert_eq!(
        server.get(&format!("{PODS}/p/log")).await.0,
        400,
        "no node yet"
    );
    Server::made(
        server
            .call(
                "POST",
                &format!("{PODS}/p/binding"),
                json!({"target": {"name": "n"}}),
            )
            .await,
    );
    let (code, text) = server.get(&format!("{PODS}/p/log?tailLines=3")).await;
    assert_eq!(
        (StatusCode::from_u16(code).unwrap(), text),
        (StatusCode::OK, json!("hi\n"))
    );
    let request = node.join_all().await.concat();
    assert!(
        request.starts_with("GET /containerLogs/default/p/c?tailLines=3 HTTP/1.1"),
        "{request}"
    );
    assert!(
        request.contains(&format!("Bearer {}", server.api.node_token)),
        "{request}"
    );
    assert!(
        !request.contains(&server.token),
        "the client's token went to the node"
    );
}

#[tokio::test]
async fn a_pod_gets_the_priority_of_its_class() {
    let server = Server::start().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    Server::made(
        server
            .call(
                "POST",
                classes,
                json!({"metadata": {"name": "high"}, "value": 7}),
            )
            .await,
    );
    let mut wanted = pod("p");
    wanted["spec"]["priorityClassName"] = json!("high");
    assert_eq!(
        Server::made(server.call("POST", PODS, wanted.clone()).await)["spec"]["priority"],
        7
    );
    wanted["spec"]["priorityClassName"] = json!("none");
    assert_eq!(server.call("POST", PODS, wanted).await.0, 403);
}
