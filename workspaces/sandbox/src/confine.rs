//! Programs started *inside* a workspace by its own daemon: no privilege needed, so it works in any container.
//!
//! Between the daemon and each program stands a keeper, a fork of the daemon that adopts whatever the program leaves behind:
//! a program cannot get its children out of [`Confined::kill_all`]'s reach by daemonizing them. Programs of one confinement
//! may signal each other, keepers included, but not the daemon, which is outside their Landlock domain; none can read the
//! memory of the others. A keeper that was killed is told by [`Confined::reap`], and its program counts as ended.

mod keeper;
mod nursery;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use self::nursery::Nursery;
use crate::descriptors::{Fate, seal};
use crate::domain::{self, Domain};
use crate::{SandboxError, Stdio, seccomp};

/// The signal scope came with this version.
const ABI_WITH_SIGNALS: u32 = 6;
/// Killed processes end within milliseconds.
const KILL_MAX: Duration = Duration::from_secs(5);

/// What programs may touch and use.
#[derive(Debug, Clone, Default)]
pub struct ConfinementSpec {
    /// Folders they may write to.
    pub writable: Vec<PathBuf>,
    /// Folders they may not even read.
    pub hidden: Vec<PathBuf>,
    /// Open files of each program.
    pub open_files_max: u64,
    /// Processes and threads of the user, of all programs together.
    pub processes_max: Option<u64>,
}

/// A confinement, ready to be put around any number of programs.
#[derive(Debug)]
pub struct Confinement {
    nursery: Nursery,
    enforced: Vec<String>,
    missing: Vec<String>,
}

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: PathBuf,
}

/// A confined program. Dropping it neither kills nor reaps it.
#[derive(Debug)]
pub struct Confined {
    keeper: Child,
    pidfd: OwnedFd,
    pid: u32,
}

impl Confinement {
    /// Prepares a confinement and finds out what of it this kernel enforces.
    ///
    /// # Errors
    /// The kernel has Landlock but refuses the rules, or the filter does not compile.
    pub fn new(spec: &ConfinementSpec) -> Result<Self, SandboxError> {
        let abi = domain::abi();
        let ruleset = rules(spec)
            .open()
            .map_err(SandboxError::step("make a Landlock domain"))?;
        let mut enforced = vec![
            "no-new-privs".to_owned(),
            "seccomp".to_owned(),
            "rlimits".to_owned(),
        ];
        let mut missing = Vec::new();
        if ruleset.is_some() {
            enforced.insert(0, format!("landlock:abi-{abi}"));
        } else {
            missing.push(
                "landlock: this kernel has none, so programs may read whatever this user may"
                    .to_owned(),
            );
        }
        if abi < ABI_WITH_SIGNALS {
            missing.push(format!(
                "landlock signal scope: needs version {ABI_WITH_SIGNALS}, this kernel has {abi}"
            ));
        }
        let birth = Birth {
            filter: seccomp::compiled()?,
            limits: limits(spec),
        };
        Ok(Self {
            nursery: Nursery::open(ruleset, birth)?,
            enforced,
            missing,
        })
    }

    /// What is enforced on programs, in words.
    pub fn enforced(&self) -> &[String] {
        &self.enforced
    }

    /// What is not, and why.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Starts a program in a session of its own.
    ///
    /// # Errors
    /// [`SandboxError::Program`] if it cannot be run.
    pub fn spawn(&self, program: &ProgramSpec, stdio: Stdio) -> Result<Confined, SandboxError> {
        self.nursery.bear(program, stdio)
    }
}

/// How programs are started, on the nursery's thread.
#[derive(Debug)]
struct Birth {
    filter: &'static seccompiler::BpfProgram,
    limits: Vec<(u32, u64)>,
}

impl Birth {
    fn give(&self, program: &ProgramSpec, stdio: Stdio) -> Result<Confined, SandboxError> {
        let Some((name, args)) = program
            .command
            .split_first()
            .filter(|(name, _)| !name.is_empty())
        else {
            return Err(SandboxError::invalid("command", "empty"));
        };
        let (pid_read, pid_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(SandboxError::io("make a pipe"))?;
        let mut command = Command::new(name);
        command
            .args(args)
            .env_clear()
            .envs(&program.env)
            .current_dir(&program.cwd)
            .stdin(stdio.stdin)
            .stdout(stdio.stdout)
            .stderr(stdio.stderr);
        let (filter, limits) = (self.filter, self.limits.clone());
        // SAFETY: between fork and exec the closure only makes system calls on values prepared before the fork; it neither
        // allocates nor takes locks (see `keeper`).
        // JUSTIFICATION: a program can only be confined by the process that is about to become it.
        unsafe {
            command.pre_exec(move || {
                keeper::stand_between(&pid_write)?;
                confine_self(filter, &limits)
            });
        }
        let keeper = command
            .spawn()
            .map_err(|error| refusal(name, &program.cwd, &error))?;
        drop(command);
        let pid = read_pid(pid_read).map_err(SandboxError::io("hear from the keeper"))?;
        let pidfd = process(keeper.id())
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|keeper| {
                rustix::process::pidfd_open(keeper, rustix::process::PidfdFlags::empty())
            })
            .map_err(SandboxError::io("open the keeper"))?;
        Ok(Confined { keeper, pidfd, pid })
    }
}

