//! Version 2: one hierarchy, controllers enabled for children.

use std::fs;
use std::path::{Path, PathBuf};

use super::{
    CPU_PERIOD_MICROS, Cgroup, FOLDER, Hierarchy, Setting, Wants, cpu_quota_micros, make, pids_max,
};
use crate::{Limits, SandboxError};

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The nearest cgroup above us that may have children with controllers: one with processes in it may not, except the root.
pub(super) fn detect(root: &Path, own: &str) -> Hierarchy {
    let path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/")
        .trim_start_matches('/');
    let mut refusal = "no cgroup above this process is delegated to it (run as root, or as a systemd service with Delegate=yes)".to_owned();
    let below: Vec<PathBuf> = Path::new(path)
        .ancestors()
        .map(|ancestor| {
            if ancestor.as_os_str().is_empty() {
                root.to_owned()
            } else {
                root.join(ancestor)
            }
        })
        .collect();
    for base in below {
        match adopt(&base, base == root) {
            Ok(controllers) => {
                return Hierarchy::V2 {
                    base: base.join(FOLDER),
                    controllers,
                };
            }
            Err(Some(why)) => refusal = why,
            Err(None) => {}
        }
    }
    Hierarchy::None(refusal)
}

/// Makes our folder in a cgroup and enables controllers for its children.
fn adopt(base: &Path, is_root: bool) -> Result<Vec<String>, Option<String>> {
    let occupied = !is_root
        && fs::read_to_string(base.join("cgroup.procs")).is_ok_and(|text| !text.trim().is_empty());
    if occupied || rustix::fs::access(base, rustix::fs::Access::WRITE_OK).is_err() {
        return Err(None);
    }
    let folder = base.join(FOLDER);
    let made = !folder.exists();
    fs::create_dir_all(&folder).map_err(|error| Some(format!("{}: {error}", folder.display())))?;
    let mut enabled = Vec::new();
    for controller in CONTROLLERS {
        let word = format!("+{controller}");
        let for_us = fs::write(base.join("cgroup.subtree_control"), &word);
        if for_us.is_ok() && fs::write(folder.join("cgroup.subtree_control"), &word).is_ok()
            || has(&folder, controller)
        {
            enabled.push(controller.to_owned());
        }
    }
    if enabled.is_empty() {
        if made && let Err(error) = fs::remove_dir(&folder) {
            tracing::debug!(%error, "unusable cgroup stays");
        }
        return Err(Some(format!(
            "{} gives its children no controllers",
            base.display()
        )));
    }
    Ok(enabled)
}

fn has(folder: &Path, controller: &str) -> bool {
    fs::read_to_string(folder.join("cgroup.subtree_control"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
}

pub(super) fn create(
    base: &Path,
    controllers: &[String],
    name: &str,
    limits: &Limits,
    wants: &Wants,
    cgroup: &mut Cgroup,
) -> Result<(), SandboxError> {
    let mut all = Vec::new();
    for controller in CONTROLLERS {
        let settings = settings(controller, limits, wants);
        if settings.is_empty() {
            continue;
        }
        if controllers.iter().any(|name| name == controller) {
            cgroup.enforced.push(format!("cgroup-v2:{controller}"));
            all.extend(settings);
        } else {
            cgroup.missing.push(format!(
                "limit on {controller}: the controller is not delegated to us"
            ));
        }
    }
    make(&base.join(name), &all, cgroup)
}

fn settings(controller: &str, limits: &Limits, wants: &Wants) -> Vec<Setting> {
    match (controller, limits.memory_bytes, limits.cpu_millis) {
        ("memory", Some(bytes), _) if wants.memory => vec![
            Setting::required("memory.max", &bytes),
            Setting::optional("memory.swap.max", &0),
            Setting::optional("memory.oom.group", &0),
        ],
        ("cpu", _, Some(millis)) if wants.cpu => {
            vec![Setting::required(
                "cpu.max",
                &format!("{} {CPU_PERIOD_MICROS}", cpu_quota_micros(millis)),
            )]
        }
        ("pids", _, _) if wants.pids => vec![Setting::required("pids.max", &pids_max(limits))],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up hierarchy of plain directories: writes succeed, so what is tested is which directory is chosen.
    #[track_caller]
    fn check(own: &str, dirs: &[(&str, &str)], expected: &str) {
        let root = tempfile::tempdir().unwrap();
        for (dir, processes) in dirs {
            let dir = root.path().join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup.procs"), processes).unwrap();
        }
        let Hierarchy::V2 { base, controllers } = detect(root.path(), own) else {
            panic!("no base found");
        };
        assert_eq!(base, root.path().join(expected).join(FOLDER));
        assert_eq!(controllers, CONTROLLERS);
    }

    #[test]
    fn a_base_is_the_nearest_cgroup_without_processes() {
        check(
            "0::/user/app/me",
            &[("user", ""), ("user/app", ""), ("user/app/me", "42")],
            "user/app",
        );
        check("0::/user/me", &[("user", "1"), ("user/me", "42")], "");
        check("0::/", &[("", "1")], "");
    }

    #[test]
    fn limits_become_files() {
        let all = Wants {
            memory: true,
            pids: true,
            cpu: true,
        };
        let limits = Limits {
            cpu_millis: Some(1),
            memory_bytes: Some(1 << 20),
            pids: Some(7),
        };
        assert_eq!(
            settings("pids", &limits, &all),
            vec![Setting::required("pids.max", &7)]
        );
        assert_eq!(
            settings("cpu", &limits, &all),
            vec![Setting::required("cpu.max", &"1000 100000")]
        );
        assert_eq!(
            settings("memory", &limits, &all)[0],
            Setting::required("memory.max", &(1 << 20))
        );
    }
}
