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
    Census::take()?.equals(&before)?;
    stack.up()?;
    stack.wait_for("workspace/desk", "Ready", crate::harness::PATIENCE)?;
    ensure!(stack.qd(&["exec", "desk", "--", "cat", "note"])?.trim() == "kept");
    stack.signal(Signal::SIGKILL)?;
    stack.up()?;
    stack.signal(Signal::SIGTERM)?;
    Census::take()?.equals(&before)
}

/// What of a stack could stay on a machine.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    network_namespaces: usize,
}

impl Census {
    fn take() -> Result<Self> {
        let mut namespaces = BTreeSet::new();
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
            if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/net")) {
                namespaces.insert(namespace);
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
            network_namespaces: namespaces.len(),
        })
    }

    fn equals(&self, before: &Self) -> Result<()> {
        ensure!(
            self.processes == before.processes,
            "processes stay: {:?}",
            self.processes.difference(&before.processes)
        );
        ensure!(
            self.mounts == before.mounts,
            "mounts stay: {:?}",
            self.mounts.difference(&before.mounts)
        );
        ensure!(
            self.cgroups == before.cgroups,
            "cgroups stay: {:?}",
            self.cgroups.difference(&before.cgroups)
        );
        ensure!(
            self.network_namespaces <= before.network_namespaces,
            "network namespaces stay"
        );
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
