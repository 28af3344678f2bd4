//! The peer: llama.cpp's programs, built by `cargo xtask peers`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::apart;

/// How the peer is called in the results.
pub(crate) const NAME: &str = "llama.cpp 0.6.0";
const FOLDER: &str = "llama.cpp-0.6.0/bin";
/// Tokens of all slots of the server's cache together.
const CONTEXT: &str = "8192";

/// The programs.
#[derive(Debug)]
pub(crate) struct Llama {
    programs: PathBuf,
    threads: String,
}

/// What `llama-bench` measures: speeds in tokens a second, and the weights in bytes.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) prefill: f64,
    pub(crate) decode: f64,
    pub(crate) weight_bytes: f64,
}

impl Llama {
    /// The programs below a folder.
    pub(crate) fn new(peers: &Path, threads: usize) -> Self {
        Self {
            programs: peers.join(FOLDER),
            threads: threads.to_string(),
        }
    }

    pub(crate) fn is_built(&self) -> bool {
        self.programs.join("llama-bench").exists() && self.programs.join("llama-server").exists()
    }

    /// Writes the model in the peer's best format for this kind of processor: 4 bits, packed again at load.
    pub(crate) fn requantize(&self, from: &Path, to: &Path) -> Result<()> {
        let mut command = self.command("llama-quantize")?;
        command.arg("--allow-requantize");
        output(command.args([from, to]).arg("Q4_0")).map(|_| ())
    }

    /// `llama-bench`: a prompt of 512 tokens, and 128 tokens one after the other.
    pub(crate) fn bench(&self, model: &Path) -> Result<Measured> {
        let mut command = self.command("llama-bench")?;
        command.arg("--model").arg(model);
        command.args(["-p", "512", "-n", "128", "-r", "1", "-o", "json"]);
        command.args(["-t", &self.threads]);
        let text = output(&mut command)?;
        let runs: Vec<Value> =
            serde_json::from_str(&text).context("reading llama-bench's output")?;
        let speed = |kind: &str| {
            let run = runs.iter().find(|run| 0 < run[kind].as_u64().unwrap_or(0));
            run.and_then(|run| run["avg_ts"].as_f64())
                .with_context(|| format!("llama-bench says nothing about {kind}"))
        };
        Ok(Measured {
            prefill: speed("n_prompt")?,
            decode: speed("n_gen")?,
            weight_bytes: runs
                .first()
                .and_then(|run| run["model_size"].as_f64())
                .context("llama-bench does not know the model's size")?,
        })
    }

    /// `llama-batched-bench`: 8 sequences of 128 and 128 tokens; the speed of all answers together.
    pub(crate) fn streams(&self, model: &Path) -> Result<f64> {
        let mut command = self.command("llama-batched-bench")?;
        command.arg("--model").arg(model);
        command.args(["-c", CONTEXT, "-npp", "128", "-ntg", "128", "-npl", "8"]);
        command.args(["-t", &self.threads, "-tb", &self.threads]);
        command.args(["--output-format", "jsonl"]);
        let text = output(&mut command)?;
        let run = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|run| run["speed_tg"].as_f64());
        run.context("llama-batched-bench printed no speed")
    }

    /// `llama-server` with a slot for each of 8 streams.
    pub(crate) fn server(&self, model: &Path, port: u16) -> Result<Command> {
        let mut command = self.command("llama-server")?;
        command.arg("--model").arg(model);
        command.args(["-c", CONTEXT, "-np", "8", "--host", "127.0.0.1"]);
        command.args(["--port", &port.to_string()]);
        command.args(["-t", &self.threads, "-tb", &self.threads]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = apart::command(self.programs.join(program))?;
        // The libraries lie beside the programs, wherever the folder has been moved to.
        command.env("LD_LIBRARY_PATH", &self.programs);
        Ok(command)
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("starting the peer")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = errors.lines().rev().take(5).collect();
    ensure!(
        output.status.success(),
        "the peer ended with {}: {}",
        output.status,
        last.join(" / ")
    );
    String::from_utf8(output.stdout).context("reading the peer's output")
}
