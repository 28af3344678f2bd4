//! The binary: every role, the user's commands, and the embedded default.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

mod args;
mod client;
mod commands;
mod data;
mod global;
mod import;
mod output;
mod roles;
mod stack;

/// The first argument of the sandbox helper, which must stay single-threaded.
const SANDBOX_HELPER: &str = "sandbox-helper";

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == SANDBOX_HELPER => {
            return workspaces_sandbox::helper_main(&words.collect::<Vec<OsString>>());
        }
        Some(word) if word == cluster_node::LAUNCH_COMMAND => return cluster_node::launch(words),
        _ => {}
    }
    let args = args::Args::parse();
    telemetry::init(args.log_format, args.filter());
    // Every TLS client and server of the process uses this provider; nobody else installs one before us.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match args.run() {
        Ok(code) => code,
        Err(error) => {
            output::fail(&error);
            ExitCode::FAILURE
        }
    }
}
