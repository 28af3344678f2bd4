//! The engine alone, under the SDKs that people have: OpenAI's for Python and JavaScript, Anthropic's for Python.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{PATIENCE, block_on, checked, qd, root, target, until},
    sdks::{node, packages, python},
};

const ANSWER: &str = "The capital of France is Paris.";

/// `qd engine` without a stack around it.
pub(crate) struct Engine {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Engine {
    /// Starts an engine and waits until it answers at `path`.
    fn start(source: &str, flags: &[&str], path: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a cache folder")?;
        let log = File::create(folder.path().join("engine.log")).context("creating the log")?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(qd())
            .args(["engine", "--listen", &address.to_string()])
            .args(["--served-name", "smollm2", "--source", source])
            .arg("--cache-dir")
            .arg(folder.path())
            .args(flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting `qd engine`")?;
        let engine = Self {
            child,
            url: format!("http://{address}/v1"),
            _folder: folder,
        };
        until(PATIENCE, "the engine to answer", || {
            let url = format!("http://{address}{path}");
            block_on(reqwest_get(&url))
        })?;
        Ok(engine)
    }

    /// The base URL, with `/v1`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// An engine with the tests' weights.
    pub(crate) fn with_weights(flags: &[&str]) -> Result<Self> {
        let weights = target().join("weights/SmolLM2-135M-Instruct.Q4_1.gguf");
        ensure!(
            weights.exists(),
            "there are no weights in target/weights\nhint: cargo xtask weights"
        );
        Self::start(
            &format!("file://{}", weights.display()),
            flags,
            "/health/ready",
        )
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            // The story is over; what it found out counts more than a failing stop.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

async fn reqwest_get(url: &str) -> Result<()> {
    // Another story of this process may have installed the provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::get(url).await?.error_for_status()?;
    Ok(())
}

/// Runs a script of this story's folder against a base URL, and reads its report.
pub(crate) fn run(script: &str, url: &str) -> Result<Value> {
    let script = scripts().join(script);
    let said = checked(Command::new(python("openai")?).arg(script).arg(url))?;
    serde_json::from_str(&said).context("reading the script's report")
}

fn scripts() -> PathBuf {
    root().join("tests/stories/engine_sdks")
}

#[test]
fn openais_python_sdk_gets_chats_tools_formats_responses_and_its_own_errors() -> Result<()> {
    let engine = Engine::with_weights(&[])?;
    let seen = run("chat_openai.py", &engine.url)?;
    ensure!(
        seen["whole"] == ANSWER && seen["pieces"] == ANSWER,
        "{seen}"
    );
    ensure!(
        seen["logprobs"] == json!([3, 3, 3, 3, 3, 3, 3, 3]),
        "{seen}"
    );
    ensure!(seen["usage"][0] == seen["usage"][1], "{seen}");
    ensure!(
        seen["required"] == json!(["tool_calls", "weather"]),
        "{seen}"
    );
    ensure!(seen["named"] == json!(["tool_calls", "weather"]), "{seen}");
    ensure!(seen["streamed call"]["city"].is_string(), "{seen}");
    ensure!(seen["parsed"] == true && seen["n"] == 2, "{seen}");
    ensure!(seen["text"][1] == 4, "{seen}");
    ensure!(seen["response"] == json!(["completed", ANSWER]), "{seen}");
    let stream = json!(["response.created", "response.completed", ANSWER, ANSWER]);
    ensure!(seen["response stream"] == stream, "{seen}");
    ensure!(
        seen["response parsed"] == true && seen["response call"] == true,
        "{seen}"
    );
    let faults = json!({
        "bad value": ["BadRequestError", 400, "invalid_request", "temperature"],
        "unknown model": ["NotFoundError", 404, "model_not_found", "model"],
        "too long": ["BadRequestError", 400, "context_length_exceeded", "prompt"],
        "too large": ["APIStatusError", 413, "request_too_large", null],
        "stored": ["BadRequestError", 400, "invalid_request", "previous_response_id"],
    });
    ensure!(seen["faults"] == faults, "{seen}");
    Ok(())
}

#[test]
fn anthropics_python_sdk_gets_messages_tools_counts_and_its_own_errors() -> Result<()> {
    let engine = Engine::with_weights(&[])?;
    let seen = run("chat_anthropic.py", &engine.url)?;
    ensure!(seen["whole"] == json!([ANSWER, "end_turn"]), "{seen}");
    ensure!(seen["pieces"] == ANSWER, "{seen}");
    ensure!(seen["final"] == json!([ANSWER, "end_turn", true]), "{seen}");
    ensure!(seen["counted"] == seen["prompt"], "{seen}");
    ensure!(
        seen["stopped"] == json!(["stop_sequence", "Paris"]),
        "{seen}"
    );
    let used = json!(["tool_use", "tool_use", "weather", true]);
    ensure!(seen["any"] == used && seen["tool"] == used, "{seen}");
    ensure!(
        seen["streamed use"] == true && seen["after"].is_string(),
        "{seen}"
    );
    let faults = json!({
        "bad value": ["BadRequestError", 400, "invalid_request_error"],
        "unknown model": ["NotFoundError", 404, "not_found_error"],
        "too large": ["ContentTooLargeError", 413, "request_too_large"],
    });
    ensure!(seen["faults"] == faults, "{seen}");
    Ok(())
}

#[test]
fn openais_javascript_sdk_gets_chats_tools_formats_and_responses() -> Result<()> {
    let folder = packages()?;
    let script = folder.join("story.mjs");
    fs::copy(scripts().join("chat_openai.mjs"), &script).context("copying the script")?;
    let engine = Engine::with_weights(&[])?;
    let said = checked(Command::new(node()?).arg(&script).arg(&engine.url))?;
    let seen: Value = serde_json::from_str(&said).context("reading the script's report")?;
    ensure!(
        seen["whole"] == ANSWER && seen["pieces"] == ANSWER,
        "{seen}"
    );
    ensure!(
        seen["logprobs"] == 2 && seen["structured"] == "boolean",
        "{seen}"
    );
    ensure!(seen["call"] == json!(["weather", "string"]), "{seen}");
    ensure!(seen["response"] == json!(["completed", ANSWER]), "{seen}");
    let events = seen["events"].as_array().context("no events")?;
    ensure!(events.first() == Some(&json!("response.created")), "{seen}");
    ensure!(
        events.last() == Some(&json!("response.incomplete")),
        "{seen}"
    );
    ensure!(
        seen["faults"]["value"] == json!(["BadRequestError", 400, "temperature"]),
        "{seen}"
    );
    ensure!(
        seen["faults"]["model"] == json!(["NotFoundError", 404, "model"]),
        "{seen}"
    );
    Ok(())
}

#[test]
fn openais_python_sdk_embeds_texts() -> Result<()> {
    let weights = target().join("weights/minilm");
    ensure!(
        weights.exists(),
        "there are no weights in target/weights/minilm\nhint: cargo xtask weights"
    );
    let source = format!("file://{}", weights.display());
    let engine = Engine::start(&source, &[], "/health/ready")?;
    let seen = run("embed_openai.py", &engine.url)?;
    ensure!(seen["width"] == 384 && seen["close"] == true, "{seen}");
    ensure!(seen["formats"] == true && seen["usage"] == true, "{seen}");
    let faults = json!([
        ["BadRequestError", "dimensions"],
        ["BadRequestError", "model"]
    ]);
    ensure!(seen["faults"] == faults, "{seen}");
    Ok(())
}

#[test]
fn a_busy_engine_and_one_without_its_model_are_the_sdks_own_errors() -> Result<()> {
    let busy = Engine::with_weights(&["--max-waiting", "0"])?;
    let limited = json!([["RateLimitError", 429, true], ["RateLimitError", 429, true]]);
    let seen = run("faults.py", &busy.url)?;
    ensure!(seen == limited, "{seen}");
    let empty = Engine::start("file:///nowhere/model.gguf", &[], "/health")?;
    let seen = run("faults.py", &empty.url)?;
    let names = seen.as_array().into_iter().flatten();
    ensure!(names.clone().count() == 2, "{seen}");
    for fault in names {
        ensure!(fault[1] == 503 && fault[2] == true, "{seen}");
    }
    Ok(())
}
