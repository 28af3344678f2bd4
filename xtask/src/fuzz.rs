//! Fuzzing the readers of outside data, the engine's and the gateway's, with libFuzzer, without a tool or a compiler besides cargo's own: coverage comes
//! from compiler flags that every release has. What is found lies in `target/fuzz/artifacts`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{process, root};

/// What libFuzzer needs of the compiler.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Memory of a run in MiB, and seconds of one input.
const LIMITS: [&str; 2] = ["-rss_limit_mb=2048", "-timeout=20"];

/// A reader to feed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Target {
    Gguf,
    Safetensors,
    Config,
    Tokenizer,
    Template,
    Events,
    Form,
    Guards,
    Heads,
    Json,
    Messages,
    Translation,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Safetensors => "safetensors",
            Self::Config => "config",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
            Self::Events => "events",
            Self::Form => "form",
            Self::Guards => "guards",
            Self::Heads => "heads",
            Self::Json => "json",
            Self::Messages => "messages",
            Self::Translation => "translation",
        }
    }

    /// The component that it belongs to.
    const fn component(self) -> &'static str {
        match self {
            Self::Gguf | Self::Safetensors | Self::Config | Self::Tokenizer | Self::Template => {
                "engine"
            }
            Self::Events
            | Self::Form
            | Self::Guards
            | Self::Heads
            | Self::Json
            | Self::Messages
            | Self::Translation => "gateway",
        }
    }

    /// Where sound inputs lie.
    fn seeds(self) -> Option<String> {
        match self {
            Self::Gguf | Self::Template => None,
            Self::Safetensors | Self::Config => {
                Some("engine/models/testdata/architectures".to_owned())
            }
            Self::Tokenizer => Some("engine/models/testdata/tokenizers".to_owned()),
            _ => Some(format!("{}/fuzz/seeds/{}", self.component(), self.name())),
        }
    }
}

/// Feeds a reader, or one after the other.
pub(crate) fn run(target: Option<Target>, seconds: u64) -> Result<()> {
    let targets = match &target {
        Some(target) => std::slice::from_ref(target),
        None => Target::value_variants(),
    };
    let folder = root().join("target/fuzz");
    // Named, so that build scripts do not get the flags.
    let version = process::output("rustc", &["-vV"])?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not say what it compiles for")?;
    for component in ["engine", "gateway"] {
        if targets.iter().any(|target| target.component() == component) {
            build(component, &folder, host)?;
        }
    }
    for target in targets {
        let name = target.name();
        let (corpus, artifacts) = (folder.join("corpus").join(name), folder.join("artifacts"));
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let program = folder.join(host).join("release").join(name);
        let mut command = Command::new(&program);
        command
            .arg(&corpus)
            .args(target.seeds().map(|seeds| root().join(seeds)))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/{name}-", artifacts.display()))
            .args(LIMITS)
            .arg("-print_final_stats=1");
        finish(command, &format!("the fuzz target {name}"))?;
    }
    Ok(())
}

fn build(component: &str, folder: &Path, host: &str) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--target", host, "--manifest-path"])
        .arg(root().join(component).join("fuzz/Cargo.toml"))
        .env("CARGO_TARGET_DIR", folder)
        .env("RUSTFLAGS", FLAGS);
    finish(command, "building the fuzz targets")
}

fn finish(mut command: Command, what: &str) -> Result<()> {
    crate::say(&format!("$ {command:?}"));
    let status = command
        .current_dir(root())
        .status()
        .with_context(|| format!("starting {what}"))?;
    if !status.success() {
        bail!("{what} ended with {status}");
    }
    Ok(())
}
