//! Tries, in children that end at once, what this host lets us isolate.

use std::io;
use std::path::Path;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::thread::UnshareFlags;

use super::namespaces::{exit_now, map_single, unshare};
use crate::cgroup::Hierarchy;
use crate::domain;
use crate::isolation::Isolation;

/// Below this, programs inside could signal the sandbox's own daemon.
const LANDLOCK_ABI_WITH_SIGNALS: u32 = 6;

/// Finds out what this host lets us isolate.
pub(super) fn probe() -> Isolation {
    let root = rustix::process::geteuid().is_root() && maps_ranges();
    let user_namespace = holds(try_user_namespace);
    let hierarchy = Hierarchy::detect();
    let mut isolation = Isolation {
        root,
        user_namespace,
        other_namespaces: holds(try_other_namespaces),
        network_namespace: holds(try_network_namespace),
        own_proc: holds(try_own_proc),
        cgroups: hierarchy.controllers(),
        seccomp: has_seccomp(),
        landlock_abi: domain::abi(),
        missing: Vec::new(),
    };
    isolation.missing = missing(&isolation, &hierarchy);
    isolation
}

fn missing(isolation: &Isolation, hierarchy: &Hierarchy) -> Vec<String> {
    let mut missing = Vec::new();
    let mut claim = |holds: bool, text: &str| {
        if !holds {
            missing.push(text.to_owned());
        }
    };
    claim(
        isolation.user_namespace,
        "user namespaces (set kernel.unprivileged_userns_clone=1 and user.max_user_namespaces above 0, allow them in AppArmor, or run as root)",
    );
    claim(
        isolation.other_namespaces,
        "mount, process and message queue namespaces (the container this runs in must allow unshare and mount)",
    );
    claim(
        isolation.network_namespace,
        "network namespaces (the container this runs in must allow unshare)",
    );
    claim(
        isolation.own_proc,
        "a /proc of its own (the one seen here has parts covered, as in an unprivileged container; use procMount Unmasked)",
    );
    claim(
        isolation.seccomp,
        "system call filters (a kernel with CONFIG_SECCOMP_FILTER)",
    );
    claim(
        isolation.landlock_abi > 0,
        "Landlock (a kernel from 5.13 on with landlock among its lsm=)",
    );
    claim(
        isolation.landlock_abi == 0 || isolation.landlock_abi >= LANDLOCK_ABI_WITH_SIGNALS,
        "Landlock's signal scope (a kernel from 6.12 on)",
    );
    claim(
        isolation.root,
        "a range of user ids for each sandbox (root): programs run as the caller's own id, without capabilities",
    );
    if let Hierarchy::None(why) = hierarchy {
        missing.push(format!(
            "limits on memory, processes and processor time: {why}"
        ));
    }
    missing
}

/// Whether an attempt succeeds in a child.
fn holds(attempt: fn() -> io::Result<()>) -> bool {
    // SAFETY: the helper is single-threaded, so the child may do anything a process may do.
    // JUSTIFICATION: namespaces cannot be left again; only a process that ends can try them.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => exit_now(i32::from(attempt().is_err())),
        Ok(ForkResult::Parent { child }) => {
            matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0)))
        }
        Err(_) => false,
    }
}

/// User 0 of a user namespace that maps one id cannot map a range for others.
fn maps_ranges() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        map.split_whitespace()
            .nth(2)
            .and_then(|size| size.parse().ok())
            .is_some_and(|size: u64| size > 0x7fff_0000)
    })
}

fn try_user_namespace() -> io::Result<()> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    unshare(UnshareFlags::NEWUSER)?;
    map_single(uid, gid)
}

fn try_other_namespaces() -> io::Result<()> {
    try_user_namespace()?;
    unshare(
        UnshareFlags::NEWNS
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWCGROUP,
    )
}

fn try_network_namespace() -> io::Result<()> {
    try_user_namespace()?;
    unshare(UnshareFlags::NEWNET)
}

/// The kernel refuses a new `/proc` to those who see only a part of the old one.
fn try_own_proc() -> io::Result<()> {
    try_other_namespaces()?;
    // SAFETY: as in `holds`.
    // JUSTIFICATION: a process enters its new pid namespace by being born in it.
    match unsafe { fork() }? {
        ForkResult::Child => exit_now(i32::from(mount_proc().is_err())),
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            _ => Err(io::Error::other("a new /proc was refused")),
        },
    }
}

fn mount_proc() -> io::Result<()> {
    use std::os::fd::AsFd;
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    Ok(())
}

fn has_seccomp() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
        || std::fs::read_to_string("/proc/self/status")
            .is_ok_and(|status| status.contains("\nSeccomp:"))
}
