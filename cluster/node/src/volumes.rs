//! The volumes of a Pod as folders of the host.

pub(crate) mod payload;
pub(crate) mod prepare;
pub(crate) mod subpath;
pub(crate) mod token;
pub(crate) mod tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Where the Pods of this node have their folders.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) pods: PathBuf,
    /// Homes of PersistentVolumeClaims: `NAMESPACE-NAME`.
    pub(crate) volumes: PathBuf,
}

impl Folders {
    pub(crate) fn new(data_dir: &Path) -> io::Result<Self> {
        let folders = Self {
            pods: data_dir.join("pods"),
            volumes: data_dir.join("volumes"),
        };
        for folder in [&folders.pods, &folders.volumes] {
            fs::create_dir_all(folder)?;
        }
        Ok(folders)
    }

    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    /// The uids of the Pods that have a folder.
    pub(crate) fn uids(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.pods).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Unmounts and removes everything a Pod had.
    pub(crate) fn remove_pod(&self, uid: &str) -> io::Result<()> {
        let folder = self.pod(uid);
        unmount_below(&folder);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Mounts memory on an empty folder; `false` where this user may not, and the folder then lies on the disk.
pub(crate) fn mount_memory(folder: &Path, bytes_max: Option<u64>) -> bool {
    let options = bytes_max.map_or_else(
        || "mode=1777".to_owned(),
        |bytes| format!("mode=1777,size={bytes}"),
    );
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let Ok(options) = std::ffi::CString::new(options) else {
        return false;
    };
    mount("tmpfs", folder, "tmpfs", flags, options.as_c_str()).is_ok()
}

/// Unmounts what lies at or below a folder, deepest first.
pub(crate) fn unmount_below(folder: &Path) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in mount_points_below(&text, folder).into_iter().rev() {
        if let Err(error) = unmount(&point, UnmountFlags::DETACH) {
            tracing::warn!(path = %point.display(), %error, "mount not removed");
        }
    }
}

fn mount_points_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(folder))
        .collect()
}

/// Mount points write a space as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests;
