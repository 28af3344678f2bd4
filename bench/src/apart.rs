//! Programs apart from the rest of the machine: a session, and so a scheduler group, of their own.
//!
//! On a machine that others use too, ours and the peer both get the processor first. Where the system does not allow
//! that, they run as everybody does.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::process::CommandExt,
    process::Command,
};

use anyhow::{Context, Result};
use rustix::{
    process::{
        Resource, Rlimit, Signal, getrlimit, nice, set_parent_process_death_signal, setrlimit,
        setsid,
    },
    thread::{CpuSet, sched_setaffinity},
};

/// The group's weight against other groups, and the process's inside its group: lower is more.
const GROUP_NICENESS: &str = "-19";
const NICENESS: i32 = -10;

/// A command that runs apart and ends with this process.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Result<Command> {
    let own = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(own);
    command.arg("apart").arg(program);
    Ok(command)
}

/// As [`command`], on one core only.
pub(crate) fn command_on(core: usize, program: impl AsRef<OsStr>) -> Result<Command> {
    let own = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(own);
    command.args(["apart", "--core", &core.to_string()]);
    command.arg(program);
    Ok(command)
}

/// As [`command`], for a subcommand of this binary.
pub(crate) fn subcommand(name: &str) -> Result<Command> {
    let own = std::env::current_exe().context("finding this program")?;
    let mut command = command(own)?;
    command.arg(name);
    Ok(command)
}

/// Becomes the program that the words name.
pub(crate) fn run(core: Option<usize>, words: &[OsString]) -> Result<()> {
    let (program, args) = words.split_first().context("no program is named")?;
    if let Some(core) = core {
        let mut cores = CpuSet::new();
        cores.set(core);
        sched_setaffinity(None, &cores).with_context(|| format!("keeping to core {core}"))?;
    }
    // Whoever is no guest of the system's scheduler groups, or not allowed to weigh them, is measured as it is.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let _ = setsid();
    let _ = fs::write("/proc/self/autogroup", GROUP_NICENESS);
    let _ = nice(NICENESS);
    // A server with a thousand streams has two thousand connections.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}
