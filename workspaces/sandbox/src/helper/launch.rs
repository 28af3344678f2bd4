//! The last steps of a process that becomes a program inside: limits, Landlock, seccomp, and then the program.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit as Range, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::namespaces::die_with_helper;
use crate::descriptors::{Fate, seal};
use crate::domain::{self, Domain};
use crate::{Defence, Profile, SandboxError, seccomp};

/// What a program inside may hold; soft and hard alike.
const RLIMITS: [(Resource, u64); 5] = [
    (Resource::Nofile, 65_536),
    (Resource::Core, 0),
    (Resource::Memlock, 8 << 20),
    (Resource::Msgqueue, 819_200),
    (Resource::Sigpending, 16_384),
];

/// A program and what confines it, decided before anything was entered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Launch {
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Where it may write; everything else of the root is read-only.
    pub writable: Vec<PathBuf>,
    pub terminal: bool,
    pub profile: Profile,
    pub seccomp: Vec<u64>,
}

impl Launch {
    /// Becomes the program. Returns only if that fails.
    pub(super) fn become_program(&self, helper_gone: &OwnedFd) -> SandboxError {
        match self.confine(helper_gone) {
            Ok(()) => self.execute(),
            Err(error) => error,
        }
    }

    fn confine(&self, helper_gone: &OwnedFd) -> Result<(), SandboxError> {
        seal(Fate::CloseOnExec).map_err(SandboxError::step("seal descriptors"))?;
        if self.profile.has(Defence::Rlimits) {
            lower_limits().map_err(SandboxError::step("set resource limits"))?;
        }
        if self.terminal {
            take_terminal().map_err(SandboxError::step("take the terminal"))?;
        }
        die_with_helper(helper_gone)
            .map_err(SandboxError::step("bind the program to its helper"))?;
        if self.profile.has(Defence::Landlock) {
            let ruleset = self
                .domain()
                .open()
                .map_err(SandboxError::step("make a Landlock domain"))?;
            // A kernel without Landlock is told as missing by the probe.
            if let Some(ruleset) = ruleset {
                rustix::thread::set_no_new_privs(true)
                    .map_err(SandboxError::step("give up new privileges"))?;
                domain::enter(&ruleset).map_err(SandboxError::step("enter the Landlock domain"))?;
            }
        }
        if self.profile.has(Defence::Seccomp) {
            seccompiler::apply_filter(&seccomp::unpack(&self.seccomp))
                .map_err(SandboxError::step("load the system call filter"))?;
        }
        Ok(())
    }

    fn domain(&self) -> Domain {
        let mut writable = self.writable.clone();
        writable.extend(["/tmp", "/dev/shm", "/dev/mqueue"].map(PathBuf::from));
        Domain {
            readable: vec![PathBuf::from("/")],
            writable,
            devices: vec![PathBuf::from("/dev")],
            listable: Vec::new(),
        }
    }

    fn execute(&self) -> SandboxError {
        let program = self.command.first().map_or("", String::as_str);
        let words = self
            .command
            .iter()
            .map(|word| CString::new(word.as_str()))
            .collect::<Result<Vec<_>, _>>();
        let env = self
            .env
            .iter()
            .map(|(key, value)| CString::new(format!("{key}={value}")))
            .collect::<Result<Vec<_>, _>>();
        let (Ok(words), Ok(env)) = (words, env) else {
            return SandboxError::invalid("command", "has a zero byte");
        };
        let search = self
            .env
            .get("PATH")
            .map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
        let mut refusal = nix::errno::Errno::ENOENT;
        for candidate in candidates(program, search) {
            let Ok(path) = CString::new(candidate.as_os_str().as_encoded_bytes()) else {
                continue;
            };
            let Err(error) = nix::unistd::execve(&path, &words, &env);
            // As a shell does: a file that exists but may not be run says more than one that does not exist.
            if !matches!(
                error,
                nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR
            ) {
                refusal = error;
            }
        }
        SandboxError::Program {
            reason: format!("{program}: {}", refusal.desc()),
        }
    }
}

fn candidates(program: &str, search: &str) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    search
        .split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join(program))
        .collect()
}

/// Lowers limits; one that is lower already stays.
fn lower_limits() -> io::Result<()> {
    for (resource, wanted) in RLIMITS {
        let present = getrlimit(resource);
        let limit = present
            .maximum
            .map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(
            resource,
            Range {
                current: Some(limit),
                maximum: Some(limit),
            },
        )?;
    }
    Ok(())
}

/// Makes standard input the controlling terminal of this session.
fn take_terminal() -> io::Result<()> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).map_err(Into::into)
}

/// Makes three descriptors the standard streams.
pub(super) fn set_streams(streams: &[OwnedFd]) -> io::Result<()> {
    let [stdin, stdout, stderr] = streams else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "three standard streams are needed",
        ));
    };
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}

/// Tells the helper why the program could not be run. The pipe closes by itself if it could.
pub(super) fn tell(pipe: BorrowedFd<'_>, error: &SandboxError) {
    let (kind, text) = match error {
        SandboxError::Program { reason } => ('P', reason.clone()),
        SandboxError::Helper { step, reason } => ('H', format!("{step}\n{reason}")),
        other => ('H', format!("run the program\n{other}")),
    };
    // Nobody is left to hear about a failure to write.
    let _unheard = rustix::io::write(pipe, format!("{kind}{text}").as_bytes());
}

/// What [`tell`] told; `None` if the program runs.
pub(super) fn told(text: &str) -> Option<SandboxError> {
    let mut rest = text.chars();
    let kind = rest.next()?;
    let rest = rest.as_str();
    if kind == 'P' {
        return Some(SandboxError::Program {
            reason: rest.to_owned(),
        });
    }
    let (step, reason) = rest.split_once('\n').unwrap_or((rest, ""));
    Some(SandboxError::Helper {
        step: step.to_owned(),
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(program: &str, search: &str, expected: &[&str]) {
        let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(candidates(program, search), expected);
    }

    #[test]
    fn programs_are_looked_up_as_by_a_shell() {
        check("sh", "/a:/b", &["/a/sh", "/b/sh"]);
        check("./sh", "/a:/b", &["./sh"]);
        check("/bin/sh", "/a", &["/bin/sh"]);
        check("sh", "/a::/b", &["/a/sh", "/b/sh"]);
    }

    #[test]
    fn a_failure_is_told_as_what_it_was() {
        assert!(told("").is_none());
        assert!(
            matches!(told("Psh: no"), Some(SandboxError::Program { reason }) if reason == "sh: no")
        );
        assert!(
            matches!(told("Ha\nb"), Some(SandboxError::Helper { step, reason }) if step == "a" && reason == "b")
        );
    }
}
