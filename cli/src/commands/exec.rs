//! `qd exec`: a program in a workspace, its streams on ours.

use std::{io::IsTerminal, process::ExitCode};

use anyhow::{Context, Result, bail};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api, ResourceExt,
    api::{AttachParams, ListParams},
};

use crate::global::Global;

/// The container of a workspace's Pod that programs run in.
const CONTAINER: &str = "workspace";

/// Arguments of `qd exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The workspace
    workspace: String,
    /// Pass standard input to the program
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Give the program a terminal
    #[arg(long, short)]
    tty: bool,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs the program and ends with its exit code.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let Args {
        workspace,
        stdin,
        tty,
        command,
    } = args;
    let cluster = global.cluster().await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &global.namespace);
    let name = pod_of(&pods, &workspace).await?;
    let is_tty = tty && std::io::stdin().is_terminal();
    let params = AttachParams::default()
        .container(CONTAINER)
        .stdin(stdin || is_tty)
        .stdout(true)
        .stderr(!is_tty)
        .tty(is_tty)
        .max_stdin_buf_size(64 << 10);
    let attached = pods.exec(&name, command, &params).await;
    let mut process =
        attached.with_context(|| format!("running the program in workspace {workspace}"))?;
    let status = process
        .take_status()
        .context("the API server sends no status")?;
    let _raw = is_tty.then(RawTerminal::enter);
    let feed = process.stdin().map(|mut writer| async move {
        let mut input = tokio::io::stdin();
        // The program may end before it has read everything.
        let _ = tokio::io::copy(&mut input, &mut writer).await;
    });
    let out = process.stdout().map(|mut reader| async move {
        tokio::io::copy(&mut reader, &mut tokio::io::stdout()).await
    });
    let err = process.stderr().map(|mut reader| async move {
        tokio::io::copy(&mut reader, &mut tokio::io::stderr()).await
    });
    let read = async {
        let (out, err) = tokio::join!(optional(out), optional(err));
        out.and(err).map(drop)
    };
    let feed = async {
        if let Some(feed) = feed {
            feed.await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = read => result.context("reading the program's output")?,
        () = feed => {}
    }
    exit_code(status.await.as_ref())
}

async fn optional(
    copy: Option<impl Future<Output = std::io::Result<u64>>>,
) -> std::io::Result<u64> {
    match copy {
        Some(copy) => copy.await,
        None => Ok(0),
    }
}

/// The workspace's Pod.
async fn pod_of(pods: &Api<Pod>, workspace: &str) -> Result<String> {
    let selector = ListParams::default().labels(&format!("quarterdeck.dev/workspace={workspace}"));
    let found = pods
        .list(&selector)
        .await
        .context("looking for the workspace's Pod")?;
    match found.items.first() {
        Some(pod) => Ok(pod.name_any()),
        None => bail!(
            "workspace {workspace} has no Pod\nhint: `qd status` shows the workspaces and whether they run"
        ),
    }
}

/// The exit code in the status that ends an exec: `details.causes[reason=ExitCode].message`.
fn exit_code(status: Option<&Status>) -> Result<ExitCode> {
    let Some(status) = status else {
        bail!("the connection broke off before the program ended")
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(ExitCode::SUCCESS);
    }
    let causes = status
        .details
        .as_ref()
        .and_then(|details| details.causes.as_ref());
    let code = causes
        .and_then(|causes| {
            causes
                .iter()
                .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        })
        .and_then(|cause| cause.message.as_ref()?.parse::<u8>().ok());
    match code {
        Some(code) => Ok(ExitCode::from(code)),
        None => bail!(
            "{}",
            status
                .message
                .as_deref()
                .unwrap_or("the program could not be run")
        ),
    }
}

/// The terminal without line editing and echo, restored when dropped.
#[derive(Debug)]
struct RawTerminal(Option<nix::sys::termios::Termios>);

impl RawTerminal {
    fn enter() -> Self {
        use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            // A terminal that cannot be changed works with line editing.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw);
        }
        Self(before)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        use nix::sys::termios::{SetArg, tcsetattr};
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
