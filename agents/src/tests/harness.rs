//! A runtime in the test's process, and a client that talks to it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use protocol::{
    agent::Definition,
    key::hash_key,
    runs::{Run, RunEvent},
    secret::SecretString,
    snapshot::{AgentEntry, AgentsSnapshot, GatewayAccess, KeyEntry},
    sse::{Event, Parser},
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::fakes::{FakeModel, FakeWorkspace, Script};
use crate::{
    runtime::{AgentsError, RuntimeConfig, Source, serve},
    store::CommitHook,
    worker::Patience,
};

/// The key that may call everything.
pub(super) const KEY: &str = "qd-test-key";
/// A key that may call agents without a list of keys.
pub(super) const OTHER_KEY: &str = "qd-other-key";
/// The agent's key for the gateway.
pub(super) const GATEWAY_KEY: &str = "qd-gateway-key-51d2";

/// A model, a workspace and a data folder that outlive runtimes.
pub(super) struct World {
    pub(super) model: FakeModel,
    pub(super) workspace: FakeWorkspace,
    pub(super) data: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl World {
    pub(super) async fn new(script: Script) -> Self {
        let mut tasks = JoinSet::new();
        Self {
            model: FakeModel::start(&mut tasks, script).await,
            workspace: FakeWorkspace::start(&mut tasks).await,
            data: tempfile::tempdir().unwrap(),
            _tasks: tasks,
        }
    }

    /// A world whose model is not asked.
    pub(super) async fn silent() -> Self {
        Self::new(Arc::new(|_, _| super::fakes::Reply::Silent)).await
    }

    /// A tool named `box` that may run three programs.
    pub(super) fn workspace_tool(&self) -> Value {
        json!({ "name": "box", "source": { "workspace": {
            "url": format!("http://{}", self.workspace.address),
            "token": self.workspace.token,
            "commands": ["echo", "fail", "cat"],
        } } })
    }

    /// A definition with the workspace as a tool.
    pub(super) fn definition(&self, program: &Value) -> Definition {
        serde_json::from_value(json!({
            "instructions": "You are {{ run.agent }}.",
            "model": { "name": "m" },
            "tools": [self.workspace_tool()],
            "program": program,
        }))
        .unwrap()
    }

    pub(super) fn entry(&self, name: &str, definition: Definition) -> AgentEntry {
        AgentEntry {
            namespace: "team".to_owned(),
            name: name.to_owned(),
            generation: 1,
            suspended: false,
            definition,
            gateway: GatewayAccess {
                url: format!("http://{}/v1", self.model.address),
                key: SecretString::new(GATEWAY_KEY.to_owned()),
            },
            keys: Vec::new(),
        }
    }

    /// A runtime with one agent, `worker`.
    pub(super) async fn start(&self, definition: Definition) -> Runtime {
        Runtime::start(
            self.data.path(),
            vec![self.entry("worker", definition)],
            None,
        )
        .await
    }
}

/// A running runtime.
pub(super) struct Runtime {
    pub(super) address: SocketAddr,
    client: reqwest::Client,
    shutdown: CancellationToken,
    task: JoinSet<Result<(), AgentsError>>,
}

impl Runtime {
    pub(super) async fn start(
        data: &Path,
        agents: Vec<AgentEntry>,
        commit_hook: Option<CommitHook>,
    ) -> Self {
        let key = |id: &str, key: &str| KeyEntry {
            id: id.to_owned(),
            hash: hash_key(key),
            ..KeyEntry::default()
        };
        let mut expired = key("team/old", "qd-old-key");
        expired.expires = Some("2020-01-01T00:00:00Z".to_owned());
        let keys = vec![key("team/main", KEY), key("team/other", OTHER_KEY), expired];
        let source = Source::Fixed(Box::new(AgentsSnapshot::new(agents, keys)));
        Self::start_with(data, source, commit_hook).await
    }

    pub(super) async fn start_with(
        data: &Path,
        source: Source,
        commit_hook: Option<CommitHook>,
    ) -> Self {
        let config = RuntimeConfig {
            data_dir: data.to_owned(),
            source,
            concurrent_runs: 8,
            waiting_runs: 100,
            retention: Duration::from_secs(3600),
            patience: Patience {
                unavailable: Duration::from_secs(5),
                unsettled: Duration::from_secs(1),
                shutdown: Duration::ZERO,
            },
            commit_hook,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, config, shutdown.clone()));
        let client = http_client();
        Self {
            address,
            client,
            shutdown,
            task,
        }
    }

    pub(super) async fn stop(mut self) -> Result<(), AgentsError> {
        self.shutdown.cancel();
        self.task.join_next().await.unwrap().unwrap()
    }

    /// Waits until the runtime ends by itself.
    pub(super) async fn ended(&mut self) -> Result<(), AgentsError> {
        self.task.join_next().await.unwrap().unwrap()
    }

    pub(super) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client
            .get(format!("http://{}{path}", self.address))
            .bearer_auth(KEY)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client
            .post(format!("http://{}{path}", self.address))
            .bearer_auth(KEY)
            .json(body)
    }

    /// Starts a run of `worker`; `None` if the runtime did not acknowledge it.
    pub(super) async fn create(&self, input: &Value, key: Option<&str>) -> Option<Run> {
        let mut request = self.post("/v1/agents/team/worker/runs", &json!({ "input": input }));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.ok()?;
        if response.status().is_success() {
            response.json().await.ok()
        } else {
            None
        }
    }

    pub(super) async fn run(&self, id: &str) -> Run {
        self.get(&format!("/v1/runs/{id}"))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    /// The events of a run from the beginning to its end.
    pub(super) async fn events(&self, id: &str) -> Vec<Event> {
        let response = self
            .get(&format!("/v1/runs/{id}/events"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        read_events(response).await
    }

    /// Starts a run and waits for its end.
    pub(super) async fn finish(&self, input: &Value) -> (Run, Vec<Event>) {
        let run = self.create(input, None).await.unwrap();
        let events = self.events(&run.id).await;
        (self.run(&run.id).await, events)
    }
}

/// A client that no proxy of the host gets between.
pub(super) fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// All events of a stream.
pub(super) async fn read_events(mut response: Response) -> Vec<Event> {
    let mut parser = Parser::new(1 << 20);
    let mut events = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        events.extend(parser.push(&chunk).unwrap());
    }
    events
}

/// The logged events, without deltas and without how often the run was taken up.
pub(super) fn logged(events: &[Event]) -> Vec<RunEvent> {
    let events = events.iter().filter(|event| event.id.is_some());
    events
        .map(|event| serde_json::from_str(&event.data).unwrap())
        .filter(|event| !matches!(event, RunEvent::Started { .. }))
        .collect()
}
