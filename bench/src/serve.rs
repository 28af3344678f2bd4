//! The engine's server and the gateway, as `qd` runs them.

use ::gateway::GatewayArgs;
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

/// Serves as the gateway until the process is asked to stop.
pub(crate) fn run_gateway(args: GatewayArgs) -> Result<()> {
    telemetry::init(LogFormat::Text, "info,hyper=warn,h2=warn");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = ::gateway::runtime().context("starting the runtime")?;
    runtime.block_on(Box::pin(async {
        let shutdown = telemetry::shutdown::on_signals().context("watching for signals")?;
        ::gateway::run(args, shutdown)
            .await
            .context("running the gateway")
    }))
}
