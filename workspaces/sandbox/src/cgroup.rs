//! Limits on memory, processes and processor time: one directory per sandbox in each hierarchy, version 1 or 2.

mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use crate::{Limits, SandboxError};

const ROOT: &str = "/sys/fs/cgroup";
/// Our directory in each hierarchy.
const FOLDER: &str = "quarterdeck";
const PIDS_DEFAULT: u32 = 1_024;
const CPU_PERIOD_MICROS: u64 = 100_000;
/// Killed processes leave a cgroup within milliseconds; one that does not is stuck in the kernel.
const EMPTY_MAX: Duration = Duration::from_secs(5);

/// The hierarchies this process may make cgroups in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// A base directory for each controller.
    V1(BTreeMap<&'static str, PathBuf>),
    /// One base directory with controllers for its children.
    V2 {
        base: PathBuf,
        controllers: Vec<String>,
    },
    /// None, and why.
    None(String),
}

/// A sandbox's cgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    pub dirs: Vec<PathBuf>,
    pub enforced: Vec<String>,
    pub missing: Vec<String>,
}

/// One limit: the file it is written to and what; `required` ones fail the creation, others are told as missing.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    file: &'static str,
    value: String,
    required: bool,
}

impl Setting {
    fn required(file: &'static str, value: &impl ToString) -> Self {
        Self {
            file,
            value: value.to_string(),
            required: true,
        }
    }

    fn optional(file: &'static str, value: &impl ToString) -> Self {
        Self {
            file,
            value: value.to_string(),
            required: false,
        }
    }
}

impl Hierarchy {
    /// Looks for a hierarchy in which this process may make cgroups.
    pub(crate) fn detect() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let root = Path::new(ROOT);
        if root.join("cgroup.controllers").exists() {
            v2::detect(root, &own)
        } else {
            v1::detect(root, &own)
        }
    }

    /// What it can limit.
    pub(crate) fn controllers(&self) -> Vec<String> {
        match self {
            Self::V1(bases) => bases.keys().map(|name| format!("v1:{name}")).collect(),
            Self::V2 { controllers, .. } => controllers
                .iter()
                .map(|name| format!("v2:{name}"))
                .collect(),
            Self::None(_) => Vec::new(),
        }
    }

    /// Makes a sandbox's cgroups with its limits.
    pub(crate) fn create(
        &self,
        name: &str,
        limits: &Limits,
        wants: &Wants,
    ) -> Result<Cgroup, SandboxError> {
        let mut cgroup = Cgroup::default();
        let outcome = match self {
            Self::V1(bases) => v1::create(bases, name, limits, wants, &mut cgroup),
            Self::V2 { base, controllers } => {
                v2::create(base, controllers, name, limits, wants, &mut cgroup)
            }
            Self::None(why) => {
                cgroup.missing.push(format!(
                    "limits on memory, processes and processor time: {why}"
                ));
                Ok(())
            }
        };
        if let Err(error) = outcome {
            remove(&cgroup.dirs);
            return Err(error);
        }
        Ok(cgroup)
    }
}

/// Which limits the profile wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub memory: bool,
    pub pids: bool,
    pub cpu: bool,
}

fn pids_max(limits: &Limits) -> u32 {
    limits.pids.unwrap_or(PIDS_DEFAULT)
}

fn cpu_quota_micros(millis: u32) -> u64 {
    // The kernel refuses less than a millisecond.
    (u64::from(millis) * CPU_PERIOD_MICROS / 1_000).max(1_000)
}

/// Makes a directory and writes its settings.
fn make(dir: &Path, settings: &[Setting], cgroup: &mut Cgroup) -> Result<(), SandboxError> {
    make_dir(dir).map_err(SandboxError::io(format!("make {}", dir.display())))?;
    cgroup.dirs.push(dir.to_owned());
    for setting in settings {
        let path = dir.join(setting.file);
        match fs::write(&path, &setting.value) {
            Ok(()) => {}
            Err(error) if setting.required => {
                return Err(SandboxError::io(format!(
                    "set {} to {}",
                    path.display(),
                    setting.value
                ))(error));
            }
            Err(error) => cgroup.missing.push(format!("{}: {error}", setting.file)),
        }
    }
    Ok(())
}

/// Another caller may remove the empty folder above meanwhile. One that exists was left by a sandbox of the same id that was
/// killed; empty, it is as good as new.
fn make_dir(dir: &Path) -> io::Result<()> {
    let mut outcome = fs::create_dir_all(dir);
    for _ in 0..8 {
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                outcome = fs::create_dir_all(dir);
            }
            _ => break,
        }
    }
    outcome
}

