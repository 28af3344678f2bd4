//! Measurements: ours and the peer side by side in one run, printed as a table and kept as JSON.
//!
//! `cargo run --release -p bench -- NAME` writes `bench/results/NAME.json`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod report;
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
}

fn main() -> ExitCode {
    let result = match Args::parse().bench {
        Bench::Up => up::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
