//! What a caller asks for: a sandbox, or one more program in it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::SandboxError;

/// The longest id; it names a cgroup, a record and a host name.
const ID_BYTES_MAX: usize = 128;
/// Arguments and environment together; the kernel's own limit for one `execve` is a little above this.
const ARGUMENT_BYTES_MAX: usize = 1_500_000;
/// Below this the container cannot even be set up.
const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// Below this the container cannot even be set up.
const PIDS_MIN: u32 = 4;

/// Where the root file system comes from. It is always read-only inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// The host's own `/usr` with a minimal generated `/etc`; nothing else of the host.
    HostUsr,
    /// An unpacked image.
    Directory(PathBuf),
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Where it is on the host.
        source: PathBuf,
        /// Whether programs may write to it. Its owner on disk is then the inside uid, by an id-mapped mount.
        writable: bool,
    },
    /// Memory, gone with the sandbox.
    Tmpfs {
        /// Its size limit in bytes.
        bytes_max: u64,
    },
}

/// One mount of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where programs see it; absolute.
    pub target: PathBuf,
    /// What it is.
    pub kind: MountKind,
}

/// What a sandbox may use of the machine. `None` is the profile's default, not "unlimited" where the host can limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a core; no limit if not given.
    pub cpu_millis: Option<u32>,
    /// Memory in bytes, swap included (swap itself is 0); no limit if not given.
    pub memory_bytes: Option<u64>,
    /// Processes and threads; 1,024 if not given.
    pub pids: Option<u32>,
}

/// A POSIX resource limit, soft and hard alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rlimit {
    /// Open files of a process.
    OpenFiles(u64),
    /// Bytes of a core dump.
    CoreBytes(u64),
    /// Bytes of one file.
    FileBytes(u64),
    /// Bytes of locked memory.
    LockedBytes(u64),
    /// Bytes of POSIX message queues.
    MessageQueueBytes(u64),
    /// Processes of the user inside.
    Processes(u64),
}

/// A sandbox to create. Its network is a loopback of its own and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Unique among the caller's sandboxes: letters, digits, `.`, `_` and `-`.
    pub id: String,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Program and arguments of the first process; it is process 1 inside.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts; absolute.
    pub cwd: PathBuf,
    /// Mounts, in this order.
    pub mounts: Vec<Mount>,
    /// User inside. Without root on the host it is always 0, which is the caller outside and holds no capability.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
    /// The host name inside.
    pub hostname: String,
    /// What it may use.
    pub limits: Limits,
    /// Whether standard streams are a terminal (the caller passes one pty as all three).
    pub terminal: bool,
}

/// One more program in a running sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts; absolute.
    pub cwd: PathBuf,
    /// Whether standard streams are a terminal (the caller passes one pty as all three).
    pub terminal: bool,
}

/// The standard streams of a process.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

impl Default for SandboxSpec {
    fn default() -> Self {
        Self {
            id: String::new(),
            rootfs: Rootfs::HostUsr,
            command: Vec::new(),
            env: BTreeMap::new(),
            cwd: PathBuf::from("/"),
            mounts: Vec::new(),
            uid: 1000,
            gid: 1000,
            hostname: "workspace".to_owned(),
            limits: Limits::default(),
            terminal: false,
        }
    }
}

impl Stdio {
    /// All three are `/dev/null`.
    ///
    /// # Errors
    /// `/dev/null` cannot be opened.
    pub fn null() -> Result<Self, SandboxError> {
        let open = || {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from)
                .map_err(SandboxError::io("open /dev/null"))
        };
        Ok(Self {
            stdin: open()?,
            stdout: open()?,
            stderr: open()?,
        })
    }
}

impl SandboxSpec {
    /// Says what is wrong with it, before anything is created.
    pub(crate) fn validate(&self) -> Result<(), SandboxError> {
        validate_id(&self.id)?;
        validate_program(&self.command, &self.env, &self.cwd)?;
        if self.hostname.len() > 64 || self.hostname.contains(['\0', '/']) {
            return Err(SandboxError::invalid("hostname", &self.hostname));
        }
        for mount in &self.mounts {
            mount.validate()?;
        }
        if self
            .limits
            .memory_bytes
            .is_some_and(|bytes| bytes < MEMORY_BYTES_MIN)
        {
            return Err(SandboxError::invalid("memory limit", "less than 16 MiB"));
        }
        if self.limits.pids.is_some_and(|pids| pids < PIDS_MIN) {
            return Err(SandboxError::invalid("process limit", "less than 4"));
        }
        if self.uid >= 65_534 || self.gid >= 65_534 {
            return Err(SandboxError::invalid("user inside", "65534 or more"));
        }
        Ok(())
    }
}

