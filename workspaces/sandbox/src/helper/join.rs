//! One more program in a sandbox: joins every namespace of its first process, and is as confined as it is.
//!
//! libcontainer's own way to do this joins neither the user namespace nor the filter; it is never used.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::thread::{CapabilitySets, Gid, ThreadNameSpaceType, Uid};

use super::launch::{Launch, set_streams, tell};
use super::namespaces::{exit_now, join_all, pidfd_of};
use super::supervise::{hear, wait};
use crate::cgroup::OpenCgroups;
use crate::plan::{ExecPlan, Identity, Reply};
use crate::{Defence, SandboxError, wire};

/// The highest capability a kernel may have.
const CAPABILITIES: u32 = 64;

/// Starts one more program and stays as long as it lives.
pub(super) fn exec(
    plan: &ExecPlan,
    descriptors: Vec<OwnedFd>,
    control: &UnixStream,
) -> Result<(), SandboxError> {
    let mut streams = descriptors;
    let init = streams
        .pop()
        .filter(|_| streams.len() == 3)
        .ok_or_else(|| {
            SandboxError::invalid("request", "three standard streams and a process are needed")
        })?;
    let cgroups =
        OpenCgroups::open(&plan.cgroups).map_err(SandboxError::step("open the cgroups"))?;
    enter(plan, &init)?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(SandboxError::step("make a pipe"));
    let (told, tell_pipe) = pipe()?;
    let (gone, alive) = pipe()?;
    // SAFETY: the helper is single-threaded, so the child may do anything a process may do.
    // JUSTIFICATION: a process can only enter a pid namespace by being born in it.
    let child = match unsafe { fork() }.map_err(SandboxError::step("fork"))? {
        ForkResult::Child => {
            drop((told, alive));
            let error = match prepare(plan, &streams, &cgroups) {
                Ok(launch) => launch.become_program(&gone),
                Err(error) => error,
            };
            tell(tell_pipe.as_fd(), &error);
            exit_now(127)
        }
        ForkResult::Parent { child } => child.as_raw(),
    };
    drop((tell_pipe, gone, streams));
    let pidfd = pidfd_of(child)?;
    if let Some(error) = hear(&told)? {
        wait(child)?;
        return Err(error);
    }
    let started = Reply::Started {
        pid: child.unsigned_abs(),
    };
    wire::send(control, &started, &[pidfd.as_fd()])
        .map_err(SandboxError::step("report the start"))?;
    stay(&pidfd, control)?;
    let status = wait(child)?;
    drop(alive);
    wire::send(control, &Reply::Exited(status), &[]).map_err(SandboxError::step("report the end"))
}

/// Joins the namespaces of the first process, all at once: the user namespace gives the right to the others.
fn enter(plan: &ExecPlan, init: &OwnedFd) -> Result<(), SandboxError> {
    let mut flags = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::NETWORK;
    let optional = [
        (Defence::UserNamespace, ThreadNameSpaceType::USER),
        (Defence::PidNamespace, ThreadNameSpaceType::PROCESS_ID),
        (
            Defence::IpcNamespace,
            ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
        ),
    ];
    for (defence, flag) in optional {
        if plan.profile.has(defence) {
            flags |= flag;
        }
    }
    join_all(init, flags).map_err(|error| SandboxError::Helper {
        step: "join the sandbox".to_owned(),
        reason: if error.raw_os_error() == Some(nix::libc::ESRCH) {
            "it has ended".to_owned()
        } else {
            error.to_string()
        },
    })
}

/// In the child: streams, session, cgroups, folder, user, no capabilities.
fn prepare(
    plan: &ExecPlan,
    streams: &[OwnedFd],
    cgroups: &OpenCgroups,
) -> Result<Launch, SandboxError> {
    set_streams(streams).map_err(SandboxError::step("set the standard streams"))?;
    rustix::process::setsid().map_err(SandboxError::step("make a session"))?;
    cgroups
        .join()
        .map_err(SandboxError::step("enter the cgroups"))?;
    become_user(plan).map_err(SandboxError::step("become the user inside"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::chdir(&plan.spec.cwd).map_err(|error| SandboxError::Program {
        reason: format!("{}: {error}", plan.spec.cwd.display()),
    })?;
    if plan.profile.has(Defence::NoNewPrivileges) {
        rustix::thread::set_no_new_privs(true)
            .map_err(SandboxError::step("give up new privileges"))?;
    }
    Ok(Launch {
        command: plan.spec.command.clone(),
        env: plan.spec.env.clone(),
        writable: plan.writable.clone(),
        terminal: plan.spec.terminal,
        profile: plan.profile.clone(),
        seccomp: plan.seccomp.clone(),
    })
}

fn become_user(plan: &ExecPlan) -> rustix::io::Result<()> {
    let drop_capabilities = plan.profile.has(Defence::NoCapabilities);
    if drop_capabilities {
        for capability in 0..CAPABILITIES {
            // Past the last one that this kernel knows.
            if remove_from_bounding_set(capability).is_err() {
                break;
            }
        }
    }
    if matches!(plan.identity, Identity::Range(_)) {
        rustix::thread::set_thread_groups(&[])?;
        let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    if drop_capabilities {
        rustix::thread::clear_ambient_capability_set()?;
        let none = rustix::thread::CapabilitySet::empty();
        rustix::thread::set_capabilities(
            None,
            CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            },
        )?;
    }
    Ok(())
}

fn remove_from_bounding_set(capability: u32) -> rustix::io::Result<()> {
    let bit = rustix::thread::CapabilitySet::from_bits_retain(1 << capability);
    rustix::thread::remove_capability_from_bounding_set(bit)
}

/// Waits for the program's end, or ends it when the caller lets go of it.
fn stay(pidfd: &OwnedFd, control: &UnixStream) -> Result<(), SandboxError> {
    let mut caller_listens = true;
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        if caller_listens {
            fds.push(PollFd::new(control, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SandboxError::step("wait")(error)),
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            // Nothing is ever said to the helper of a running program: this is the end of the stream.
            caller_listens = false;
            if let Err(error) = pidfd_send_signal(pidfd, Signal::KILL) {
                tracing::debug!(%error, "the program had ended");
            }
        }
    }
}
