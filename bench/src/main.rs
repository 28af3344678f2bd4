//! Measurements: ours and the peer side by side in one run, printed as a table and kept as JSON.
//!
//! `cargo run --release -p bench -- NAME` writes `bench/results/NAME.json`. What is measured runs in processes of its
//! own, started by the hidden subcommands of this binary.

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};
use engine_server::EngineArgs;

mod apart;
mod clients;
mod engine;
mod process;
mod report;
mod serve;
mod soak;
mod up;

/// Measure a part of Quarterdeck.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// `qd up`: time to ready and resident memory, without a model
    Up,
    /// The engine and llama.cpp: speed, latency, memory
    Engine(engine::Args),
    /// The engine under mixed load at a full queue: answers, leaks
    Soak(soak::Args),
    /// Run a program with a scheduler group of its own
    #[command(hide = true)]
    Apart {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Measure the engine's arithmetic and print JSON
    #[command(hide = true)]
    Compute(engine::compute::Args),
    /// Load a server and print JSON
    #[command(hide = true)]
    Clients(clients::Args),
    /// Serve a model
    #[command(hide = true)]
    Serve(Box<EngineArgs>),
}

fn main() -> ExitCode {
    let result = match Args::parse().bench {
        Bench::Up => up::run(),
        Bench::Engine(args) => engine::run(&args),
        Bench::Soak(args) => soak::run(&args),
        Bench::Apart { words } => apart::run(&words),
        Bench::Compute(args) => engine::compute::run(&args),
        Bench::Clients(args) => clients::run(&args),
        Bench::Serve(args) => serve::run(*args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
