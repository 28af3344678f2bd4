//! A gateway on a free port, and a client that sees every byte.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use protocol::{
    key::hash_key,
    snapshot::{GatewaySnapshot, KeyEntry, Retries, RouteEntry, Strategy, Target},
    sse::{Event, Parser},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::scripted_model::ScriptedModel;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    adapters,
    admin::AdminKey,
    batches,
    gateway::{Gateway, Governance, Limits, Storage},
    jwt::Issuer,
    kv_events,
    ledger::{Ledger, disk::Disk},
    observe::Observers,
    people::People,
    server,
    table::Lasting,
    upstream::{self, Upstream},
};

/// The key of the admin API.
pub(crate) const ADMIN_KEY: &str = "8c1f0a9be7d2463f95ab0c4de6f71823";

/// A running gateway.
pub(crate) struct Harness {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) shutdown: CancellationToken,
    base: String,
    client: Upstream,
    folder: TempDir,
    ledger: Arc<Ledger>,
    is_disk_full: Arc<AtomicBool>,
    server: JoinSet<()>,
}

/// What a client got.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    body: Bytes,
}

/// Outcome, status, prompt and completion tokens of a row.
pub(crate) type Row = (String, u16, u64, u64);

impl Harness {
    pub(crate) async fn empty() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), Observers::default()).await
    }

    /// A gateway that takes the tokens of an issuer, without routes yet.
    pub(crate) async fn with_issuer(issuer: Option<Issuer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, issuer, Observers::default()).await
    }

    /// A gateway with somebody who is told of requests.
    pub(super) async fn observed(
        routes: Vec<RouteEntry>,
        keys: Vec<KeyEntry>,
        observers: Observers,
    ) -> Self {
        let harness = Self::in_folder(tempfile::tempdir().unwrap(), observers).await;
        harness.apply(routes, keys);
        harness
    }

    async fn in_folder(folder: TempDir, observers: Observers) -> Self {
        Self::start_in(folder, None, observers).await
    }

    async fn start_in(folder: TempDir, issuer: Option<Issuer>, observers: Observers) -> Self {
        let (ledger, is_disk_full) = Disk::ledger(folder.path());
        let ledger = Arc::new(ledger);
        let limits = Limits {
            body_bytes_max: 1 << 20,
            requests_max: 100,
            keep_alive: std::time::Duration::from_millis(30),
        };
        let storage = Storage::open(folder.path(), 4 << 20, 4 << 20).unwrap();
        let lasting = Lasting::new(&ledger);
        let people = People::open(folder.path(), true, Arc::clone(&lasting)).unwrap();
        let governance = Governance {
            lasting,
            people: Arc::new(people.trusting(issuer)),
            admin: Some(AdminKey::parse(ADMIN_KEY).unwrap()),
        };
        let gateway = Gateway::new(Arc::clone(&ledger), governance, storage, limits);
        let gateway = Arc::new(gateway.observed_by(observers));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let mut server = JoinSet::new();
        server.spawn(server::accept(
            listener,
            Arc::clone(&gateway),
            shutdown.clone(),
        ));
        server.spawn(batches::run(Arc::clone(&gateway), shutdown.clone()));
        server.spawn(kv_events::follow(Arc::clone(&gateway), shutdown.clone()));
        server.spawn(adapters::follow(Arc::clone(&gateway), shutdown.clone()));
        Self {
            gateway,
            shutdown,
            base,
            client: upstream::client(),
            folder,
            ledger,
            is_disk_full,
            server,
        }
    }

    pub(crate) async fn start(routes: Vec<RouteEntry>, keys: Vec<KeyEntry>) -> Self {
        let harness = Self::empty().await;
        harness.apply(routes, keys);
        harness
    }

    pub(crate) fn apply(&self, routes: Vec<RouteEntry>, keys: Vec<KeyEntry>) {
        self.gateway
            .apply(&GatewaySnapshot::new(routes, keys))
            .unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn post(&self, path: &str, key: Option<&str>, body: &str) -> Answer {
        let response = self.send("POST", path, key, body).await;
        collect(response).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method("POST").uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::from(body.to_owned()));
        let request = request.body(body).unwrap();
        collect(self.client.request(request).await.unwrap()).await
    }

    pub(super) async fn delete(&self, path: &str, key: Option<&str>) -> Answer {
        let response = self.send("DELETE", path, key, "").await;
        collect(response).await
    }

    /// Posts a body of any type.
    pub(super) async fn form(
        &self,
        path: &str,
        key: &str,
        content_type: &str,
        body: UnsyncBoxBody<Bytes, Infallible>,
    ) -> Answer {
        let request = Request::post(self.url(path))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", content_type)
            .body(body)
            .unwrap();
        collect(upstream::client().request(request).await.unwrap()).await
    }

    /// Another gateway in the folder of this one, whose work is cut off where it stands.
    pub(super) async fn crashed(self, routes: Vec<RouteEntry>, keys: Vec<KeyEntry>) -> Self {
        self.crashed_with(routes, keys, |_| {}).await
    }

    /// Another gateway in the folder of this one, in which something has happened between them.
    pub(super) async fn crashed_with(
        mut self,
        routes: Vec<RouteEntry>,
        keys: Vec<KeyEntry>,
        between: impl FnOnce(&Path),
    ) -> Self {
        self.server.abort_all();
        let folder = self.ended().await;
        between(folder.path());
        let harness = Self::in_folder(folder, Observers::default()).await;
        harness.apply(routes, keys);
        harness
    }

    pub(crate) async fn get(&self, path: &str, key: Option<&str>) -> Answer {
        let response = self.send("GET", path, key, "").await;
        collect(response).await
    }

    /// Asks the admin API, with its key.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        collect(self.send(method, path, Some(ADMIN_KEY), &body).await).await
    }

    pub(crate) async fn stream(&self, path: &str, key: Option<&str>, body: &str) -> Stream {
        let response = self.send("POST", path, key, body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream {
            body: response.into_body(),
            parser: Parser::new(1 << 20),
            events: Vec::new().into(),
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(self.url(path));
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        self.client.request(request).await.unwrap()
    }

    /// Sends a request as it is.
    pub(crate) async fn raw(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        self.client.request(request).await.unwrap()
    }

    /// The ledger's rows by time, once everything that was written before this call is there.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        self.ledger.totals("").await.unwrap();
        rows_of(self.folder.path())
    }

    /// One row of the ledger, once everything that was written before this call is there.
    pub(crate) async fn query<T>(
        &self,
        query: &str,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> T {
        self.ledger.totals("").await.unwrap();
        let connection = Connection::open(self.folder.path().join("ledger.sqlite")).unwrap();
        connection.query_row(query, [], read).unwrap()
    }

    /// Whether a file of the data folder holds a text.
    pub(crate) fn holds_on_disk(&self, text: &str) -> bool {
        std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| std::fs::read(path).unwrap())
            .any(|bytes| memchr::memmem::find(&bytes, text.as_bytes()).is_some())
    }

    /// Fills the ledger's disk, or makes room again.
    pub(crate) fn fill_disk(&self, is_full: bool) {
        self.is_disk_full.store(is_full, Ordering::SeqCst);
    }

    /// Another gateway with the ledger of this one, which ends.
    pub(crate) async fn restarted(self, routes: Vec<RouteEntry>, keys: Vec<KeyEntry>) -> Self {
        self.shutdown.cancel();
        let harness = Self::in_folder(self.ended().await, Observers::default()).await;
        harness.apply(routes, keys);
        harness
    }

    /// Waits until no request is in progress.
    pub(crate) async fn idle(&self) {
        self.in_flight(0).await;
    }

    /// Waits until so many requests are in progress.
    pub(crate) async fn in_flight(&self, count: usize) {
        let line = format!("gateway_requests_in_flight {count}\n");
        while !self.gateway.render_metrics().contains(&line) {
            tokio::task::yield_now().await;
        }
    }

    /// Where the ledger lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until nothing of any request is left: no place, no lease, no reservation of a place.
    pub(crate) async fn at_rest(&self) {
        let rest = async {
            while !self.gateway.is_at_rest() {
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(5);
        tokio::time::timeout(limit, rest).await.unwrap();
    }

    /// Waits for the end of a gateway that was shut down.
    pub(crate) async fn ended(mut self) -> TempDir {
        drop(self.client);
        while self.server.join_next().await.is_some() {}
        self.ledger.close();
        self.folder
    }
}

pub(crate) fn rows_of(folder: &Path) -> Vec<Row> {
    let connection = Connection::open(folder.join("ledger.sqlite")).unwrap();
    let mut statement = connection
        .prepare(
            "SELECT outcome, status, prompt_tokens, completion_tokens FROM requests ORDER BY id",
        )
        .unwrap();
    let number = |number: i64| u64::try_from(number).unwrap();
    let rows = statement
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                number(row.get(2)?),
                number(row.get(3)?),
            ))
        })
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