impl ExecSpec {
    /// Says what is wrong with it.
    pub(crate) fn validate(&self) -> Result<(), SandboxError> {
        validate_program(&self.command, &self.env, &self.cwd)
    }
}

impl Mount {
    fn validate(&self) -> Result<(), SandboxError> {
        let shown = self.target.display().to_string();
        if !is_plain_absolute(&self.target) || self.target == Path::new("/") {
            return Err(SandboxError::invalid("mount target", &shown));
        }
        // A mount there would replace what the profile relies on.
        let reserved = ["/proc", "/sys", "/dev"];
        if reserved.iter().any(|path| self.target.starts_with(path))
            && self.target != Path::new("/dev/shm")
        {
            return Err(SandboxError::invalid("mount target", &shown));
        }
        match &self.kind {
            MountKind::Bind { source, .. } if !source.is_absolute() => Err(SandboxError::invalid(
                "mount source",
                &source.display().to_string(),
            )),
            MountKind::Bind { .. } | MountKind::Tmpfs { .. } => Ok(()),
        }
    }
}

/// Whether a path is absolute and has no `.` or `..` in it.
fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute()
        && !path.as_os_str().as_encoded_bytes().contains(&0)
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn validate_id(id: &str) -> Result<(), SandboxError> {
    let plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if id.is_empty() || id.len() > ID_BYTES_MAX || !plain || id.starts_with('.') {
        return Err(SandboxError::invalid("id", id));
    }
    Ok(())
}

fn validate_program(
    command: &[String],
    env: &BTreeMap<String, String>,
    cwd: &Path,
) -> Result<(), SandboxError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(SandboxError::invalid("command", "empty"));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(SandboxError::invalid("command", "has a zero byte"));
    }
    if env
        .iter()
        .any(|(key, value)| key.is_empty() || key.contains(['=', '\0']) || value.contains('\0'))
    {
        return Err(SandboxError::invalid(
            "environment",
            "a name is empty or holds `=` or a zero byte",
        ));
    }
    let bytes: usize = command.iter().map(|word| word.len() + 9).sum::<usize>()
        + env
            .iter()
            .map(|(key, value)| key.len() + value.len() + 10)
            .sum::<usize>();
    if bytes > ARGUMENT_BYTES_MAX {
        return Err(SandboxError::invalid(
            "command and environment",
            "longer than 1.5 MB",
        ));
    }
    if !is_plain_absolute(cwd) {
        return Err(SandboxError::invalid(
            "working directory",
            &cwd.display().to_string(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> SandboxSpec {
        SandboxSpec {
            id: "a-1".to_owned(),
            command: vec!["true".to_owned()],
            ..SandboxSpec::default()
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut SandboxSpec), accepted: bool) {
        let mut spec = good();
        change(&mut spec);
        assert_eq!(spec.validate().is_ok(), accepted, "{spec:?}");
    }

    fn bind(target: &str) -> Mount {
        Mount {
            target: target.into(),
            kind: MountKind::Bind {
                source: "/srv".into(),
                writable: false,
            },
        }
    }

    #[test]
    fn a_spec_is_checked_before_anything_is_created() {
        check(|_| {}, true);
        check(|spec| spec.id = "../x".to_owned(), false);
        check(|spec| spec.id = ".hidden".to_owned(), false);
        check(|spec| spec.id = "a".repeat(ID_BYTES_MAX), true);
        check(|spec| spec.id = "a".repeat(ID_BYTES_MAX + 1), false);
        check(|spec| spec.command.clear(), false);
        check(|spec| spec.command.push("a\0b".to_owned()), false);
        check(
            |spec| spec.command.push("x".repeat(ARGUMENT_BYTES_MAX)),
            false,
        );
        check(|spec| spec.cwd = "work".into(), false);
        check(|spec| spec.cwd = "/work/../etc".into(), false);
        check(|spec| spec.mounts.push(bind("/work")), true);
        check(|spec| spec.mounts.push(bind("/")), false);
        check(|spec| spec.mounts.push(bind("/proc/sys")), false);
        check(|spec| spec.mounts.push(bind("/dev/shm")), true);
        check(
            |spec| spec.limits.memory_bytes = Some(MEMORY_BYTES_MIN),
            true,
        );
        check(
            |spec| spec.limits.memory_bytes = Some(MEMORY_BYTES_MIN - 1),
            false,
        );
        check(|spec| spec.limits.pids = Some(PIDS_MIN), true);
        check(|spec| spec.limits.pids = Some(PIDS_MIN - 1), false);
        check(|spec| spec.uid = 65_534, false);
        check(
            |spec| drop(spec.env.insert("A=B".to_owned(), String::new())),
            false,
        );
    }
}