/// Kills what is in the cgroups and removes them; what is gone already is fine.
pub(crate) fn remove(dirs: &[PathBuf]) {
    for dir in dirs {
        let until = Instant::now() + EMPTY_MAX;
        loop {
            for pid in processes(&dir.join("cgroup.procs")) {
                kill(pid);
            }
            match fs::remove_dir(dir) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if Instant::now() > until => {
                    tracing::warn!(cgroup = %dir.display(), %error, "cgroup not removed");
                    break;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        // Our folder goes with the last sandbox; with others in it the kernel keeps it.
        if let Some(Err(error)) = dir.parent().map(fs::remove_dir) {
            tracing::trace!(%error, "cgroup folder stays");
        }
    }
}

fn processes(file: &Path) -> Vec<i32> {
    fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

fn kill(pid: i32) {
    // A process with the id 0 is one of another pid namespace; it cannot be named from here.
    if let Some(pid) = rustix::process::Pid::from_raw(pid)
        && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL)
    {
        tracing::debug!(%error, "process had ended already");
    }
}

/// Cgroups held by descriptors: usable after the file system they are in has gone from view.
#[derive(Debug)]
pub(crate) struct OpenCgroups {
    groups: Vec<OpenCgroup>,
}

#[derive(Debug)]
struct OpenCgroup {
    parent: OwnedFd,
    name: std::ffi::OsString,
    dir: OwnedFd,
    origin: Option<OwnedFd>,
}

impl OpenCgroups {
    /// Opens a sandbox's cgroups, and the ones the calling process is in now.
    pub(crate) fn open(dirs: &[PathBuf]) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mut groups = Vec::new();
        for dir in dirs {
            let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a cgroup needs a parent",
                ));
            };
            groups.push(OpenCgroup {
                parent: open_dir(parent)?,
                name: name.to_owned(),
                dir: open_dir(dir)?,
                origin: origin_of(dir, &own).and_then(|path| open_dir(&path).ok()),
            });
        }
        Ok(Self { groups })
    }

    /// Moves the calling process in.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.groups
            .iter()
            .try_for_each(|group| move_self(&group.dir))
    }

    /// Moves the calling process back to where it was.
    pub(crate) fn leave(&self) {
        for group in &self.groups {
            if let Some(origin) = &group.origin
                && let Err(error) = move_self(origin)
            {
                tracing::debug!(%error, "helper stays in the cgroup");
            }
        }
    }

    /// Whether the memory limit killed something.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        self.groups.iter().any(|group| {
            ["memory.events", "memory.oom_control"].iter().any(|file| {
                read_at(&group.dir, file)
                    .lines()
                    .filter_map(|line| line.strip_prefix("oom_kill "))
                    .any(|count| count.trim() != "0")
            })
        })
    }

    /// Kills what is left in them and removes them.
    pub(crate) fn remove(&self) {
        for group in &self.groups {
            let until = Instant::now() + EMPTY_MAX;
            loop {
                for pid in read_at(&group.dir, "cgroup.procs")
                    .lines()
                    .filter_map(|line| line.parse().ok())
                {
                    kill(pid);
                }
                match unlinkat(&group.parent, group.name.as_os_str(), AtFlags::REMOVEDIR) {
                    Ok(()) | Err(rustix::io::Errno::NOENT) => break,
                    Err(error) if Instant::now() > until => {
                        tracing::warn!(%error, "cgroup not removed");
                        break;
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        }
    }
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY,
        Mode::empty(),
    )
    .map_err(Into::into)
}

fn move_self(dir: &OwnedFd) -> io::Result<()> {
    let file = openat(
        dir,
        "cgroup.procs",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    fs::File::from(file).write_all(b"0")
}

fn read_at(dir: &OwnedFd, name: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        && let Err(error) = fs::File::from(file).read_to_string(&mut text)
    {
        tracing::debug!(name, %error, "cgroup file not read");
    }
    text
}

/// Where the calling process is in the hierarchy that `dir` lies in.
fn origin_of(dir: &Path, own: &str) -> Option<PathBuf> {
    let below = dir.strip_prefix(ROOT).ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        if controllers.is_empty() && Path::new(ROOT).join("cgroup.controllers").exists() {
            return Some(Path::new(ROOT).join(path));
        }
        (!controllers.is_empty() && controllers.split(',').any(|name| name == first))
            .then(|| Path::new(ROOT).join(first).join(path))
    })
}

#[cfg(test)]
mod tests;
