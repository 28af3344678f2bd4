//! `qd up`: the stack on this machine, until Ctrl-C.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    global::Global,
    output::{self, Format},
    stack::{Stack, StackConfig},
};

/// Arguments of `qd up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    stack: StackConfig,
}

/// Starts the stack, says where it is, and stays.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let shutdown = telemetry::shutdown::on_signals().context("installing the signal handlers")?;
    let data = global.data()?;
    let begin = Instant::now();
    let stack = Stack::start(&args.stack, &data, &shutdown).await?;
    let ready = tokio::select! {
        ready = stack.wait_ready() => ready,
        () = shutdown.cancelled() => Ok(()),
    };
    if let Err(error) = ready {
        stack.stop().await?;
        return Err(error);
    }
    if !shutdown.is_cancelled() {
        announce(&stack, global, begin).await?;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = stack.failed() => {}
        }
    }
    output::say("stopping…");
    stack.stop().await?;
    Ok(ExitCode::SUCCESS)
}

async fn announce(stack: &Stack, global: &Global, begin: Instant) -> Result<()> {
    let cluster = stack.cluster();
    let gateway = cluster.service_url("quarterdeck-gateway").await?;
    let agents = cluster.service_url("quarterdeck-agents").await?;
    let kubeconfig = global.data()?.kubeconfig();
    let seconds = begin.elapsed().as_secs_f64();
    match global.output {
        Format::Json => output::print_json(&json!({
            "ready": true,
            "seconds": seconds,
            "kubeconfig": kubeconfig,
            "gateway": format!("{gateway}/v1"),
            "agents": format!("{agents}/v1"),
        })),
        Format::Text => {
            output::say(format_args!("ready in {seconds:.1} s"));
            output::print(format_args!(
                "kubectl   export KUBECONFIG={}",
                kubeconfig.display()
            ));
            output::print(format_args!("gateway   {gateway}/v1"));
            output::print(format_args!("agents    {agents}/v1"));
            output::say("Ctrl-C stops everything; the state stays in the data folder.");
        }
    }
    Ok(())
}
