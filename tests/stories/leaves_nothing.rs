//! Ctrl-C: no process, mount, namespace or cgroup stays; a second `up` goes on from the data folder.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::harness::Stack;

#[test]
fn ctrl_c_leaves_nothing_behind_and_a_second_up_goes_on() -> Result<()> {
    let before = Census::take()?;
    let mut stack = Stack::start()?;
    stack.apply_quickstart()?;
    stack.qd(&["exec", "desk", "--", "sh", "-c", "echo kept > note"])?;
    stack.signal(Signal::SIGINT)?;
    Census::take()?.adds_nothing_to(&before)?;
    stack.up()?;
    stack.wait_for("workspace/desk", "Ready", crate::harness::PATIENCE)?;
    ensure!(stack.qd(&["exec", "desk", "--", "cat", "note"])?.trim() == "kept");
    stack.signal(Signal::SIGKILL)?;
    stack.up()?;
    stack.signal(Signal::SIGTERM)?;
    Census::take()?.adds_nothing_to(&before)
}

/// What of a stack could stay on a machine. A namespace lives by its processes or by a mount, so both tell of it.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
}

impl Census {
    fn take() -> Result<Self> {
        let mut processes = BTreeSet::new();
        for entry in fs::read_dir("/proc").context("reading /proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let program = line.split('\0').next().unwrap_or_default();
            if program.ends_with("/qd") || line.contains("/.qd/qd") {
                processes.insert(line.replace('\0', " "));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
        let mounts = mounts.lines().map(str::to_owned).collect();
        let mut cgroups = BTreeSet::new();
        collect_cgroups(std::path::Path::new("/sys/fs/cgroup"), &mut cgroups);
        Ok(Self {
            processes,
            mounts,
            cgroups,
        })
    }

    /// Nothing is here that was not there before; what others left meanwhile may have gone.
    fn adds_nothing_to(&self, before: &Self) -> Result<()> {
        let added = |now: &BTreeSet<String>, then: &BTreeSet<String>| -> Vec<String> {
            now.difference(then).cloned().collect()
        };
        for (what, now, then) in [
            ("processes", &self.processes, &before.processes),
            ("mounts", &self.mounts, &before.mounts),
            ("cgroups", &self.cgroups, &before.cgroups),
        ] {
            let added = added(now, then);
            ensure!(added.is_empty(), "{what} stay: {added:?}");
        }
        Ok(())
    }
}

fn collect_cgroups(folder: &std::path::Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains("quarterdeck") {
                found.insert(entry.path().display().to_string());
            }
            collect_cgroups(&entry.path(), found);
        }
    }
}
