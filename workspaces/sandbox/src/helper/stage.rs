//! The stage: a root of the helper's own on which a sandbox is put together.
//!
//! It holds the sandbox's root file system, the few host devices libcontainer binds, `/proc`, and an empty place where
//! cgroups would be, so that libcontainer leaves those to us. The host's own root is gone before libcontainer runs: no
//! mistake in a path of a container can reach it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use crate::SandboxError;

/// The sandbox's root file system on the stage.
pub(super) const ROOTFS: &str = "/rootfs";
/// The lower layer of an image on the stage.
pub(super) const LOWER: &str = "/lower";
/// libcontainer's bundle on the stage.
pub(super) const BUNDLE: &str = "/bundle";
/// libcontainer's own state on the stage.
pub(super) const STATE: &str = "/state";
/// What libcontainer binds into every container.
const DEVICES: [&str; 6] = ["null", "zero", "full", "tty", "urandom", "random"];
/// Some directory of the host to mount on, in the helper's own mount namespace only.
const ANCHORS: [&str; 4] = ["/tmp", "/run", "/mnt", "/usr"];

/// How a mount behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    pub readonly: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

/// Clones a mount tree of the host, not attached anywhere.
pub(super) fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    open_tree(
        rustix::fs::CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .map_err(Into::into)
}

/// A new file system in memory, not attached anywhere.
pub(super) fn tmpfs(bytes_max: u64, mode: &str, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "size", bytes_max.to_string())?;
    fsconfig_set_string(context.as_fd(), "mode", mode)?;
    if let Some((uid, gid)) = owner {
        fsconfig_set_string(context.as_fd(), "uid", uid.to_string())?;
        fsconfig_set_string(context.as_fd(), "gid", gid.to_string())?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .map_err(Into::into)
}

/// Attaches a mount at a path that the helper sees.
pub(super) fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    move_mount(
        tree.as_fd(),
        "",
        rustix::fs::CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(Into::into)
}

/// Attaches a mount at an open directory or file.
pub(super) fn attach_at(tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    move_mount(
        tree.as_fd(),
        "",
        target.as_fd(),
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(Into::into)
}

/// Sets how a tree of mounts behaves.
pub(super) fn set_manner(tree: &OwnedFd, manner: Manner) -> io::Result<()> {
    let flags = [
        (manner.readonly, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (manner.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (manner.nodev, MountAttrFlags::MOUNT_ATTR_NODEV),
        (manner.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ];
    let set = flags
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |set, (_, flag)| set | u64::from(flag.bits()));
    set_attributes(tree, set, 0)
}

/// Makes files of a tree of mounts appear owned by a user namespace's ids.
pub(super) fn map_ids(tree: &OwnedFd, user_namespace: &OwnedFd) -> io::Result<()> {
    let descriptor = u64::try_from(user_namespace.as_raw_fd()).map_err(io::Error::other)?;
    set_attributes(tree, nix::libc::MOUNT_ATTR_IDMAP, descriptor)
}

fn set_attributes(tree: &OwnedFd, set: u64, user_namespace: u64) -> io::Result<()> {
    let attributes = nix::libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace,
    };
    // SAFETY: the path is a terminated string, the attributes are valid for the size given, and the kernel only reads them.
    // JUSTIFICATION: none of our dependencies wraps mount_setattr(2).
    let outcome = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            nix::libc::AT_EMPTY_PATH | nix::libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<nix::libc::mount_attr>(),
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes the stage the helper's root and lets go of the host's.
pub(super) fn enter() -> Result<(), SandboxError> {
    let attempt = || -> io::Result<()> {
        let processes = clone_tree(Path::new("/proc"))?;
        let devices = DEVICES
            .iter()
            .map(|name| clone_tree(&Path::new("/dev").join(name)).map(|tree| (*name, tree)))
            .collect::<io::Result<Vec<_>>>()?;
        let anchor = anchor()?;
        attach(&tmpfs(16 << 20, "755", None)?, anchor)?;
        // The working directory must be the stage's root before it becomes the root: relative paths stay below it.
        rustix::process::chdir(anchor)?;
        for folder in [
            "proc",
            "dev",
            "sys/fs/cgroup",
            &ROOTFS[1..],
            &LOWER[1..],
            &BUNDLE[1..],
            &STATE[1..],
            "host",
        ] {
            fs::create_dir_all(folder)?;
        }
        attach(&processes, Path::new("proc"))?;
        for (name, device) in &devices {
            let target = Path::new("dev").join(name);
            fs::File::create(&target)?;
            attach(device, &target)?;
        }
        attach(&tmpfs(4096, "755", None)?, Path::new("sys/fs/cgroup"))?;
        rustix::process::pivot_root(".", "host")?;
        rustix::process::chdir("/")?;
        unmount("host", UnmountFlags::DETACH)?;
        fs::remove_dir("host")
    };
    attempt().map_err(SandboxError::step("set the stage"))
}

fn anchor() -> io::Result<&'static Path> {
    ANCHORS
        .iter()
        .map(Path::new)
        .find(|path| path.is_dir())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "this host has no /tmp"))
}
