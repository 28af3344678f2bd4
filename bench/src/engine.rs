//! The engine and llama.cpp side by side: the same files, the same threads, in turns, the best of some rounds.

mod bandwidth;
pub(crate) mod compute;
mod llama;
mod rounds;
mod rows;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::report::{alone, keep, results_folder, root, say};

use llama::Llama;
use rounds::{Models, Rounds};

/// What to measure and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// How often everything is measured; the best figure counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads that compute, of ours and of the peer
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Folder of the peer's sources and programs; built there if it is not
    #[arg(long, env = "QUARTERDECK_PEERS", default_value = "target/peers")]
    peers: PathBuf,
    /// Measure only these parts
    #[arg(long = "part", value_enum)]
    parts: Vec<Part>,
    /// Folder for the results
    #[arg(long, default_value_os_t = results_folder())]
    results: PathBuf,
}

/// A part that can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Prompts, answers and batches without a server
    Compute,
    /// The peer with its best format
    BestFormat,
    /// Gemma 3 270M
    Gemma,
    /// Streaming clients of a server
    Http,
    /// The prefix cache, the start and the memory of our server
    Server,
}

/// Measures and reports.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        0 < args.rounds && 0 < args.threads,
        "rounds and threads are at least 1"
    );
    let peers = root().join(&args.peers);
    let llama = Llama::new(&peers, args.threads);
    if !llama.is_built() {
        chore(&["peers", "--folder", &peers.display().to_string()])?;
    }
    let models = models(&peers, &llama)?;
    let _lock = alone()?;
    let mut rounds = Rounds::new(args.threads, llama, models);
    for round in 1..=args.rounds {
        say(&format!("round {round} of {}", args.rounds));
        for part in Part::value_variants() {
            if !args.parts.is_empty() && !args.parts.contains(part) {
                continue;
            }
            match part {
                Part::Compute => rounds.compute()?,
                Part::BestFormat => rounds.best_format()?,
                Part::Gemma => rounds.gemma()?,
                Part::Http => rounds.http(round as u64)?,
                Part::Server => rounds.server(round as u64)?,
            }
        }
    }
    keep("engine", &rows::rows(&rounds), &args.results)
}

/// The weights, fetched if they are not there.
fn models(peers: &Path, llama: &Llama) -> Result<Models> {
    let weights = root().join("target/weights");
    let smollm2 = weights.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let gemma3 = weights.join("gemma-3-270m-q4_k_m.gguf");
    if !smollm2.exists() || !gemma3.exists() {
        chore(&["weights"])?;
    }
    let smollm2 = smollm2.canonicalize().context("finding the weights")?;
    let requantized = peers.join("SmolLM2-135M-Instruct.Q4_0.gguf");
    if !requantized.exists() {
        let partial = peers.join("requantized.partial");
        llama.requantize(&smollm2, &partial)?;
        std::fs::rename(&partial, &requantized).context("keeping the peer's best format")?;
    }
    Ok(Models {
        smollm2,
        requantized,
        gemma3: gemma3.canonicalize().context("finding the weights")?,
    })
}

/// Runs a chore of the repository, which fetches or builds what is missing.
fn chore(words: &[&str]) -> Result<()> {
    let name = words.join(" ");
    say(&format!("$ cargo xtask {name}"));
    let status = Command::new("cargo")
        .arg("xtask")
        .args(words)
        .current_dir(root())
        .status()
        .context("starting cargo")?;
    ensure!(
        status.success(),
        "`cargo xtask {name}` failed; its last line says why"
    );
    Ok(())
}
