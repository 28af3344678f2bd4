//! `qd gateway`: the model gateway, and `qd gateway import`, which reads a LiteLLM configuration.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::{
    global::Global,
    import::{CostMap, Imported, import},
    output,
};

/// Arguments of `qd gateway`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) gateway: gateway::GatewayArgs,
}

/// What `qd gateway` does besides running the gateway.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Convert a LiteLLM proxy's config.yaml into Secrets, Models and Routes, as YAML
    Import(ImportArgs),
}

/// Arguments of `qd gateway import`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// LiteLLM's config.yaml
    file: PathBuf,
    /// Cost map to take prices from that the file does not tell, as model_prices_and_context_window.json
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

/// Converts the file: manifests to standard output, what has no counterpart to standard error.
pub(crate) fn run(args: ImportArgs, global: &Global) -> Result<ExitCode> {
    let ImportArgs { file, prices } = args;
    let costs = match prices {
        Some(path) => CostMap::read(&read(&path)?)
            .with_context(|| format!("reading {} as a cost map", path.display()))?,
        None => CostMap::default(),
    };
    let imported = import(&read(&file)?, &global.namespace, &costs);
    let Imported {
        manifests,
        warnings,
    } = imported.with_context(|| format!("reading {} as a configuration", file.display()))?;
    for manifest in &manifests {
        let text = serde_norway::to_string(manifest).context("writing a manifest")?;
        output::print_part(&format!("---\n{text}"));
    }
    for warning in warnings {
        output::say(format!("warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
