//! The roles: what Pods run, one subcommand each.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::{commands, global::Global};

/// What a Pod of the stack runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Run the operator, which reconciles the resources
    #[command(hide = true)]
    Operator(operator::OperatorArgs),
    /// Run an inference engine
    #[command(hide = true)]
    Engine(Box<engine_server::EngineArgs>),
    /// Run the model gateway, or convert a LiteLLM configuration for it
    #[command(hide = true)]
    Gateway(Box<commands::gateway::Args>),
    /// Run the agent runtime
    #[command(hide = true)]
    Agents(agents::AgentsArgs),
    /// Run the door of a workspace: its API and its way out
    #[command(hide = true)]
    WorkspaceGate(workspaces_daemon::GateArgs),
    /// Run as the first process of a workspace
    #[command(hide = true)]
    WorkspaceInit(workspaces_daemon::InitArgs),
    /// Copy this program to a path
    #[command(hide = true)]
    Install {
        /// Where to
        path: PathBuf,
    },
}

impl Role {
    /// Runs the role until a signal ends it.
    pub(crate) async fn run(self, global: &Global) -> Result<ExitCode> {
        let shutdown =
            telemetry::shutdown::on_signals().context("installing the signal handlers")?;
        match self {
            Self::Operator(args) => operator::run(args, shutdown)
                .await
                .context("running the operator")?,
            Self::Engine(args) => engine_server::run(*args, shutdown)
                .await
                .context("running the engine")?,
            Self::Gateway(args) => {
                let commands::gateway::Args { command, gateway } = *args;
                if let Some(commands::gateway::Command::Import(args)) = command {
                    return commands::gateway::run(args, global);
                }
                gateway::run(gateway, shutdown)
                    .await
                    .context("running the gateway")?;
            }
            Self::Agents(args) => agents::run(args, shutdown)
                .await
                .context("running the agent runtime")?,
            Self::WorkspaceGate(args) => {
                workspaces_daemon::run_gate(args, shutdown)
                    .await
                    .context("running the workspace's gate")?;
            }
            // Handled before the runtime starts: the first process of a workspace makes its own.
            Self::WorkspaceInit(args) => {
                workspaces_daemon::run_init(args).context("running workspace-init")?;
            }
            Self::Install { path } => install(&path)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn install(path: &std::path::Path) -> Result<()> {
    let own = std::env::current_exe().context("finding this program")?;
    let partial = path.with_extension("partial");
    std::fs::copy(&own, &partial)
        .with_context(|| format!("copying {} to {}", own.display(), partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("renaming to {}", path.display()))
}
