//! Claims about the whole process, over real sockets.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use engine_models::Loaded;
use engine_models::synthetic::{SyntheticAdapter, SyntheticModel};
use protocol::load::{LoadFailure, LoadPhase, LoadReport};
use reqwest::Client;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{EngineError, serve};
use crate::http::tests::fixture;
use crate::state::State;

struct Process {
    client: Client,
    address: SocketAddr,
    state: Weak<State>,
    shutdown: CancellationToken,
    tasks: JoinSet<Result<(), EngineError>>,
}

impl Process {
    async fn start(source: &Path, cache: &Path) -> Self {
        Self::start_with(source, cache, &[]).await
    }

    async fn start_with(source: &Path, cache: &Path, flags: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let args = fixture::args(&format!("file://{}", source.display()), cache, flags);
        let state = Arc::new(State::new(vec!["tiny".to_owned()], 7, shutdown.clone()));
        let mut tasks = JoinSet::new();
        let weak = Arc::downgrade(&state);
        tasks.spawn(serve(listener, args, state));
        Self {
            client: Client::new(),
            address,
            state: weak,
            shutdown,
            tasks,
        }
    }

    /// Waits until the engine is in a phase and returns what it says over HTTP then.
    async fn reach(&self, phase: LoadPhase) -> LoadReport {
        let mut reports = self.state.upgrade().expect("the process runs").reports();
        let reached = timeout(
            Duration::from_secs(20),
            reports.wait_for(|report| report.phase == phase),
        );
        drop(
            reached
                .await
                .unwrap_or_else(|_| panic!("{phase:?} was not reached"))
                .unwrap(),
        );
        let response = self
            .client
            .get(format!("http://{}/health/load", self.address))
            .send()
            .await
            .unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    async fn end(&mut self) -> Result<(), EngineError> {
        let ended = timeout(Duration::from_secs(20), self.tasks.join_next());
        ended.await.expect("the process ends").unwrap().unwrap()
    }
}

#[tokio::test]
async fn weights_that_appear_later_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("late.gguf");
    let mut process = Process::start(&source, folder.path()).await;
    let report = process.reach(LoadPhase::Failed).await;
    assert_eq!(report.reason, Some(LoadFailure::SourceNotFound));
    assert!(report.message.contains("late.gguf"), "{}", report.message);
    fs::write(folder.path().join("part"), b"").unwrap();
    SyntheticModel::default()
        .write(&folder.path().join("part"))
        .unwrap();
    fs::rename(folder.path().join("part"), &source).unwrap();
    let report = process.reach(LoadPhase::Ready).await;
    assert_eq!(report.facts.unwrap().context_length, 256);
    process.shutdown.cancel();
    process.end().await.unwrap();
}

#[tokio::test]
async fn a_broken_file_is_reported_and_the_process_stays() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("broken.gguf");
    fs::write(&source, b"no weights at all").unwrap();
    let mut process = Process::start(&source, folder.path()).await;
    let report = process.reach(LoadPhase::Failed).await;
    assert_eq!(report.reason, Some(LoadFailure::VerifyFailed));
    process.shutdown.cancel();
    process.end().await.unwrap();
}

/// The digest of a folder: that of the lines that `sha256sum` prints for its files.
fn folder_digest(folder: &Path) -> String {
    let hex = |bytes: &[u8]| -> String {
        let digest = Sha256::digest(bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let line = |name| format!("{}  {name}\n", hex(&fs::read(folder.join(name)).unwrap()));
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    hex(names.map(line).concat().as_bytes())
}

#[tokio::test]
async fn an_adapter_with_a_digest_is_loaded_only_if_it_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("model.gguf");
    SyntheticModel::default().write(&source).unwrap();
    let config = Loaded::open(&source).unwrap().model.config().clone();
    let adapter = folder.path().join("adapter");
    SyntheticAdapter::default()
        .write(&adapter, &config)
        .unwrap();
    let (right, wrong) = (folder_digest(&adapter), "0".repeat(64));
    for (sha256, phase) in [(&right, LoadPhase::Ready), (&wrong, LoadPhase::Failed)] {
        let lora = format!("pirate=file://{}#sha256={sha256}", adapter.display());
        let mut process = Process::start_with(&source, folder.path(), &["--lora", &lora]).await;
        let report = process.reach(phase).await;
        if phase == LoadPhase::Failed {
            assert_eq!(report.reason, Some(LoadFailure::VerifyFailed));
            for part in ["\"pirate\"", &right, &wrong] {
                assert!(report.message.contains(part), "{}", report.message);
            }
        }
        let url = format!("http://{}/v1/models", process.address);
        let models = process.client.get(url).send().await.unwrap();
        let has_adapter = models.text().await.unwrap().contains("\"pirate\"");
        assert_eq!(has_adapter, phase == LoadPhase::Ready);
        process.shutdown.cancel();
        process.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_running_answer_is_finished_before_the_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("model.gguf");
    SyntheticModel::default().write(&source).unwrap();
    let mut process = Process::start(&source, folder.path()).await;
    process.reach(LoadPhase::Ready).await;
    let body = json!({"model": "tiny", "prompt": "a", "max_tokens": 200, "ignore_eos": true, "stream": true});
    let request = process
        .client
        .post(format!("http://{}/v1/completions", process.address))
        .json(&body);
    let mut response = request.send().await.unwrap();
    let mut text = Vec::new();
    text.extend(response.chunk().await.unwrap().unwrap());
    process.shutdown.cancel();
    while let Some(bytes) = response.chunk().await.unwrap() {
        text.extend(bytes);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "the stream was cut off");
    assert!(text.contains("\"finish_reason\":\"length\""));
    process.end().await.unwrap();
}
