//! Version 1: a hierarchy for each controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{
    CPU_PERIOD_MICROS, Cgroup, FOLDER, Hierarchy, Setting, Wants, cpu_quota_micros, make, pids_max,
};
use crate::{Limits, SandboxError};

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// A base below the calling process's own cgroup, so that limits on us limit sandboxes too.
pub(super) fn detect(root: &Path, own: &str) -> Hierarchy {
    let mut bases = BTreeMap::new();
    for controller in CONTROLLERS {
        if let Some(base) = base_of(root, own, controller)
            && rustix::fs::access(&base, rustix::fs::Access::WRITE_OK).is_ok()
        {
            bases.insert(controller, base.join(FOLDER));
        }
    }
    if bases.is_empty() {
        return Hierarchy::None("the cgroup hierarchies are not writable (run as root, or on a cgroup v2 host with delegation)".to_owned());
    }
    Hierarchy::V1(bases)
}

fn base_of(root: &Path, own: &str, controller: &str) -> Option<PathBuf> {
    let (mount, path) = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some((controllers, path))
    })?;
    // Controllers that share a hierarchy are mounted under their joint name, with links for the single ones.
    let dir = [controller, mount]
        .map(|name| root.join(name))
        .into_iter()
        .find(|dir| dir.exists())?;
    let nested = dir.join(path.trim_start_matches('/'));
    // In a container the path is the host's, and the mount is already our own part of it.
    Some(if nested.exists() { nested } else { dir })
}

pub(super) fn create(
    bases: &BTreeMap<&'static str, PathBuf>,
    name: &str,
    limits: &Limits,
    wants: &Wants,
    cgroup: &mut Cgroup,
) -> Result<(), SandboxError> {
    for controller in CONTROLLERS {
        let settings = settings(controller, limits, wants);
        match bases.get(controller) {
            Some(base) => {
                make(&base.join(name), &settings, cgroup)?;
                if !settings.is_empty() {
                    cgroup.enforced.push(format!("cgroup-v1:{controller}"));
                }
            }
            None if settings.is_empty() => {}
            None => cgroup.missing.push(format!(
                "limit on {controller}: the cgroup hierarchy is not writable"
            )),
        }
    }
    Ok(())
}

fn settings(controller: &str, limits: &Limits, wants: &Wants) -> Vec<Setting> {
    match (controller, limits.memory_bytes, limits.cpu_millis) {
        ("memory", Some(bytes), _) if wants.memory => vec![
            Setting::required("memory.limit_in_bytes", &bytes),
            // Memory and swap together: swap stays at 0. Only with swap accounting, and only above the line before.
            Setting::optional("memory.memsw.limit_in_bytes", &bytes),
            Setting::optional("memory.swappiness", &0),
        ],
        ("cpu", _, Some(millis)) if wants.cpu => vec![
            Setting::required("cpu.cfs_period_us", &CPU_PERIOD_MICROS),
            Setting::required("cpu.cfs_quota_us", &cpu_quota_micros(millis)),
        ],
        ("pids", _, _) if wants.pids => vec![Setting::required("pids.max", &pids_max(limits))],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(own: &str, controller: &str, mounted: &[&str], expected: Option<&str>) {
        let root = tempfile::tempdir().unwrap();
        for dir in mounted {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        assert_eq!(
            base_of(root.path(), own, controller),
            expected.map(|path| root.path().join(path))
        );
    }

    #[test]
    fn sandboxes_lie_below_our_own_cgroup() {
        check(
            "4:memory:/a/b\n1:cpu:/",
            "memory",
            &["memory/a/b"],
            Some("memory/a/b"),
        );
        check("4:memory:/a/b\n1:cpu:/", "cpu", &["cpu"], Some("cpu"));
        check(
            "4:cpu,cpuacct:/x",
            "cpu",
            &["cpu,cpuacct/x"],
            Some("cpu,cpuacct/x"),
        );
        check(
            "4:memory:/docker/123",
            "memory",
            &["memory"],
            Some("memory"),
        );
        check("4:memory:/", "pids", &["pids"], None);
    }

    #[test]
    fn limits_become_files() {
        let all = Wants {
            memory: true,
            pids: true,
            cpu: true,
        };
        let limits = Limits {
            cpu_millis: Some(500),
            memory_bytes: Some(1 << 30),
            pids: None,
        };
        assert_eq!(
            settings("pids", &limits, &all),
            vec![Setting::required("pids.max", &1024)]
        );
        assert_eq!(
            settings("cpu", &limits, &all)[1],
            Setting::required("cpu.cfs_quota_us", &50_000)
        );
        assert_eq!(
            settings("memory", &limits, &all)[0],
            Setting::required("memory.limit_in_bytes", &(1 << 30))
        );
        assert_eq!(settings("memory", &Limits::default(), &all), Vec::new());
        let none = Wants {
            memory: false,
            pids: false,
            cpu: false,
        };
        assert_eq!(settings("pids", &limits, &none), Vec::new());
    }
}
