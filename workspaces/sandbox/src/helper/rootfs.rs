//! The root file system of a sandbox: the host's own `/usr` or an image, the caller's mounts, and nothing else.
//!
//! What comes from the host is cloned while the host's root is still there ([`gather`]), and put together on the stage
//! when it is gone ([`assemble`]).

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, openat2};
use rustix::mount::{MountFlags, mount};

use super::namespaces::mapped_user_namespace;
use super::stage::{self, Manner};
use crate::plan::{Identity, RunPlan};
use crate::{Defence, Mount, MountKind, Rootfs, SandboxError, SandboxSpec};

/// Names of the host's root that are links into `/usr`, or directories of the same use.
const HOST_NAMES: [&str; 5] = ["bin", "sbin", "lib", "lib32", "lib64"];
/// What programs need to find their libraries, certificates and alternatives.
const HOST_CONFIG: [&str; 6] = [
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ssl/certs",
    "etc/ca-certificates",
    "etc/alternatives",
    "etc/pki/tls/certs",
];
const FOLDERS: [&str; 9] = [
    "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var/tmp",
];
/// The root itself holds only generated files.
const ROOT_BYTES_MAX: u64 = 16 << 20;
const TMP_BYTES_MAX: u64 = 1 << 30;

/// Trees of the host, cloned and not attached.
#[derive(Debug)]
pub(super) struct Gathered {
    base: Base,
    mounts: Vec<(Mount, Option<OwnedFd>)>,
    owner: u32,
}

#[derive(Debug)]
enum Base {
    /// Read-only trees of the host and links, by their place.
    HostUsr {
        trees: Vec<(PathBuf, OwnedFd, bool)>,
        links: Vec<(PathBuf, PathBuf)>,
    },
    Image(OwnedFd),
    /// The host's root as it is; only without [`Defence::OwnRootfs`].
    Host(OwnedFd),
}

/// Clones what the sandbox needs of the host.
pub(super) fn gather(plan: &RunPlan) -> Result<Gathered, SandboxError> {
    let shifted = match plan.identity {
        Identity::Range(range) if plan.profile.has(Defence::UserNamespace) => Some(range.first),
        Identity::Range(_) | Identity::Caller => None,
    };
    let ids = shifted
        .map(mapped_user_namespace)
        .transpose()
        .map_err(SandboxError::step("make a user namespace for mounts"))?;
    let base = if plan.profile.has(Defence::OwnRootfs) {
        match &plan.spec.rootfs {
            Rootfs::HostUsr => host_usr(ids.as_ref())?,
            Rootfs::Directory(path) => Base::Image(image(path, ids.as_ref())?),
        }
    } else {
        Base::Host(
            stage::clone_tree(Path::new("/"))
                .map_err(SandboxError::step("clone the host's root"))?,
        )
    };
    let mut mounts = Vec::new();
    for wanted in &plan.spec.mounts {
        let tree = match &wanted.kind {
            MountKind::Bind { source, writable } => {
                Some(bind(source, *writable, &plan.spec, ids.as_ref())?)
            }
            MountKind::Tmpfs { .. } => None,
        };
        mounts.push((wanted.clone(), tree));
    }
    Ok(Gathered {
        base,
        mounts,
        owner: shifted.unwrap_or(0),
    })
}

fn host_usr(ids: Option<&OwnedFd>) -> Result<Base, SandboxError> {
    let mut trees = Vec::new();
    let mut links = Vec::new();
    for name in HOST_NAMES {
        let path = Path::new("/").join(name);
        match fs::read_link(&path) {
            Ok(target) => links.push((PathBuf::from(name), target)),
            Err(_) if path.is_dir() => {
                trees.push((PathBuf::from(name), readonly(&path, ids)?, true));
            }
            Err(_) => {}
        }
    }
    trees.push((
        PathBuf::from("usr"),
        readonly(Path::new("/usr"), ids)?,
        true,
    ));
    for name in HOST_CONFIG {
        let path = Path::new("/").join(name);
        if path.exists() {
            let is_dir = path.is_dir();
            trees.push((PathBuf::from(name), readonly(&path, ids)?, is_dir));
        }
    }
    Ok(Base::HostUsr { trees, links })
}

/// A read-only clone. Where the file system cannot shift ids its files belong to nobody inside, which hurts nothing.
fn readonly(path: &Path, ids: Option<&OwnedFd>) -> Result<OwnedFd, SandboxError> {
    let shown = path.display();
    let tree = stage::clone_tree(path).map_err(SandboxError::step(format!("clone {shown}")))?;
    let manner = Manner {
        readonly: true,
        nosuid: true,
        nodev: true,
        noexec: false,
    };
    stage::set_manner(&tree, manner)
        .map_err(SandboxError::step(format!("make {shown} read-only")))?;
    if let Some(ids) = ids
        && stage::map_ids(&tree, ids).is_err()
    {
        let plain =
            stage::clone_tree(path).map_err(SandboxError::step(format!("clone {shown}")))?;
        stage::set_manner(&plain, manner)
            .map_err(SandboxError::step(format!("make {shown} read-only")))?;
        return Ok(plain);
    }
    Ok(tree)
}

