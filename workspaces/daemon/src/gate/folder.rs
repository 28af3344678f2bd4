//! The gate's own folder, held open and never followed out of.
//!
//! It may lie in the home, where programs can put links in its way; and the gate may be root. So every file is opened
//! relative to the folder's descriptor and no link is ever followed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statat, unlinkat,
};

const PRIVATE_FOLDER: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A folder that only this process's user may enter.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: OwnedFd,
}

/// A file in a folder, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub modified: i64,
    pub bytes: u64,
    pub name: String,
}

impl Folder {
    /// Opens or makes a folder. One that is not ours alone was put there by a program: it is moved out of the way.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (
            path.parent(),
            path.file_name().and_then(|name| name.to_str()),
        ) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a folder needs a name",
            ));
        };
        std::fs::create_dir_all(parent)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(parent, flags, Mode::empty())?;
        Self::open_in(&parent, name)
    }

    /// A folder in this one.
    pub(crate) fn folder(&self, name: &str) -> io::Result<Self> {
        Self::open_in(&self.dir, name)
    }

    fn open_in(parent: &OwnedFd, name: &str) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(dir) = openat(parent, name, flags, Mode::empty())
            && is_private(&dir)?
        {
            return Ok(Self { dir });
        }
        if statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            let aside = format!("{name}.untrusted-{}", uuid::Uuid::now_v7().simple());
            tracing::warn!(folder = name, %aside, "a folder that is not the gate's own is moved aside");
            renameat(parent, name, parent, aside.as_str())?;
        }
        mkdirat(parent, name, PRIVATE_FOLDER)?;
        let dir = openat(parent, name, flags, Mode::empty())?;
        if is_private(&dir)? {
            Ok(Self { dir })
        } else {
            Err(io::Error::other("the folder was swapped"))
        }
    }

    /// Opens a file to append to it.
    pub(crate) fn append(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
        self.regular(name, flags)
    }

    /// Opens a file to read it.
    pub(crate) fn read(&self, name: &str) -> io::Result<File> {
        self.regular(name, OFlags::RDONLY | OFlags::NONBLOCK)
    }

    /// Makes a file that did not exist; one that did is removed first.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        match unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.regular(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    /// Gives a file another name, in place of one that has it.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        renameat(&self.dir, from, &self.dir, to).map_err(Into::into)
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        unlinkat(&self.dir, name, AtFlags::empty()).map_err(Into::into)
    }

    /// Makes names durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.dir).map_err(Into::into)
    }

    /// Its files.
    pub(crate) fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let Ok(stat) = statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                listed.push(Listed {
                    modified: stat.st_mtime,
                    bytes,
                    name: name.to_owned(),
                });
            }
        }
        Ok(listed)
    }

    fn regular(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, PRIVATE_FILE)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is no regular file",
            ));
        }
        Ok(File::from(file))
    }
}

fn is_private(dir: &OwnedFd) -> io::Result<bool> {
    let stat = fstat(dir)?;
    let others = Mode::RWXG | Mode::RWXO;
    let closed = !Mode::from_raw_mode(stat.st_mode).intersects(others);
    Ok(stat.st_uid == rustix::process::geteuid().as_raw() && closed)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "kept").unwrap();
        let folder = Folder::open(&dir.path().join("own")).unwrap();
        for name in ["a", "b", "c"] {
            symlink(&victim, dir.path().join("own").join(name)).unwrap();
        }
        assert!(folder.append("a").is_err());
        assert!(folder.read("b").is_err());
        folder.create("c").unwrap().write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(
            std::fs::read_to_string(dir.path().join("own/c")).unwrap(),
            "new"
        );
        assert_eq!(folder.list().unwrap().len(), 1);
    }

    #[test]
    fn a_folder_of_somebody_else_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::write(path.join("forged"), "").unwrap();
        assert_eq!(Folder::open(&path).unwrap().list().unwrap(), Vec::new());
        std::fs::remove_dir(&path).unwrap();
        symlink("/etc", &path).unwrap();
        assert_eq!(Folder::open(&path).unwrap().list().unwrap(), Vec::new());
        assert!(!path.is_symlink());
        let again = Folder::open(&path).unwrap();
        again.create("a").unwrap();
        assert_eq!(Folder::open(&path).unwrap().list().unwrap().len(), 1);
    }
}
