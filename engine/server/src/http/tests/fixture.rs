//! An engine with a synthetic model behind its routes, without sockets.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use clap::Parser;
use engine_models::synthetic::SyntheticModel;
use http_body_util::BodyExt;
use protocol::sse::Parser as EventParser;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::args::EngineArgs;
use crate::state::State;
use crate::{http, loader};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    engine: EngineArgs,
}

/// Flags for an engine with these names, and more flags.
pub(crate) fn args(source: &str, cache: &Path, more: &[&str]) -> EngineArgs {
    try_args(source, cache, more).unwrap()
}

/// As [`args`], or what the flags' reader says.
pub(crate) fn try_args(
    source: &str,
    cache: &Path,
    more: &[&str],
) -> Result<EngineArgs, clap::Error> {
    let cache = cache.display().to_string();
    let mut flags = vec![
        "engine",
        "--listen",
        "127.0.0.1:0",
        "--served-name",
        "tiny",
        "--alias",
        "small",
    ];
    flags.extend(["--threads", "2", "--source", source, "--cache-dir", &cache]);
    flags.extend(more);
    Ok(Command::try_parse_from(flags)?.engine)
}

pub(super) struct Fixture {
    pub(super) state: Arc<State>,
    router: Router,
    _folder: Option<TempDir>,
}

impl Fixture {
    /// An engine whose model is loaded.
    pub(super) fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Self::start`], with more flags. The thread of the step loop ends with the fixture.
    pub(super) fn start_with(flags: &[&str]) -> Self {
        Self::start_model(&SyntheticModel::default(), flags)
    }

    /// An engine with a context that holds tools, whose descriptions take a token a byte here.
    pub(super) fn roomy() -> Self {
        let model = SyntheticModel {
            context_length: 2048,
            ..SyntheticModel::default()
        };
        Self::start_model(&model, &[])
    }

    fn start_model(model: &SyntheticModel, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        model.write(&path).unwrap();
        Self {
            // An engine that wakes reads its file again.
            _folder: Some(folder),
            ..Self::start_file(&path, flags)
        }
    }

    /// As [`Self::start`], with the model in a file or a folder.
    pub(super) fn start_file(path: &Path, flags: &[&str]) -> Self {
        let cache = Path::new("/nonexistent");
        let args = args("file:///unused", cache, flags);
        let fixture = Self::serving(args.admin);
        let work = loader::start(&args, &fixture.state, path).unwrap();
        thread::spawn(move || work.run(&CancellationToken::new()));
        fixture
    }

    /// An engine that has not loaded its model yet.
    pub(super) fn loading() -> Self {
        Self::serving(false)
    }

    fn serving(has_admin: bool) -> Self {
        let names = ["tiny", "small"].map(str::to_owned).to_vec();
        let state = State::new(names, 7, CancellationToken::new()).with_admin(has_admin);
        let state = Arc::new(state);
        Self {
            router: http::router(Arc::clone(&state)),
            state,
            _folder: None,
        }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends any body.
    pub(super) async fn post_text(
        &self,
        path: &str,
        body: &str,
    ) -> (StatusCode, HeaderMap, String) {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()));
        let response = self.send(request.unwrap()).await;
        let (status, headers) = (response.status(), response.headers().clone());
        (status, headers, text(response).await)
    }

    pub(super) async fn post_ok(&self, path: &str, body: &Value) -> Value {
        let (status, _, text) = self.post_text(path, &body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The data of all events of a streamed answer.
    pub(super) async fn post_stream(&self, path: &str, body: &Value) -> Vec<String> {
        let (status, headers, text) = self.post_text(path, &body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        assert_eq!(headers["content-type"], "text/event-stream");
        let events = EventParser::new(1 << 20).push(text.as_bytes()).unwrap();
        events.into_iter().map(|event| event.data).collect()
    }

    /// The chunks of a stream that ends in OpenAI's mark.
    pub(super) async fn post_chunks(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut events = self.post_stream(path, body).await;
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        let parse = |event: &String| serde_json::from_str(event).unwrap();
        events.iter().map(parse).collect()
    }

    /// The typed events of a stream.
    pub(super) async fn post_events(&self, path: &str, body: &Value) -> Vec<Value> {
        let events = self.post_stream(path, body).await;
        let parse = |event: &String| serde_json::from_str(event).unwrap();
        events.iter().map(parse).collect()
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = self
            .send(Request::get(path).body(Body::empty()).unwrap())
            .await;
        (response.status(), text(response).await)
    }
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
