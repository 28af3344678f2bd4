//! Serves one model from the command line, without the rest of the product.

use clap::Parser;
use engine_server::{EngineArgs, run};
use telemetry::LogFormat;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    engine: EngineArgs,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    telemetry::init(LogFormat::Text, "info");
    let shutdown = telemetry::shutdown::on_signals()?;
    Ok(run(Command::parse().engine, shutdown).await?)
}
