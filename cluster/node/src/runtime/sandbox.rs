//! Containers of every image but our own: sandboxes with a root file system, a network and users of their own.

mod container;
mod specification;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe;
use tokio_util::task::TaskTracker;
use workspaces_sandbox::{Helper, Profile, SandboxError, Sandboxes, SandboxesConfig, Stdio};

use super::process::ProcessRuntime;
use super::terminal::Terminal;
use super::{Launch, Reader, Runtime, StartError, Started, Writer};
use crate::explain::explain;
use crate::registration::IsolationReport;
use container::SandboxContainer;
use specification::specify;

/// The hidden subcommand of our binary that creates sandboxes.
const HELPER_COMMAND: &str = "sandbox-helper";

/// Runs foreign images, if this host can isolate them.
#[derive(Clone)]
pub(crate) struct SandboxRuntime {
    sandboxes: Option<Arc<Sandboxes>>,
    report: IsolationReport,
    /// Runs programs of the host without isolation where that was asked for.
    fallback: Option<ProcessRuntime>,
    tasks: TaskTracker,
}

impl SandboxRuntime {
    /// Finds out what the host can isolate and removes what a former node left.
    pub(crate) async fn start(
        state_dir: PathBuf,
        executable: &Path,
        processes: &ProcessRuntime,
        allow_unisolated: bool,
    ) -> Self {
        let helper = Helper {
            program: executable.to_owned(),
            args: vec![HELPER_COMMAND.into()],
        };
        let config = SandboxesConfig {
            state_dir,
            helper,
            profile: Profile::hard(),
        };
        let opened = tokio::task::spawn_blocking(move || {
            let sandboxes = Sandboxes::new(config)?;
            let ended = sandboxes.recover()?;
            if !ended.is_empty() {
                tracing::info!(
                    sandboxes = ended.len(),
                    "sandboxes of the former node ended"
                );
            }
            Ok::<_, SandboxError>(sandboxes)
        });
        let opened = match opened.await {
            Ok(Ok(sandboxes)) => Ok(sandboxes),
            Ok(Err(error)) => Err(explain(&error)),
            Err(error) => Err(error.to_string()),
        };
        let fallback = allow_unisolated.then(|| processes.clone());
        let tasks = processes.tasks.clone();
        match opened {
            Ok(sandboxes) => {
                let report = report(&sandboxes);
                Self {
                    sandboxes: report.is_isolated.then(|| Arc::new(sandboxes)),
                    report,
                    fallback,
                    tasks,
                }
            }
            Err(message) => {
                let report = IsolationReport {
                    is_isolated: false,
                    reason: "ProbeFailed",
                    message,
                };
                Self {
                    sandboxes: None,
                    report,
                    fallback,
                    tasks,
                }
            }
        }
    }

    pub(crate) fn report(&self) -> &IsolationReport {
        &self.report
    }

    async fn start_sandbox(&self, launch: Launch) -> Result<Started, StartError> {
        let Some(sandboxes) = self.sandboxes.clone() else {
            let Some(fallback) = &self.fallback else {
                return Err(StartError::new(
                    "IsolationUnavailable",
                    unavailable(&self.report.message),
                ));
            };
            return fallback.start_host_program(launch).await;
        };
        let spec = specify(&launch)?;
        let streams = Streams::open(launch.stdin, launch.tty).map_err(|error| {
            StartError::new(
                "CreateContainerError",
                format!("cannot make its streams: {error}"),
            )
        })?;
        let Streams { ours, theirs } = streams;
        let created = tokio::task::spawn_blocking(move || {
            let sandbox = sandboxes.create(spec.clone(), &theirs)?;
            sandbox.start()?;
            Ok::<_, SandboxError>((sandbox, spec))
        });
        let created = created
            .await
            .map_err(|error| StartError::new("CreateContainerError", error.to_string()))?;
        let (sandbox, spec) = created.map_err(|error| refusal(&error))?;
        let container =
            SandboxContainer::supervise(sandbox, spec, &self.tasks).map_err(|error| {
                StartError::new(
                    "RunContainerError",
                    format!("cannot watch the sandbox: {error}"),
                )
            })?;
        let OurStreams {
            stdin,
            stdout,
            stderr,
        } = ours;
        Ok(Started {
            container: Arc::new(container),
            stdin,
            stdout,
            stderr,
        })
    }
}

