//! The engine's server, as `qd` runs it.

use anyhow::{Context, Result};
use engine_server::EngineArgs;
use telemetry::LogFormat;

/// Serves until the process is asked to stop.
pub(crate) fn run(args: EngineArgs) -> Result<()> {
    telemetry::init(LogFormat::Text, "warn");
    // The engine's own client for weights needs a provider, even where it reads a local file.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let shutdown = telemetry::shutdown::on_signals().context("watching for signals")?;
        engine_server::run(args, shutdown)
            .await
            .context("serving the model")
    })
}
