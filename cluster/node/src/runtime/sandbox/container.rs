//! A sandbox that runs, as the node sees a container.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use workspaces_sandbox::{ExecSpec, ExitStatus, Process, Sandbox, SandboxError, SandboxSpec};

use super::{OurStreams, Streams};
use crate::explain::explain;
use crate::runtime::dial::dial;
use crate::runtime::{Ended, ExecRequest, RunningContainer, Session};

/// How an end that nobody saw is reported.
const UNKNOWN: Ended = Ended {
    code: 255,
    signal: None,
    out_of_memory: false,
};

pub(super) struct SandboxContainer {
    sandbox: Arc<Mutex<Option<Arc<Sandbox>>>>,
    spec: SandboxSpec,
    id: String,
    isolation: String,
    pid: u32,
    ended: watch::Receiver<Option<Ended>>,
}

impl SandboxContainer {
    /// Takes a started sandbox over and waits for its end.
    pub(super) fn supervise(
        sandbox: Sandbox,
        spec: SandboxSpec,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let mut isolation = format!("isolated: {}", sandbox.enforced().join(", "));
        if !sandbox.missing().is_empty() {
            isolation = format!(
                "{isolation}; not enforced: {}",
                sandbox.missing().join("; ")
            );
        }
        let exit = exit_of(sandbox.process().pidfd().try_clone_to_owned()?)?;
        let (pid, id) = (
            sandbox.process().pid(),
            format!("sandbox://{}", sandbox.id()),
        );
        let sandbox = Arc::new(sandbox);
        let held = Arc::new(Mutex::new(Some(Arc::clone(&sandbox))));
        let (sender, ended) = watch::channel(None);
        tasks.spawn(async move {
            exit.await;
            let status = tokio::task::spawn_blocking(move || sandbox.wait()).await;
            sender.send_replace(Some(status.map_or(UNKNOWN, |status| ended_as(&status))));
        });
        Ok(Self {
            sandbox: held,
            spec,
            id,
            isolation,
            pid,
            ended,
        })
    }

    fn signal(&self, signal: Signal) {
        let Some(sandbox) = self.sandbox.lock().clone() else {
            return;
        };
        if let Err(error) = sandbox.signal(signal.as_raw()) {
            tracing::debug!(sandbox = %self.id, %error, "sandbox not signalled");
        }
    }
}

impl RunningContainer for SandboxContainer {
    fn id(&self) -> String {
        self.id.clone()
    }

    fn isolation(&self) -> String {
        self.isolation.clone()
    }

    fn ended(&self) -> BoxFuture<'static, Ended> {
        let mut receiver = self.ended.clone();
        async move {
            receiver
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|ended| *ended)
                .unwrap_or(UNKNOWN)
        }
        .boxed()
    }

    fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn remove(&self) -> BoxFuture<'static, ()> {
        let sandbox = self.sandbox.lock().take();
        async move {
            // Ends what is left inside and removes the cgroups; it waits for the helper.
            if let Err(error) = tokio::task::spawn_blocking(move || drop(sandbox)).await {
                tracing::warn!(%error, "sandbox not removed");
            }
        }
        .boxed()
    }

    fn exec(&self, request: ExecRequest) -> BoxFuture<'static, io::Result<Session>> {
        let sandbox = self.sandbox.lock().clone();
        let mut env = self.spec.env.clone();
        if request.tty {
            env.entry("TERM".to_owned())
                .or_insert_with(|| "xterm".to_owned());
        }
        let spec = ExecSpec {
            command: request.command.clone(),
            env,
            cwd: self.spec.cwd.clone(),
            terminal: request.tty,
        };
        async move {
            let sandbox = sandbox.ok_or_else(|| io::Error::other("the container has ended"))?;
            let (streams, terminal) = if request.tty {
                let (streams, terminal) = Streams::terminal(request.stdin)?;
                (streams, Some(terminal))
            } else {
                (Streams::open(request.stdin, false)?, None)
            };
            let Streams { ours, theirs } = streams;
            let started = tokio::task::spawn_blocking(move || sandbox.exec(spec, &theirs)).await;
            let process = started
                .map_err(io::Error::other)?
                .map_err(|error| io::Error::other(explain(&error)))?;
            let OurStreams {
                stdin,
                stdout,
                stderr,
            } = ours;
            let ended = wait(process)?.boxed();
            Ok(Session {
                stdin,
                stdout: Some(stdout),
                stderr,
                terminal,
                ended,
            })
        }
        .boxed()
    }

    fn connect(&self, port: u16, limit: Duration) -> BoxFuture<'static, io::Result<TcpStream>> {
        let pid = self.pid;
        let has_ended = self.ended.borrow().is_some();
        async move {
            if has_ended {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            let dialing = move || dial(pid, port, limit);
            let dialed = tokio::task::spawn_blocking(dialing).await;
            let stream = dialed.map_err(io::Error::other)??;
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        }
        .boxed()
    }
}

/// Resolves when the process of a pidfd has ended.
fn exit_of(pidfd: OwnedFd) -> io::Result<BoxFuture<'static, ()>> {
    #[expect(
        deprecated,
        reason = "an OwnedFd is safe here, and the replacement is an unsafe function"
    )]
    let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    Ok(async move {
        if let Err(error) = pidfd.readable().await {
            tracing::warn!(%error, "sandbox process not watched");
        }
    }
    .boxed())
}

/// Waits for an exec; dropping the future ends the command.
fn wait(process: Process) -> io::Result<impl Future<Output = io::Result<Ended>> + Send> {
    let exit = exit_of(process.pidfd().try_clone_to_owned()?)?;
    Ok(async move {
        exit.await;
        let status = tokio::task::spawn_blocking(move || process.wait())
            .await
            .map_err(io::Error::other)?;
        Ok(ended_as(&status))
    })
}

fn ended_as(status: &Result<ExitStatus, SandboxError>) -> Ended {
    match status {
        Ok(status) => Ended {
            code: status.code,
            signal: status.signal,
            out_of_memory: status.out_of_memory,
        },
        Err(error) => {
            tracing::warn!(%error, "the end of a sandbox was not seen");
            UNKNOWN
        }
    }
}