impl Confined {
    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process to wait for: the keeper, which ends as the program ended.
    pub fn keeper_pid(&self) -> u32 {
        self.keeper.id()
    }

    /// Reaps the keeper and says how the program ended: its code, 128 + signal if a signal ended it. Nothing if the keeper
    /// itself was killed, by [`Confined::kill_all`] or by a program. Blocks until it has ended; [`AsFd`] gives a descriptor that is readable then.
    ///
    /// # Errors
    /// Somebody else reaped it.
    pub fn reap(&mut self) -> Result<Option<i32>, SandboxError> {
        let status = self
            .keeper
            .wait()
            .map_err(SandboxError::io("reap a program"))?;
        Ok(status.code())
    }

    /// Kills the program and everything that came of it, also what made itself a session or a daemon.
    ///
    /// Blocks for milliseconds. The keeper must still be reaped.
    pub fn kill_all(&self) {
        kill_tree(self.keeper.id());
    }
}

impl AsFd for Confined {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Kills everything below a keeper, then the keeper.
pub fn kill_tree(keeper: u32) {
    // A stopped keeper goes on adopting: nothing below it can get out while this goes through the list.
    signal(keeper, Signal::STOP);
    let until = Instant::now() + KILL_MAX;
    loop {
        let below = keeper::living_descendants(keeper);
        if below.is_empty() {
            break;
        }
        for pid in below {
            signal(pid, Signal::KILL);
        }
        if Instant::now() > until {
            tracing::warn!(keeper, "processes do not end");
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(keeper, Signal::KILL);
}

/// The children of a process that have not ended yet, adopted ones included.
pub fn children_of(parent: u32) -> Vec<u32> {
    keeper::living_children(parent)
}

/// Makes the calling process adopt what its descendants leave behind, and unreadable for others of its user.
///
/// # Errors
/// The kernel refuses.
pub fn become_init() -> Result<(), SandboxError> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(SandboxError::io("make the daemon unreadable"))?;
    keeper::adopt_descendants().map_err(SandboxError::io("adopt orphans"))
}

/// Brings the loopback of a network namespace of our own up, where this process may; says whether it is up.
pub fn loopback_is_up() -> bool {
    std::fs::read_to_string("/sys/class/net/lo/operstate").map_or_else(
        |_| std::net::TcpListener::bind(("127.0.0.1", 0)).is_ok_and(|listener| reaches(&listener)),
        |state| state.trim() != "down",
    )
}

fn reaches(listener: &std::net::TcpListener) -> bool {
    listener
        .local_addr()
        .and_then(|address| {
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))
        })
        .is_ok()
}

fn rules(spec: &ConfinementSpec) -> Domain {
    let mut writable = spec.writable.clone();
    writable.extend(["/dev/shm", "/dev/mqueue"].map(PathBuf::from));
    Domain {
        readable: Domain::readable_except(&spec.hidden),
        listable: vec![PathBuf::from("/")],
        writable,
        devices: vec![PathBuf::from("/dev")],
    }
}

fn limits(spec: &ConfinementSpec) -> Vec<(u32, u64)> {
    let mut limits = vec![
        (nix::libc::RLIMIT_CORE, 0),
        (nix::libc::RLIMIT_MEMLOCK, 8 << 20),
        (nix::libc::RLIMIT_MSGQUEUE, 819_200),
    ];
    if spec.open_files_max > 0 {
        limits.push((nix::libc::RLIMIT_NOFILE, spec.open_files_max));
    }
    limits.extend(
        spec.processes_max
            .map(|processes| (nix::libc::RLIMIT_NPROC, processes)),
    );
    limits
}

/// In the child, which is in the domain already: limits and seccomp. Only system calls.
fn confine_self(filter: &seccompiler::BpfProgram, limits: &[(u32, u64)]) -> io::Result<()> {
    seal(Fate::CloseOnExec)?;
    rustix::process::setsid()?;
    for (resource, limit) in limits {
        keeper::lower_limit(*resource, *limit)?;
    }
    seccompiler::apply_filter(filter).map_err(|_| io::Error::last_os_error())
}

fn refusal(name: &str, cwd: &Path, error: &io::Error) -> SandboxError {
    let reason = if error.kind() == io::ErrorKind::NotFound && !cwd.exists() {
        format!("{}: no such directory", cwd.display())
    } else {
        format!("{name}: {error}")
    };
    SandboxError::Program { reason }
}

fn read_pid(pipe: OwnedFd) -> io::Result<u32> {
    let mut bytes = [0; 4];
    std::fs::File::from(pipe).read_exact(&mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}

fn process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = process(pid)
        && let Err(error) = kill_process(pid, signal)
    {
        tracing::debug!(%error, "process had ended");
    }
}

#[cfg(test)]
mod tests;