/// An image's files must appear as the ids inside, or half of it is unreadable.
fn image(path: &Path, ids: Option<&OwnedFd>) -> Result<OwnedFd, SandboxError> {
    let shown = path.display();
    let tree =
        stage::clone_tree(path).map_err(SandboxError::step(format!("clone the image {shown}")))?;
    let manner = Manner {
        readonly: true,
        nosuid: false,
        nodev: true,
        noexec: false,
    };
    stage::set_manner(&tree, manner)
        .map_err(SandboxError::step(format!("make {shown} read-only")))?;
    if let Some(ids) = ids {
        stage::map_ids(&tree, ids)
            .map_err(SandboxError::step(format!("shift the ids of {shown}")))?;
    }
    Ok(tree)
}

/// A bind of the caller's. A writable one gets its ids shifted, so that the inside owner is the owner on disk.
fn bind(
    source: &Path,
    writable: bool,
    spec: &SandboxSpec,
    ids: Option<&OwnedFd>,
) -> Result<OwnedFd, SandboxError> {
    let shown = source.display();
    if !writable {
        return readonly(source, ids);
    }
    if ids.is_some() && source.is_dir() {
        // An empty volume belongs to whoever made it; programs must be able to write to it.
        let owner =
            rustix::fs::stat(source).map_err(SandboxError::step(format!("look at {shown}")))?;
        if (owner.st_uid, owner.st_gid) != (spec.uid, spec.gid) {
            chownat(
                CWD,
                source,
                Some(Uid::from_raw(spec.uid)),
                Some(Gid::from_raw(spec.gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(SandboxError::step(format!("own {shown}")))?;
        }
    }
    let tree = stage::clone_tree(source).map_err(SandboxError::step(format!("clone {shown}")))?;
    let manner = Manner {
        readonly: false,
        nosuid: true,
        nodev: true,
        noexec: false,
    };
    stage::set_manner(&tree, manner).map_err(SandboxError::step(format!("bind {shown}")))?;
    if let Some(ids) = ids {
        stage::map_ids(&tree, ids).map_err(SandboxError::step(format!(
            "shift the ids of {shown} (its file system must support id-mapped mounts)"
        )))?;
    }
    Ok(tree)
}

impl Gathered {
    /// Puts it together at [`stage::ROOTFS`].
    pub(super) fn assemble(self, spec: &SandboxSpec) -> Result<(), SandboxError> {
        let root = Path::new(stage::ROOTFS);
        let owner = self.owner;
        match &self.base {
            Base::HostUsr { .. } | Base::Image(_) => {
                stage::tmpfs(ROOT_BYTES_MAX, "755", Some((owner, owner)))
                    .and_then(|tree| stage::attach(&tree, root))
                    .map_err(SandboxError::step("make the root file system"))?;
            }
            Base::Host(_) => {}
        }
        match self.base {
            Base::HostUsr { trees, links } => {
                skeleton(root, spec, &links)
                    .map_err(SandboxError::step("fill the root file system"))?;
                for (place, _, is_dir) in &trees {
                    mount_point(&open_root(root)?, place, *is_dir, 0)?;
                }
                chown_tree(root, owner).map_err(SandboxError::step("own the root file system"))?;
                for (place, tree, _) in &trees {
                    stage::attach(tree, &root.join(place))
                        .map_err(SandboxError::step(format!("attach /{}", place.display())))?;
                }
            }
            Base::Image(lower) => overlay(root, &lower, owner)?,
            Base::Host(tree) => {
                stage::attach(&tree, root).map_err(SandboxError::step("attach the host's root"))?;
            }
        }
        attach_mounts(&open_root(root)?, &self.mounts, spec, owner)
    }
}

/// The image below, generated files above; what is above is memory.
fn overlay(root: &Path, lower: &OwnedFd, owner: u32) -> Result<(), SandboxError> {
    let attempt = || -> io::Result<()> {
        stage::attach(lower, Path::new(stage::LOWER))?;
        for name in ["upper", "work"] {
            fs::create_dir(root.join(name))?;
        }
        let upper = root.join("upper");
        std::os::unix::fs::chown(&upper, Some(owner), Some(owner))?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            stage::LOWER,
            upper.display(),
            root.join("work").display()
        );
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        // Devices in an image are nobody's business; set-user-id programs gain nothing under `no_new_privs`.
        mount(
            "overlay",
            root,
            "overlay",
            MountFlags::NODEV,
            options.as_c_str(),
        )
        .map_err(Into::into)
    };
    attempt().map_err(SandboxError::step(
        "lay the image under the root file system",
    ))?;
    let tree = open_root(root)?;
    for folder in ["dev", "proc", "sys", "tmp"] {
        mount_point(&tree, Path::new(folder), true, owner)?;
    }
    Ok(())
}

fn attach_mounts(
    root: &OwnedFd,
    mounts: &[(Mount, Option<OwnedFd>)],
    spec: &SandboxSpec,
    owner: u32,
) -> Result<(), SandboxError> {
    let has_tmp = mounts
        .iter()
        .any(|(mount, _)| mount.target == Path::new("/tmp"));
    if !has_tmp {
        let tmp = stage::tmpfs(TMP_BYTES_MAX, "1777", Some((owner, owner)))
            .map_err(SandboxError::step("make /tmp"))?;
        let target = mount_point(root, Path::new("tmp"), true, owner)?;
        stage::attach_at(&tmp, &target).map_err(SandboxError::step("attach /tmp"))?;
    }
    for (wanted, tree) in mounts {
        let shown = wanted.target.display();
        let place = wanted.target.strip_prefix("/").unwrap_or(&wanted.target);
        let target = mount_point(root, place, tree.as_ref().is_none_or(is_directory), owner)?;
        let outcome = match (tree, &wanted.kind) {
            (Some(tree), _) => stage::attach_at(tree, &target),
            (None, MountKind::Tmpfs { bytes_max }) => {
                let ids = (owner + spec.uid, owner + spec.gid);
                stage::tmpfs(*bytes_max, "755", Some(ids))
                    .and_then(|tree| stage::attach_at(&tree, &target))
            }
            (None, MountKind::Bind { .. }) => Ok(()),
        };
        outcome.map_err(SandboxError::step(format!("attach {shown}")))?;
    }
    Ok(())
}

fn is_directory(tree: &OwnedFd) -> bool {
    rustix::fs::fstat(tree)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

fn open_root(root: &Path) -> Result<OwnedFd, SandboxError> {
    rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(SandboxError::step("open the root file system"))
}

/// Opens a place in the root for a mount, making what is missing; links in an image cannot lead out of it.
fn mount_point(
    root: &OwnedFd,
    place: &Path,
    is_dir: bool,
    owner: u32,
) -> Result<OwnedFd, SandboxError> {
    let attempt = || -> io::Result<OwnedFd> {
        let mut reached = PathBuf::from(".");
        let mut at = resolve(root, &reached)?;
        let parts: Vec<_> = place.components().collect();
        for (index, part) in parts.iter().enumerate() {
            reached.push(part);
            let is_last = index + 1 == parts.len();
            at = match resolve(root, &reached) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_place(&at, Path::new(part.as_os_str()), is_dir || !is_last, owner)?;
                    resolve(root, &reached)?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(at)
    };
    attempt().map_err(SandboxError::step(format!(
        "make a place for /{}",
        place.display()
    )))
}

fn make_place(folder: &OwnedFd, name: &Path, is_dir: bool, owner: u32) -> io::Result<()> {
    if is_dir {
        mkdirat(folder, name, Mode::from_raw_mode(0o755))?;
    } else {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o644))?;
    }
    let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
    chownat(
        folder,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(Into::into)
}

fn resolve(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    openat2(
        root.as_fd(),
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(Into::into)
}

/// Generated files: who is who inside, and no name server, since there is no network.
fn skeleton(root: &Path, spec: &SandboxSpec, links: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    for (name, target) in links {
        std::os::unix::fs::symlink(target, root.join(name))?;
    }
    let home = spec.env.get("HOME").map_or("/", String::as_str);
    let (uid, gid) = (spec.uid, spec.gid);
    let own_user = if uid == 0 {
        String::new()
    } else {
        format!("workspace:x:{uid}:{gid}::{home}:/bin/sh\n")
    };
    let own_group = if gid == 0 {
        String::new()
    } else {
        format!("workspace:x:{gid}:\n")
    };
    let files = [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/bin/sh\n{own_user}nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
            ),
        ),
        ("group", format!("root:x:0:\n{own_group}nogroup:x:65534:\n")),
        (
            "hosts",
            format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost\n", spec.hostname),
        ),
        ("hostname", format!("{}\n", spec.hostname)),
        ("resolv.conf", String::new()),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
        ),
    ];
    for (name, text) in files {
        fs::write(root.join("etc").join(name), text)?;
    }
    Ok(())
}

/// Gives generated files to the inside root.
fn chown_tree(path: &Path, owner: u32) -> io::Result<()> {
    if owner == 0 {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(owner), Some(owner))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            chown_tree(&entry?.path(), owner)?;
        }
    }
    Ok(())
}
