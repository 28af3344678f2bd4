//! Control groups for process containers, version 2 or 1, as far as the host lets us make them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Limits;

const ROOT: &str = "/sys/fs/cgroup";
/// How deep below a controller's mount a former node's group is looked for.
const SEARCH_DEPTH_MAX: usize = 3;
const CPU_PERIOD_MICROS: u64 = 100_000;
/// How often a group that does not empty is looked at again before it is given up.
const REMOVE_ATTEMPTS: u32 = 50;
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// Where this node may make groups.
#[derive(Clone, Debug)]
pub(crate) enum Cgroups {
    /// Not at all, and why.
    Unavailable(String),
    /// One tree.
    Unified(PathBuf),
    /// A tree for each of memory, cpu and pids.
    Split(Vec<(Controller, PathBuf)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// The group of one container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cgroup {
    folders: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds out what the host offers and makes the node's own group, named after `node`.
    pub(crate) fn detect(node: &str) -> Self {
        let root = Path::new(ROOT);
        let found = if root.join("cgroup.controllers").exists() {
            unified(root, node)
        } else {
            split(root, node)
        };
        found.unwrap_or_else(|error| Self::Unavailable(error.to_string()))
    }

    /// Makes the group of one container with its limits.
    pub(crate) fn create(&self, name: &str, limits: Limits) -> io::Result<Cgroup> {
        match self {
            Self::Unavailable(_) => Ok(Cgroup::default()),
            Self::Unified(base) => {
                let folder = base.join(name);
                make(&folder)?;
                let cgroup = Cgroup {
                    folders: vec![folder.clone()],
                };
                if let Some(bytes) = limits.memory_bytes {
                    fs::write(folder.join("memory.max"), bytes.to_string())?;
                    // Absent on a kernel without swap accounting, where there is nothing to forbid.
                    drop(fs::write(folder.join("memory.swap.max"), "0"));
                }
                if let Some(quota) = limits.cpu_milli.map(quota_micros) {
                    fs::write(
                        folder.join("cpu.max"),
                        format!("{quota} {CPU_PERIOD_MICROS}"),
                    )?;
                }
                Ok(cgroup)
            }
            Self::Split(trees) => {
                let mut folders = Vec::new();
                for (controller, base) in trees {
                    let folder = base.join(name);
                    make(&folder)?;
                    limit_split(*controller, &folder, limits)?;
                    folders.push(folder);
                }
                Ok(Cgroup { folders })
            }
        }
    }

    /// The groups that a former node left, innermost first. It may have been started from another group than this one.
    pub(crate) fn leftovers(&self) -> Vec<Cgroup> {
        let own = self.bases();
        let mut found = Vec::new();
        for base in &own {
            let Some(name) = base.file_name() else {
                continue;
            };
            let below_root = base
                .ancestors()
                .find(|path| path.parent() == Some(Path::new(ROOT)));
            let (from, depth) = match below_root {
                Some(mount) if mount != base.as_path() => (mount, SEARCH_DEPTH_MAX),
                _ => (Path::new(ROOT), 0),
            };
            let mut bases = Vec::new();
            find_folders(from, name, depth, &mut bases);
            for former in bases {
                found.extend(folders_in(&former));
                if !own.contains(&&former) {
                    found.push(former);
                }
            }
        }
        found
            .into_iter()
            .map(|folder| Cgroup {
                folders: vec![folder],
            })
            .collect()
    }

    fn bases(&self) -> Vec<&PathBuf> {
        match self {
            Self::Unavailable(_) => Vec::new(),
            Self::Unified(base) => vec![base],
            Self::Split(trees) => trees.iter().map(|(_, base)| base).collect(),
        }
    }

    /// Removes the node's own groups once they are empty.
    pub(crate) fn remove_base(&self) {
        for base in self.bases() {
            if let Err(error) = fs::remove_dir(base) {
                tracing::warn!(path = %base.display(), %error, "cgroup not removed");
            }
        }
    }
}

impl Cgroup {
    /// The files into which a process writes itself to enter the group.
    pub(crate) fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        self.folders
            .iter()
            .map(|folder| folder.join("cgroup.procs"))
    }

