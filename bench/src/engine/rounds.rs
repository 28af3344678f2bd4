//! The measurements of a round, ours and the peer's in turns, and the figures of all rounds.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    apart,
    clients::{self, ask, median, tell},
    process::{Server, free_port},
    report::say,
};

use super::{compute::Computed, llama::Llama};

/// Clients at a time, and how many prompts they have together: about 107 tokens each, answered with 128.
const STREAMS: usize = 8;
const PROMPTS: usize = 16;
const PROMPT_WORDS: usize = 94;
const ANSWER_TOKENS: usize = 128;
/// A prompt of about 2,000 tokens.
const LONG_WORDS: usize = 1990;
/// A cache so small that the clients' requests fill all of it.
const SMALL_CACHE_MIB: u64 = 64;

/// The files.
#[derive(Debug)]
pub(crate) struct Models {
    pub(crate) smollm2: PathBuf,
    /// The same in the peer's best format.
    pub(crate) requantized: PathBuf,
    pub(crate) gemma3: PathBuf,
}

/// The figures of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) ours: Vec<f64>,
    pub(crate) peer: Vec<f64>,
}

/// All measurements.
#[derive(Debug)]
pub(crate) struct Rounds {
    threads: usize,
    llama: Llama,
    models: Models,
    pub(crate) decode: Samples,
    pub(crate) prefill: Samples,
    pub(crate) streams: Samples,
    pub(crate) best_prefill: Samples,
    pub(crate) best_decode: Samples,
    pub(crate) best_streams: Samples,
    pub(crate) gemma_decode: Samples,
    pub(crate) gemma_prefill: Samples,
    /// Bytes that a token reads.
    pub(crate) token_bytes: Samples,
    /// Bytes a second.
    pub(crate) bandwidth: Vec<f64>,
    pub(crate) http_rate: Samples,
    /// Seconds.
    pub(crate) http_first_text: Samples,
    /// Seconds.
    pub(crate) start: Samples,
    /// Seconds of a miss and of a hit.
    pub(crate) miss: Vec<f64>,
    pub(crate) hit: Vec<f64>,
    /// Bytes.
    pub(crate) memory: Vec<f64>,
}

impl Rounds {
    pub(crate) fn new(threads: usize, llama: Llama, models: Models) -> Self {
        Self {
            threads,
            llama,
            models,
            decode: Samples::default(),
            prefill: Samples::default(),
            streams: Samples::default(),
            best_prefill: Samples::default(),
            best_decode: Samples::default(),
            best_streams: Samples::default(),
            gemma_decode: Samples::default(),
            gemma_prefill: Samples::default(),
            token_bytes: Samples::default(),
            bandwidth: Vec::new(),
            http_rate: Samples::default(),
            http_first_text: Samples::default(),
            start: Samples::default(),
            miss: Vec::new(),
            hit: Vec::new(),
            memory: Vec::new(),
        }
    }

    /// The same file: prompt, answer, batch.
    pub(crate) fn compute(&mut self) -> Result<()> {
        let ours = self.compute_ours(&self.models.smollm2, STREAMS)?;
        self.prefill.ours.push(ours.prefill);
        self.decode.ours.push(ours.decode);
        self.streams.ours.extend(ours.streams);
        self.token_bytes.ours.push(ours.bytes_per_token());
        self.bandwidth.push(ours.bandwidth);
        let peer = self.llama.bench(&self.models.smollm2)?;
        let streams = self.llama.streams(&self.models.smollm2)?;
        say(&format!(
            "  ours: pp512 {:.0}, tg128 {:.1}, 8 streams {:.0} tok/s; llama.cpp: {:.0}, {:.1}, {streams:.0}",
            ours.prefill,
            ours.decode,
            ours.streams.unwrap_or(f64::NAN),
            peer.prefill,
            peer.decode
        ));
        self.prefill.peer.push(peer.prefill);
        self.decode.peer.push(peer.decode);
        self.streams.peer.push(streams);
        // Its cache has 16-bit keys and values, as ours.
        let cache = ours.bytes_per_token() - ours.weight_bytes;
        self.token_bytes.peer.push(peer.weight_bytes + cache);
        Ok(())
    }

    /// Ours on the shipped file, the peer on a file that it is best at.
    pub(crate) fn best_format(&mut self) -> Result<()> {
        let ours = self.compute_ours(&self.models.smollm2, STREAMS)?;
        self.best_prefill.ours.push(ours.prefill);
        self.best_decode.ours.push(ours.decode);
        self.best_streams.ours.extend(ours.streams);
        let peer = self.llama.bench(&self.models.requantized)?;
        let streams = self.llama.streams(&self.models.requantized)?;
        say(&format!(
            "  llama.cpp, Q4_0: pp512 {:.0}, tg128 {:.1}, 8 streams {streams:.0} tok/s",
            peer.prefill, peer.decode
        ));
        self.best_prefill.peer.push(peer.prefill);
        self.best_decode.peer.push(peer.decode);
        self.best_streams.peer.push(streams);
        Ok(())
    }

