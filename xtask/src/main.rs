//! Chores of the repository: `cargo xtask ci` is the gate, the others are its parts.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

mod ci;
mod crd_yaml;
mod fuzz;
mod openapi;
mod package;
mod peers;
mod process;
mod stack;
mod tidy;
mod tools;
mod weights;

/// Chores of the repository.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Run everything that a change must pass: fmt, tidy, clippy, generated files, tests
    Ci,
    /// Check the rules that no compiler knows: sizes, layers, names, docs
    Tidy,
    /// Write crds/yaml and the chart's CRDs from the Rust types
    Crds {
        /// Compare instead of writing
        #[arg(long)]
        check: bool,
    },
    /// Render the chart with its embedded values into cli/manifests/stack.yaml
    Stack {
        /// Compare instead of writing
        #[arg(long)]
        check: bool,
    },
    /// Fetch the real kubectl and helm into target/tools
    Tools,
    /// Fetch the weights that tests use into target/weights
    Weights,
    /// Feed the readers of outside data, the engine's and the gateway's, with bytes that break them
    Fuzz {
        /// One reader instead of all
        target: Option<fuzz::Target>,
        /// Seconds for each reader
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Take the schemas that the gateway's tests check against out of OpenAI's document
    Openapi {
        /// The document, as JSON
        document: PathBuf,
    },
    /// Build the peers that benchmarks compare with
    Peers {
        /// Where the sources and the programs lie
        #[arg(long, default_value = "target/peers")]
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse().chore {
        Chore::Ci => ci::run(),
        Chore::Tidy => tidy::run(),
        Chore::Crds { check } => crd_yaml::run(check),
        Chore::Stack { check } => stack::run(check),
        Chore::Tools => tools::fetch().map(|_| ()),
        Chore::Weights => weights::fetch(),
        Chore::Fuzz { target, seconds } => fuzz::run(target, seconds),
        Chore::Openapi { document } => openapi::run(&document),
        Chore::Peers { folder } => peers::build(&folder),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Talks to the person at the terminal.
fn say(line: &str) {
    // Nothing can be done about a closed terminal.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The repository's root.
fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), PathBuf::from)
}
