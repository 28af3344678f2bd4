//! `qd run`: a run of an agent, its events as they come.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use protocol::{
    runs::{NewRun, Run, RunEvent, RunStatus},
    sse::Parser,
};
use serde_json::Value;

use super::chat::fault_message;
use crate::{
    global::Global,
    output::{self, Format},
};

/// Bytes of one event of the stream.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Arguments of `qd run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent
    agent: String,
    /// The input: text, or JSON with --json
    input: String,
    /// Read the input as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the agent and shows what it does.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let Args { agent, input, json } = args;
    let input = match json {
        true => serde_json::from_str(&input).context("reading the input as JSON")?,
        false => Value::String(input),
    };
    let cluster = global.cluster().await?;
    let key_file = global.data()?.gateway_key();
    let (url, key) = cluster
        .plane("quarterdeck-agents", &key_file, &global.namespace)
        .await?;
    let runtime = AgentRuntime { url, key };
    let run = runtime.start(&global.namespace, &agent, input).await?;
    let is_text = global.output == Format::Text;
    runtime
        .follow(&run.id, |event| {
            if is_text {
                show(event);
            }
        })
        .await?;
    let run = runtime.get(&run.id).await?;
    if !is_text {
        output::print_json(&run);
    }
    Ok(if run.status == RunStatus::Succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The agent runtime's API.
pub(crate) struct AgentRuntime {
    /// Its base URL.
    pub(crate) url: String,
    /// A gateway key.
    pub(crate) key: String,
}

impl AgentRuntime {
    /// Starts a run.
    pub(crate) async fn start(&self, namespace: &str, agent: &str, input: Value) -> Result<Run> {
        let url = format!("{}/v1/agents/{namespace}/{agent}/runs", self.url);
        let request = reqwest::Client::new()
            .post(&url)
            .bearer_auth(&self.key)
            .json(&NewRun { input });
        read(request).await
    }

    /// A run as it stands.
    pub(crate) async fn get(&self, id: &str) -> Result<Run> {
        let url = format!("{}/v1/runs/{id}", self.url);
        read(reqwest::Client::new().get(&url).bearer_auth(&self.key)).await
    }

    /// Tells each event of a run to `observe` until the run ends.
    pub(crate) async fn follow(&self, id: &str, mut observe: impl FnMut(&RunEvent)) -> Result<()> {
        let url = format!("{}/v1/runs/{id}/events", self.url);
        let request = reqwest::Client::new().get(&url).bearer_auth(&self.key);
        let mut response = request
            .send()
            .await
            .context("asking for the run's events")?
            .error_for_status()?;
        let mut parser = Parser::new(EVENT_BYTES_MAX);
        while let Some(bytes) = response.chunk().await.context("reading the run's events")? {
            for event in parser.push(&bytes)? {
                let event: RunEvent =
                    serde_json::from_str(&event.data).context("reading an event of the run")?;
                observe(&event);
                if matches!(event, RunEvent::Finished { .. }) {
                    return Ok(());
                }
            }
        }
        bail!(
            "the run's events broke off before its end\nhint: the run goes on; `qd run` again shows a new one"
        )
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Run> {
    let response = request.send().await.context("asking the agent runtime")?;
    let status = response.status();
    let text = response
        .text()
        .await
        .context("reading the agent runtime's answer")?;
    if !status.is_success() {
        bail!(
            "the agent runtime answered {status}: {}",
            fault_message(&text)
        );
    }
    serde_json::from_str(&text).context("reading the run")
}

/// Shows an event of `qd run`: steps and tools to standard error, the output to standard output.
fn show(event: &RunEvent) {
    show_transcript(event);
    if let RunEvent::Finished {
        output: Some(output),
        ..
    } = event
    {
        output::print(
            output
                .as_str()
                .map_or_else(|| output.to_string(), str::to_owned),
        );
    }
}

/// Shows an event to the person.
pub(crate) fn show_transcript(event: &RunEvent) {
    match event {
        RunEvent::Started { resumes: 0 } => {}
        RunEvent::Started { resumes } => output::say(format_args!("· resumed (restart {resumes})")),
        RunEvent::StepStarted { step, node } => output::say(format_args!("▸ step {step}: {node}")),
        RunEvent::Delta { text, .. } => output::progress_text(text),
        RunEvent::ToolCalled {
            tool,
            arguments,
            result,
            failed,
            ..
        } => {
            let mark = if *failed { "✗" } else { "✓" };
            output::say(format_args!("  {mark} {tool} {arguments}\n    {result}"));
        }
        RunEvent::StepFinished { step, writes, .. } => {
            output::say(format_args!("\n  step {step} wrote {writes}"));
        }
        RunEvent::Finished {
            status,
            error: Some(error),
            ..
        } => output::say(format_args!("✗ {status:?}: {error}")),
        RunEvent::Finished { status, .. } => output::say(format_args!("✓ {status:?}")),
    }
}
