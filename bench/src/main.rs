//! Measurements: ours and the peer side by side in one run, printed as a table and kept as JSON.
//!
//! `cargo run --release -p bench -- NAME` writes `bench/results/NAME.json`. What is measured runs in processes of its
//! own, started by the hidden subcommands of this binary.

use std::{ffi::OsString, process::ExitCode};

use ::gateway::GatewayArgs;
use clap::{Parser, Subcommand};
use engine_server::EngineArgs;

mod apart;
mod clients;
mod engine;
mod fleet;
mod gateway;
mod process;
mod report;
mod serve;
mod soak;
mod tree;
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
    /// The gateway, a bare proxy and other gateways: CPU time, speed, memory
    Gateway(gateway::Args),
    /// The gateway and other cache-aware routers before a fleet of fake engines: hits, time to the first token, balance
    Fleet(fleet::Args),
    /// The engine under mixed load at a full queue: answers, leaks
    Soak(soak::Args),
    /// Run a program with a scheduler group of its own
    #[command(hide = true)]
    Apart {
        /// The only core that it may use
        #[arg(long)]
        core: Option<usize>,
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
    /// Serve as the gateway
    #[command(hide = true)]
    ServeGateway(Box<GatewayArgs>),
    /// Serve as a bare proxy
    #[command(hide = true)]
    ServeFloor(gateway::floor::Args),
    /// Serve as a fake upstream, and load gateways as standard input says
    #[command(hide = true)]
    Drive(gateway::driver::Args),
    /// Serve as a fleet of fake engines, and send them traffic through a gateway
    #[command(hide = true)]
    DriveFleet(fleet::driver::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().bench {
        Bench::Up => up::run(),
        Bench::Engine(args) => engine::run(&args),
        Bench::Gateway(args) => gateway::run(&args),
        Bench::Fleet(args) => fleet::run(&args),
        Bench::Soak(args) => soak::run(&args),
        Bench::Apart { core, words } => apart::run(core, &words),
        Bench::Compute(args) => engine::compute::run(&args),
        Bench::Clients(args) => clients::run(&args),
        Bench::Serve(args) => serve::run(*args),
        Bench::ServeGateway(args) => serve::run_gateway(*args),
        Bench::ServeFloor(args) => gateway::floor::run(&args),
        Bench::Drive(args) => gateway::driver::run(&args),
        Bench::DriveFleet(args) => fleet::driver::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