async fn collect(response: http::Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text_body(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        self.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> String {
        self.headers
            .get(name)
            .map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    /// Status and code of an error in OpenAI's shape.
    pub(crate) fn fault(&self) -> (u16, String) {
        let body = self.json();
        assert!(
            body["error"]["message"].is_string() && body["error"]["type"].is_string(),
            "{body}"
        );
        (
            self.status,
            body["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    }
}

/// A stream that a client reads.
pub(crate) struct Stream {
    body: Incoming,
    parser: Parser,
    events: std::collections::VecDeque<Event>,
}

impl Stream {
    /// The next event's data; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        while self.events.is_empty() {
            let frame = self.body.frame().await?.unwrap();
            self.events
                .extend(self.parser.push(&frame.into_data().unwrap()).unwrap());
        }
        self.events.pop_front().map(|event| event.data)
    }
}

/// Reads a stream to its proper end.
pub(crate) async fn completes(stream: &mut Stream, text: &str) {
    let mut seen = String::new();
    while let Some(data) = stream.next().await {
        if data == "[DONE]" {
            assert_eq!(seen, text);
            assert_eq!(stream.next().await, None);
            return;
        }
        let event: Value = serde_json::from_str(&data).unwrap();
        seen.push_str(
            event["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or_default(),
        );
    }
    panic!("the stream ended after {seen:?}");
}

pub(crate) fn chat(model: &str, stream: bool) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream})
        .to_string()
}

pub(crate) fn key(name: &str) -> KeyEntry {
    KeyEntry {
        id: format!("ns/{name}"),
        hash: hash_key(&format!("qd-{name}")),
        ..KeyEntry::default()
    }
}

pub(crate) fn target(name: &str, model: &str, endpoints: &[&ScriptedModel]) -> Target {
    Target {
        name: name.to_owned(),
        model: model.to_owned(),
        endpoints: endpoints
            .iter()
            .map(|endpoint| endpoint.base_url())
            .collect(),
        weight: 1,
        ..Target::default()
    }
}

/// A route to targets in the order of failover.
pub(crate) fn route(model: &str, targets: Vec<Target>) -> RouteEntry {
    let targets = targets.into_iter().enumerate();
    RouteEntry {
        namespace: "ns".to_owned(),
        name: model.to_owned(),
        generation: 1,
        models: vec![model.to_owned()],
        strategy: Strategy::Failover,
        targets: targets
            .map(|(place, target)| Target {
                priority: u32::try_from(place).unwrap(),
                ..target
            })
            .collect(),
        retries: Retries {
            attempts: 2,
            backoff_millis: 1,
        },
        ..RouteEntry::default()
    }
}
