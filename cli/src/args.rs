//! The command line: global options and the list of commands.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use telemetry::LogFormat;

use crate::{
    commands::{apply, chat, console, exec, logs, quickstart, run, status, up},
    global::Global,
    roles::Role,
};

/// Run models, routes, agents and workspaces as Kubernetes resources, on this machine or on a cluster
#[derive(Debug, Parser)]
#[command(name = "qd", version, propagate_version = true, after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    /// How log lines look: `text` or `json`
    #[arg(
        long,
        global = true,
        env = "QD_LOG_FORMAT",
        default_value_t,
        hide_env = true
    )]
    pub(crate) log_format: LogFormat,
    /// Which log lines are shown, as `info` or `warn,gateway=debug`
    #[arg(long, global = true, env = "QD_LOG")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Start here:
  qd quickstart            see the whole stack work once
  qd up                    start the stack and keep it running
  qd chat smollm2 \"Hi!\"    talk to a model
  qd run scribe \"a text\"   run an agent";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything, apply the example, talk to the model, run the agent
    Quickstart(quickstart::Args),
    /// Start the stack on this machine and keep it running until Ctrl-C
    Up(up::Args),
    /// Show the stack's resources and whether they are ready
    Status,
    /// Send a message to a model through the gateway and stream the answer
    Chat(chat::Args),
    /// Run an agent and show what it does
    Run(run::Args),
    /// Run a program in a workspace
    Exec(exec::Args),
    /// Show the logs of a model, agent runtime, workspace or Pod
    Logs(logs::Args),
    /// Serve the web page on this machine
    Console(console::Args),
    /// Apply manifests by server-side apply
    Apply(apply::Args),
    #[command(flatten)]
    Role(Role),
}

impl Args {
    /// Which log lines are shown: a role tells what it does, a user's command only what is wrong.
    pub(crate) fn filter(&self) -> &str {
        match (&self.log, &self.command) {
            (Some(filter), _) => filter,
            (None, Command::Role(_)) => "info,kube=warn,hyper=warn,tower=warn,h2=warn,rmcp=off",
            (None, _) => "warn",
        }
    }

    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let role = match self.command {
            Command::Role(Role::WorkspaceInit(args)) => {
                workspaces_daemon::run_init(args).context("running workspace-init")?;
                return Ok(ExitCode::SUCCESS);
            }
            command => command,
        };
        let runtime = match &role {
            Command::Role(Role::Gateway(_)) => gateway::runtime(),
            _ => tokio::runtime::Runtime::new(),
        };
        let runtime = runtime.context("starting the runtime")?;
        // Commands are large state machines; on the heap they do not weigh on the main thread's stack.
        runtime.block_on(Box::pin(role.run(self.global)))
    }
}

impl Command {
    async fn run(self, global: Global) -> Result<ExitCode> {
        match self {
            Self::Quickstart(args) => quickstart::run(args, &global).await,
            Self::Up(args) => up::run(args, &global).await,
            Self::Status => status::run(&global).await,
            Self::Chat(args) => chat::run(args, &global).await,
            Self::Run(args) => run::run(args, &global).await,
            Self::Exec(args) => exec::run(args, &global).await,
            Self::Logs(args) => logs::run(args, &global).await,
            Self::Console(args) => console::run(args, &global).await,
            Self::Apply(args) => apply::run(args, &global).await,
            Self::Role(role) => role.run(&global).await,
        }
    }
}
