//! A program in a sandbox, as its caller holds it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::plan::{Reply, Request};
use crate::{Helper, SandboxError, wire};

/// A helper whose socket is closed kills and cleans up in milliseconds; after this it is stuck and is killed itself.
const HELPER_END_MAX: Duration = Duration::from_secs(10);

/// How a program ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the sandbox ran out of memory meanwhile.
    pub out_of_memory: bool,
}

/// A program in a sandbox. Dropping it ends the program.
///
/// [`AsFd`] gives a descriptor that is readable once [`Process::try_wait`] has something to say, for an event loop.
#[derive(Debug)]
pub struct Process {
    control: UnixStream,
    pidfd: OwnedFd,
    pid: u32,
    helper: Mutex<HelperChild>,
    exit: Mutex<Option<ExitStatus>>,
}

impl Process {
    pub(crate) fn new(helper: HelperChild, control: UnixStream, pid: u32, pidfd: OwnedFd) -> Self {
        Self {
            control,
            pidfd,
            pid,
            helper: Mutex::new(helper),
            exit: Mutex::new(None),
        }
    }

    /// The process id on the host.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process as a descriptor, immune to reuse of its id.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for its end and for the removal of everything of it.
    ///
    /// # Errors
    /// The control socket cannot be read.
    pub fn wait(&self) -> Result<ExitStatus, SandboxError> {
        let mut exit = self.exit.lock();
        if let Some(status) = *exit {
            return Ok(status);
        }
        let status = loop {
            match wire::receive::<Reply>(&self.control)
                .map_err(SandboxError::io("wait for a sandboxed program"))?
            {
                Some((Reply::Exited(status), _)) => break status,
                Some((reply, _)) => tracing::debug!(?reply, "sandbox helper said something else"),
                None => break self.lost(),
            }
        };
        *exit = Some(status);
        Ok(status)
    }

    /// Says how it ended, if it did.
    ///
    /// # Errors
    /// The control socket cannot be read.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, SandboxError> {
        // Held by another thread that waits: it has not ended.
        let Some(exit) = self.exit.try_lock() else {
            return Ok(None);
        };
        if exit.is_some() {
            return Ok(*exit);
        }
        drop(exit);
        if is_readable(&self.control, Duration::ZERO)
            .map_err(SandboxError::io("poll a sandboxed program"))?
        {
            return self.wait().map(Some);
        }
        Ok(None)
    }

    /// Sends a signal; one to a program that has ended is no error.
    ///
    /// # Errors
    /// There is no such signal.
    pub fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        let signal = Signal::from_named_raw(signal)
            .ok_or_else(|| SandboxError::invalid("signal", &signal.to_string()))?;
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(SandboxError::io("signal a sandboxed program")(error)),
        }
    }

    pub(crate) fn control(&self) -> &UnixStream {
        &self.control
    }

    /// Kills it and waits until everything of it is gone.
    pub(crate) fn end(&self) {
        if let Err(error) = self.control.shutdown(std::net::Shutdown::Write) {
            tracing::debug!(%error, "control socket was closed already");
        }
        self.helper.lock().join();
    }

    /// The helper ended without a word: it was killed, and with it what ran inside.
    fn lost(&self) -> ExitStatus {
        // The kernel kills the program with its helper; this waits for it, and covers a kernel that did not.
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            tracing::debug!(%error, "the program had ended with its helper");
        }
        ExitStatus {
            code: 128 + Signal::KILL.as_raw(),
            signal: Some(Signal::KILL.as_raw()),
            out_of_memory: false,
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A helper process and the duty to reap it.
#[derive(Debug)]
pub(crate) struct HelperChild {
    child: Option<Child>,
}

impl HelperChild {
    /// Starts a helper and asks it for something.
    pub(crate) fn ask(
        helper: &Helper,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Self, UnixStream), SandboxError> {
        let (ours, theirs) =
            UnixStream::pair().map_err(SandboxError::io("make a control socket"))?;
        let child = Command::new(&helper.program)
            .args(&helper.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(SandboxError::io(format!(
                "start {}",
                helper.program.display()
            )))?;
        let child = Self { child: Some(child) };
        wire::send(&ours, request, descriptors)
            .map_err(SandboxError::io("ask the sandbox helper"))?;
        Ok((child, ours))
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Waits for its end, and ends it if that takes too long.
    pub(crate) fn join(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if !ends_within(&child, HELPER_END_MAX) {
            tracing::error!(pid = child.id(), "sandbox helper is stuck and is killed");
            if let Err(error) = child.kill() {
                tracing::warn!(%error, "sandbox helper not killed");
            }
        }
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "sandbox helper not reaped");
        }
    }
}

impl Drop for HelperChild {
    fn drop(&mut self) {
        self.join();
    }
}

/// Receives the reply to a request.
pub(crate) fn reply(control: &UnixStream) -> Result<(Reply, Vec<OwnedFd>), SandboxError> {
    match wire::receive(control).map_err(SandboxError::io("hear the sandbox helper"))? {
        Some((Reply::Failed { step, reason }, _)) => Err(SandboxError::Helper { step, reason }),
        Some((Reply::NoProgram { reason }, _)) => Err(SandboxError::Program { reason }),
        Some(reply) => Ok(reply),
        None => Err(SandboxError::Helper {
            step: "answer".to_owned(),
            reason:
                "it ended without a word; is `sandbox-helper` handled in main before anything else?"
                    .to_owned(),
        }),
    }
}

fn ends_within(child: &Child, limit: Duration) -> bool {
    let Some(pid) = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    pidfd_open(pid, PidfdFlags::empty()).is_ok_and(|pidfd| ends_soon(&pidfd, limit))
}

/// Whether a process ends within a time.
pub(crate) fn ends_soon(pidfd: &OwnedFd, limit: Duration) -> bool {
    is_readable(pidfd, limit).unwrap_or(false)
}

fn is_readable(descriptor: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(descriptor, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