    /// A second architecture, in other formats.
    pub(crate) fn gemma(&mut self) -> Result<()> {
        let ours = self.compute_ours(&self.models.gemma3, 0)?;
        let peer = self.llama.bench(&self.models.gemma3)?;
        say(&format!(
            "  Gemma 3: ours: pp512 {:.0}, tg128 {:.1} tok/s; llama.cpp: {:.0}, {:.1}",
            ours.prefill, ours.decode, peer.prefill, peer.decode
        ));
        self.gemma_prefill.ours.push(ours.prefill);
        self.gemma_decode.ours.push(ours.decode);
        self.gemma_prefill.peer.push(peer.prefill);
        self.gemma_decode.peer.push(peer.decode);
        Ok(())
    }

    /// Eight clients that stream, of servers that nobody has asked before.
    pub(crate) fn http(&mut self, round: u64) -> Result<()> {
        let server = self.start_ours(&[])?;
        self.start.ours.push(server.started_in.as_secs_f64());
        let seen = ask(&load(server.port(), round))?;
        tell("our server", &seen);
        self.http_rate.ours.push(seen.tokens_per_second);
        self.http_first_text.ours.push(median(&seen.first_texts));
        server.stop()?;

        let port = free_port()?;
        let mut command = self.llama.server(&self.models.smollm2, port)?;
        let server = Server::start(&mut command, port, "/health")?;
        self.start.peer.push(server.started_in.as_secs_f64());
        let seen = ask(&load(port, round))?;
        tell("llama-server", &seen);
        self.http_rate.peer.push(seen.tokens_per_second);
        self.http_first_text.peer.push(median(&seen.first_texts));
        server.stop()?;
        Ok(())
    }

    /// What only ours has: a long prompt twice, and the memory that is neither weights nor cache.
    pub(crate) fn server(&mut self, round: u64) -> Result<()> {
        let server = self.start_ours(&[])?;
        self.start.ours.push(server.started_in.as_secs_f64());
        let twice = clients::Args {
            streams: 1,
            prompts: 1,
            repetitions: 2,
            words: LONG_WORDS,
            tokens: 8,
            ..load(server.port(), round)
        };
        let seen = ask(&twice)?;
        let [miss, hit] = seen.first_texts[..] else {
            anyhow::bail!("two requests have {} answers", seen.first_texts.len());
        };
        say(&format!(
            "  a prompt of {} tokens: {:.1} ms, again {:.1} ms",
            seen.prompt_tokens,
            miss * 1e3,
            hit * 1e3
        ));
        self.miss.push(miss);
        self.hit.push(hit);
        server.stop()?;

        let weights = self.compute_ours(&self.models.smollm2, 0)?.weight_bytes;
        let cache = SMALL_CACHE_MIB.to_string();
        let server = self.start_ours(&["--kv-cache-mib", &cache])?;
        ask(&load(server.port(), round))?;
        let whole = server.memory_bytes()? as f64;
        let above = whole - weights - (SMALL_CACHE_MIB << 20) as f64;
        say(&format!(
            "  memory of our server: {:.1} MB, {:.1} MB above weights and cache",
            whole / 1e6,
            above / 1e6
        ));
        self.memory.push(above);
        server.stop()?;
        Ok(())
    }

    fn compute_ours(&self, model: &Path, streams: usize) -> Result<Computed> {
        let mut command = apart::subcommand("compute")?;
        command.arg("--model").arg(model);
        command.args(["--threads", &self.threads.to_string()]);
        command.args(["--streams", &streams.to_string()]);
        let output = command.output().context("starting our measurement")?;
        ensure!(
            output.status.success(),
            "our measurement failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        serde_json::from_slice(&output.stdout).context("reading our figures")
    }

    fn start_ours(&self, flags: &[&str]) -> Result<Server> {
        let port = free_port()?;
        let mut command = ours(&self.models.smollm2, port, self.threads)?;
        Server::start(command.args(flags), port, "/health/ready")
    }
}

/// Our server on a file.
fn ours(model: &Path, port: u16, threads: usize) -> Result<Command> {
    let mut command = apart::subcommand("serve")?;
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--source", &format!("file://{}", model.display())]);
    command.args(["--served-name", "bench", "--threads", &threads.to_string()]);
    command.arg("--cache-dir").arg(std::env::temp_dir());
    Ok(command)
}

fn load(port: u16, round: u64) -> clients::Args {
    clients::Args {
        port,
        streams: STREAMS,
        prompts: PROMPTS,
        repetitions: 1,
        words: PROMPT_WORDS,
        tokens: ANSWER_TOKENS,
        seed: round,
    }
}
