//! A sandbox's helper: makes it, starts it when told, and stays until it has ended, then leaves nothing.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};

use super::executor::LaunchExecutor;
use super::launch::{Launch, told};
use super::{bundle, chain, namespaces, rootfs, stage};
use crate::cgroup::OpenCgroups;
use crate::plan::{Command, Reply, RunPlan};
use crate::process::ExitStatus;
use crate::{Defence, MountKind, SandboxError, wire};

/// A container that waits to be started, and what is needed to end it.
struct Made {
    container: Container,
    pid: i32,
    pidfd: OwnedFd,
    told: OwnedFd,
    /// Held for the programs inside: when the helper ends, this closes.
    _alive: OwnedFd,
}

/// Makes a sandbox and stays as long as it lives.
pub(super) fn run(
    plan: &RunPlan,
    streams: Vec<OwnedFd>,
    control: &UnixStream,
) -> Result<(), SandboxError> {
    let cgroups =
        OpenCgroups::open(&plan.cgroups).map_err(SandboxError::step("open the cgroups"))?;
    let outcome = make(plan, streams, &cgroups).and_then(|made| serve(made, &cgroups, control));
    cgroups.remove();
    match outcome {
        Ok(status) => wire::send(control, &Reply::Exited(status), &[])
            .map_err(SandboxError::step("report the end")),
        Err(error) => Err(error),
    }
}

fn make(
    plan: &RunPlan,
    streams: Vec<OwnedFd>,
    cgroups: &OpenCgroups,
) -> Result<Made, SandboxError> {
    namespaces::enter_own(plan.identity, plan.profile.has(Defence::NetworkNamespace))?;
    let gathered = rootfs::gather(plan)?;
    stage::enter()?;
    gathered.assemble(&plan.spec)?;
    bundle::write(plan)?;
    cgroups
        .join()
        .map_err(SandboxError::step("enter the cgroups"))?;
    let made = create(plan, streams);
    cgroups.leave();
    made
}

fn create(plan: &RunPlan, streams: Vec<OwnedFd>) -> Result<Made, SandboxError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(SandboxError::step("make a pipe"));
    let (told, tell) = pipe()?;
    let (gone, alive) = pipe()?;
    let executor = LaunchExecutor {
        launch: Launch {
            command: plan.spec.command.clone(),
            env: plan.spec.env.clone(),
            writable: writable(plan),
            terminal: plan.spec.terminal,
            profile: plan.profile.clone(),
            seccomp: plan.seccomp.clone(),
        },
        told: tell.as_raw_fd(),
        helper_gone: gone.as_raw_fd(),
        helper_alive: alive.as_raw_fd(),
    };
    let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(streams) else {
        return Err(SandboxError::invalid(
            "request",
            "three standard streams are needed",
        ));
    };
    let container = ContainerBuilder::new(plan.spec.id.clone(), SyscallType::Linux)
        .with_root_path(stage::STATE)
        .and_then(ContainerBuilder::validate_id)
        .map(|builder| {
            builder
                .with_executor(executor)
                .with_stdin(stdin)
                .with_stdout(stdout)
                .with_stderr(stderr)
        })
        .and_then(|builder| {
            builder
                .as_init(Path::new(stage::BUNDLE))
                .with_systemd(false)
                .with_detach(true)
                .build()
        })
        .map_err(|error| SandboxError::Helper {
            step: "create the container".to_owned(),
            reason: chain(&error),
        })?;
    let pid = match container.pid() {
        Some(pid) => pid.as_raw(),
        None => 0,
    };
    Ok(Made {
        pidfd: namespaces::pidfd_of(pid)?,
        container,
        pid,
        told,
        _alive: alive,
    })
}

fn writable(plan: &RunPlan) -> Vec<std::path::PathBuf> {
    plan.spec
        .mounts
        .iter()
        .filter(|mount| match mount.kind {
            MountKind::Bind { writable, .. } => writable,
            MountKind::Tmpfs { .. } => true,
        })
        .map(|mount| mount.target.clone())
        .collect()
}

/// Waits for the caller's word and for the end, whichever comes.
fn serve(
    mut made: Made,
    cgroups: &OpenCgroups,
    control: &UnixStream,
) -> Result<ExitStatus, SandboxError> {
    let created = Reply::Created {
        pid: made.pid.unsigned_abs(),
    };
    wire::send(control, &created, &[made.pidfd.as_fd()])
        .map_err(SandboxError::step("report the creation"))?;
    let mut caller_listens = true;
    loop {
        let mut fds = vec![PollFd::new(&made.pidfd, PollFlags::IN)];
        if caller_listens {
            fds.push(PollFd::new(control, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SandboxError::step("wait")(error)),
        }
        if !fds[0].revents().is_empty() {
            return reap(&made, cgroups);
        }
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            match wire::receive::<Command>(control) {
                Ok(Some((Command::Start, _))) => start(&mut made, control)?,
                Ok(None) | Err(_) => {
                    // The caller let go of it, or is gone.
                    caller_listens = false;
                    kill(&made);
                }
            }
        }
    }
}

fn start(made: &mut Made, control: &UnixStream) -> Result<(), SandboxError> {
    made.container
        .start()
        .map_err(|error| SandboxError::Helper {
            step: "start the container".to_owned(),
            reason: chain(&error),
        })?;
    let reply = match hear(&made.told)? {
        None => Reply::Started {
            pid: made.pid.unsigned_abs(),
        },
        Some(error) => super::failure(error),
    };
    wire::send(control, &reply, &[]).map_err(SandboxError::step("report the start"))
}

/// Waits until the program runs or has told why not.
pub(super) fn hear(pipe: &OwnedFd) -> Result<Option<SandboxError>, SandboxError> {
    let mut text = String::new();
    let mut file = std::fs::File::from(
        pipe.try_clone()
            .map_err(SandboxError::step("hear of the start"))?,
    );
    file.read_to_string(&mut text)
        .map_err(SandboxError::step("hear of the start"))?;
    Ok(told(&text))
}

fn kill(made: &Made) {
    if let Err(error) = pidfd_send_signal(&made.pidfd, Signal::KILL) {
        tracing::debug!(%error, "the first process had ended");
    }
}

fn reap(made: &Made, cgroups: &OpenCgroups) -> Result<ExitStatus, SandboxError> {
    let mut status = wait(made.pid)?;
    status.out_of_memory = cgroups.ran_out_of_memory();
    Ok(status)
}

/// Reaps a child.
pub(super) fn wait(pid: i32) -> Result<ExitStatus, SandboxError> {
    loop {
        let status = match waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => ExitStatus {
                code,
                ..ExitStatus::default()
            },
            Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus {
                code: 128 + signal as i32,
                signal: Some(signal as i32),
                ..ExitStatus::default()
            },
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(SandboxError::step("reap the program")(error)),
        };
        return Ok(status);
    }
}
