//! `qd console`: the web page for a cluster's stack, on loopback.

use std::{net::Ipv4Addr, process::ExitCode};

use anyhow::{Context, Result};
use console::ConsoleConfig;
use protocol::{key::hex, secret::SecretString};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    global::Global,
    output::{self, Format},
};

/// Arguments of `qd console`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8085)]
    port: u16,
}

/// Serves the page until Ctrl-C.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let shutdown = telemetry::shutdown::on_signals().context("installing the signal handlers")?;
    let cluster = global.cluster().await?;
    let key_file = global.data()?.gateway_key();
    let (gateway, key) = cluster
        .plane("quarterdeck-gateway", &key_file, &global.namespace)
        .await?;
    let (agents, _) = cluster
        .plane("quarterdeck-agents", &key_file, &global.namespace)
        .await?;
    let word: [u8; 16] = rand::random();
    let config = ConsoleConfig {
        gateway: format!("{gateway}/v1"),
        agents: format!("{agents}/v1"),
        key: SecretString::new(key),
        admission: SecretString::new(hex(&word)),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await;
    let listener = listener.with_context(|| {
        format!(
            "listening on port {}\nhint: choose another with --port",
            args.port
        )
    })?;
    let address = console::address(
        listener.local_addr().context("reading the address")?,
        &config,
    );
    match global.output {
        Format::Json => output::print_json(&json!({"address": address})),
        Format::Text => output::print(format_args!("open {address}")),
    }
    console::serve(listener, config, shutdown)
        .await
        .context("serving the page")?;
    Ok(ExitCode::SUCCESS)
}
