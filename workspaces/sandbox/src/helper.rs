//! The helper process: single-threaded, one operation, lives as long as what it made.
//!
//! Everything that changes the namespaces, the root or the identity of a process happens here and nowhere else.

mod bundle;
mod executor;
mod join;
mod launch;
mod namespaces;
mod probe;
mod rootfs;
mod stage;
mod supervise;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use crate::descriptors::{Fate, seal};
use crate::plan::{Reply, Request};
use crate::{SandboxError, wire};

/// The whole life of a helper. The binary's `main` calls it before anything else, above all before it starts a thread.
///
/// The request comes over the socket that is standard input; `args` are the arguments after the one that chose this role,
/// and there are none.
pub fn helper_main(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        return ExitCode::from(2);
    }
    // What the caller left open is nobody's here, and would be held for as long as the sandbox lives.
    if seal(Fate::CloseNow).is_err() {
        return ExitCode::from(2);
    }
    let Ok(control) =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map(UnixStream::from)
    else {
        return ExitCode::from(2);
    };
    let outcome = if is_single_threaded() {
        serve(&control)
    } else {
        Err(SandboxError::Helper {
            step: "start".to_owned(),
            reason: "the process has threads already".to_owned(),
        })
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody listens any more there is nobody to tell.
            if wire::send(&control, &failure(error), &[]).is_err() {
                return ExitCode::from(2);
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(control: &UnixStream) -> Result<(), SandboxError> {
    let Some((request, descriptors)) =
        wire::receive::<Request>(control).map_err(SandboxError::step("read the request"))?
    else {
        return Ok(());
    };
    close_standard_input()?;
    match request {
        Request::Probe => {
            let isolation = probe::probe();
            wire::send(control, &Reply::Isolation(Box::new(isolation)), &[])
                .map_err(SandboxError::step("answer"))
        }
        Request::Run(plan) => supervise::run(&plan, descriptors, control),
        Request::Exec(plan) => join::exec(&plan, descriptors, control),
    }
}

/// Standard input was the control socket: no program may inherit it.
fn close_standard_input() -> Result<(), SandboxError> {
    let null: OwnedFd = std::fs::File::open("/dev/null")
        .map_err(SandboxError::step("open /dev/null"))?
        .into();
    rustix::stdio::dup2_stdin(null.as_fd()).map_err(SandboxError::step("close standard input"))
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

fn failure(error: SandboxError) -> Reply {
    match error {
        SandboxError::Helper { step, reason } => Reply::Failed { step, reason },
        SandboxError::Program { reason } => Reply::NoProgram { reason },
        other => Reply::Failed {
            step: "do what was asked".to_owned(),
            reason: chain(&other),
        },
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