impl Runtime for SandboxRuntime {
    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, StartError>> {
        self.start_sandbox(launch).boxed()
    }
}

fn report(sandboxes: &Sandboxes) -> IsolationReport {
    let isolation = sandboxes.isolation();
    let missing = isolation.missing.join("; ");
    if !isolation.is_enough() {
        return IsolationReport {
            is_isolated: false,
            reason: "HostCannotIsolate",
            message: missing,
        };
    }
    let mut message = format!("enforced: {}", isolation.enforced().join(", "));
    if !missing.is_empty() {
        message = format!("{message}; not enforced: {missing}");
    }
    IsolationReport {
        is_isolated: true,
        reason: "SandboxesWork",
        message,
    }
}

fn unavailable(why: &str) -> String {
    format!(
        "this host cannot isolate the container ({why}); start `qd up` as root, or allow unprivileged user namespaces, \
         or accept unisolated containers with --allow-unisolated"
    )
}

fn refusal(error: &SandboxError) -> StartError {
    let reason = match error {
        SandboxError::NotIsolated { .. } => {
            return StartError::new("IsolationUnavailable", unavailable(&explain(error)));
        }
        SandboxError::Invalid { .. } => "CreateContainerConfigError",
        SandboxError::Program { .. } => "RunContainerError",
        SandboxError::Exists { .. }
        | SandboxError::NoIds { .. }
        | SandboxError::Helper { .. }
        | SandboxError::Io { .. } => "CreateContainerError",
    };
    StartError::new(reason, explain(error))
}

/// Our ends of a program's streams.
pub(super) struct OurStreams {
    pub(super) stdin: Option<Writer>,
    pub(super) stdout: Reader,
    pub(super) stderr: Option<Reader>,
}

/// Both ends of a program's streams.
pub(super) struct Streams {
    pub(super) ours: OurStreams,
    pub(super) theirs: Stdio,
}

impl Streams {
    /// Opens pipes, or a terminal whose our end is given too.
    pub(super) fn open(stdin: bool, tty: bool) -> std::io::Result<Self> {
        if tty {
            return Ok(Self::terminal(stdin)?.0);
        }
        let (out, their_out) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, their_err) = pipe_with(PipeFlags::CLOEXEC)?;
        let (their_in, our_in): (_, Option<Writer>) = if stdin {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            (theirs, Some(Box::new(pipe::Sender::from_owned_fd(ours)?)))
        } else {
            (std::fs::File::open("/dev/null")?.into(), None)
        };
        let ours = OurStreams {
            stdin: our_in,
            stdout: Box::new(pipe::Receiver::from_owned_fd(out)?),
            stderr: Some(Box::new(pipe::Receiver::from_owned_fd(err)?)),
        };
        Ok(Self {
            ours,
            theirs: Stdio {
                stdin: their_in,
                stdout: their_out,
                stderr: their_err,
            },
        })
    }

    /// Opens a terminal for all three streams.
    pub(super) fn terminal(stdin: bool) -> std::io::Result<(Self, Terminal)> {
        let (terminal, theirs) = Terminal::open()?;
        let ours = OurStreams {
            stdin: stdin.then(|| Box::new(terminal.clone()) as Writer),
            stdout: Box::new(terminal.clone()),
            stderr: None,
        };
        let theirs = Stdio {
            stdin: theirs.try_clone()?,
            stdout: theirs.try_clone()?,
            stderr: theirs,
        };
        Ok((Self { ours, theirs }, terminal))
    }
}