    /// Whether the kernel ended a process of the group for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let files = ["memory.events", "memory.oom_control"];
        let texts = self
            .folders
            .iter()
            .flat_map(|folder| files.map(|file| folder.join(file)));
        texts
            .filter_map(|path| fs::read_to_string(path).ok())
            .any(|text| {
                text.lines().any(|line| {
                    line.strip_prefix("oom_kill ")
                        .is_some_and(|count| count.trim().parse().unwrap_or(0_u64) > 0)
                })
            })
    }

    /// Ends every process in the group.
    pub(crate) fn kill(&self) {
        for folder in &self.folders {
            if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
                continue;
            }
            let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in members
                .lines()
                .filter_map(|line| line.trim().parse().ok())
                .filter_map(Pid::from_raw)
            {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Ends what is left in the group and removes it.
    pub(crate) async fn remove(&self) {
        for folder in &self.folders {
            for _ in 0..REMOVE_ATTEMPTS {
                match fs::remove_dir(folder) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    // The kernel announces no end of the last member of a version 1 group.
                    Err(_) => {
                        self.kill();
                        tokio::time::sleep(REMOVE_PAUSE).await;
                    }
                }
            }
        }
    }
}

/// Finds folders of a name below `folder`.
fn find_folders(folder: &Path, name: &OsStr, depth: usize, found: &mut Vec<PathBuf>) {
    for child in folders_in(folder) {
        if child.file_name() == Some(name) {
            found.push(child);
        } else if depth > 0 {
            find_folders(&child, name, depth - 1, found);
        }
    }
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn unified(root: &Path, node: &str) -> io::Result<Cgroups> {
    let base = root.join(node);
    make(&base)?;
    for folder in [root, &base] {
        for controller in Controller::ALL {
            let file = folder.join("cgroup.subtree_control");
            if let Err(error) = fs::write(&file, format!("+{}", controller.name())) {
                drop(fs::remove_dir(&base));
                return Err(io::Error::new(
                    error.kind(),
                    format!("cannot delegate {}: {error}", controller.name()),
                ));
            }
        }
    }
    Ok(Cgroups::Unified(base))
}

fn split(root: &Path, node: &str) -> io::Result<Cgroups> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let mut trees = Vec::new();
    for controller in Controller::ALL {
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?;
            controllers
                .split(',')
                .any(|name| name == controller.name())
                .then_some(path)
        });
        let Some(path) = path else { continue };
        let mount = root.join(controller.name());
        let inside = mount.join(path.trim_start_matches('/'));
        let base = if inside.is_dir() { inside } else { mount }.join(node);
        make(&base)?;
        trees.push((controller, base));
    }
    if trees.is_empty() {
        return Err(io::Error::other(
            "no control groups are mounted in /sys/fs/cgroup",
        ));
    }
    Ok(Cgroups::Split(trees))
}

fn limit_split(controller: Controller, folder: &Path, limits: Limits) -> io::Result<()> {
    match controller {
        Controller::Memory => match limits.memory_bytes {
            Some(bytes) => fs::write(folder.join("memory.limit_in_bytes"), bytes.to_string()),
            None => Ok(()),
        },
        Controller::Cpu => match limits.cpu_milli.map(quota_micros) {
            Some(quota) => fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string()),
            None => Ok(()),
        },
        Controller::Pids => Ok(()),
    }
}

fn quota_micros(cpu_milli: u64) -> u64 {
    // The kernel refuses less than a millisecond.
    (cpu_milli * CPU_PERIOD_MICROS / 1000).max(1000)
}

fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot make {}: {error}", folder.display()),
        )
    })
}
