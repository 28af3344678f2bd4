//! The files of a home, and nothing outside it.
//!
//! Every path is resolved by the kernel below the home's directory (`openat2` with `RESOLVE_BENEATH`), so a link or a
//! rename that happens meanwhile cannot lead out of it. Nothing here ever opens a path by itself.

mod http;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use parking_lot::Mutex;
use protocol::workspace::{FileEntry, FileList};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, mkdirat, openat, openat2,
    renameat_with, statat, unlinkat,
};

use crate::fault::Refusal;

pub(crate) use self::http::router;

/// Entries of one listing.
const ENTRIES_MAX: usize = 10_000;
/// Bytes of one upload.
const UPLOAD_BYTES_MAX: u64 = 1 << 30;
const PATH_BYTES_MAX: usize = 4_096;
/// The kernel asks to try again when a rename raced with a resolution; an attacker can do that for ever.
const RACES_MAX: usize = 64;

/// A home directory.
#[derive(Debug)]
pub(crate) struct Home {
    dir: OwnedFd,
    path: PathBuf,
    /// One writer at a time, so that `If-Match` is checked against what is replaced.
    writes: Mutex<()>,
}

/// A path below the home, free of `..` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HomePath {
    inner: PathBuf,
    shown: String,
}

/// When a write may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Precondition {
    Always,
    /// The file exists.
    Exists,
    /// The file does not exist.
    Absent,
    /// The file has one of these tags.
    Tag(Vec<String>),
}

/// A file that is being written, unseen under a name of its own.
#[derive(Debug)]
pub(crate) struct Upload {
    folder: OwnedFd,
    draft: String,
    file: File,
    written: u64,
    kept: bool,
}

impl Home {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self {
            dir: rustix::fs::open(path, flags, Mode::empty())?,
            path: path.to_owned(),
            writes: Mutex::new(()),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what a client sent: relative to the home, or absolute in it.
    pub(crate) fn parse(&self, text: &str) -> Result<HomePath, Refusal> {
        let invalid = |why: &str| Refusal::Invalid(format!("the path is {why}"));
        if text.contains('\0') {
            return Err(invalid("not text without zero bytes"));
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(invalid("too long"));
        }
        let path = Path::new(text);
        let below = if path.is_absolute() {
            path.strip_prefix(&self.path).map_err(|_| {
                Refusal::Denied(format!(
                    "{text} lies outside the home {}",
                    self.path.display()
                ))
            })?
        } else {
            path
        };
        let mut inner = PathBuf::new();
        for part in below.components() {
            match part {
                Component::Normal(name) => inner.push(name),
                Component::CurDir => {}
                Component::ParentDir => {
                    return Err(Refusal::Denied(format!("{text} has `..` in it")));
                }
                Component::RootDir | Component::Prefix(_) => {
                    return Err(invalid("not below the home"));
                }
            }
        }
        let shown = if inner.as_os_str().is_empty() {
            ".".to_owned()
        } else {
            inner.display().to_string()
        };
        Ok(HomePath { inner, shown })
    }

    /// Opens a regular file for reading.
    pub(crate) fn read(&self, path: &HomePath) -> Result<File, Refusal> {
        // Without O_NONBLOCK a pipe without a writer would hold the thread for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(
            self.resolve(path.place(), flags)
                .map_err(Refusal::io(&path.shown))?,
        );
        let kind = file
            .metadata()
            .map_err(Refusal::io(&path.shown))?
            .file_type();
        if kind.is_dir() {
            return Err(Refusal::Invalid(format!("{} is a directory", path.shown)));
        }
        if !kind.is_file() {
            return Err(Refusal::Invalid(format!(
                "{} is no regular file",
                path.shown
            )));
        }
        Ok(file)
    }

    /// Lists a directory, by name.
    pub(crate) fn list(&self, path: &HomePath) -> Result<FileList, Refusal> {
        let refuse = |error: rustix::io::Errno| Refusal::from_io(&path.shown, &error.into());
        let dir = self
            .resolve(path.place(), OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(Refusal::io(&path.shown))?;
        let mut names = Vec::new();
        let mut truncated = false;
        for entry in Dir::read_from(&dir).map_err(refuse)? {
            let entry = entry.map_err(refuse)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if names.len() == ENTRIES_MAX {
                truncated = true;
                break;
            }
            names.push(name.to_owned());
        }
        names.sort();
        // What vanished meanwhile is left out.
        let entries = names
            .iter()
            .filter_map(|name| entry(dir.as_fd(), name))
            .collect();
        Ok(FileList { entries, truncated })
    }

    /// Starts a write; nothing is seen of it before [`Home::finish`]. Missing folders are made.
    pub(crate) fn begin(&self, path: &HomePath) -> Result<Upload, Refusal> {
        let Some(folder) = path
            .inner
            .parent()
            .filter(|_| path.inner.file_name().is_some())
        else {
            return Err(Refusal::Invalid("a file needs a name".to_owned()));
        };
        let folder = self.make_folder(folder).map_err(Refusal::io(&path.shown))?;
        let draft = format!(".quarterdeck-{}.draft", uuid::Uuid::now_v7().simple());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&folder, draft.as_str(), flags, Mode::from_raw_mode(0o644))
            .map_err(|error| Refusal::from_io(&path.shown, &error.into()))?;
        Ok(Upload {
            folder,
            draft,
            file: File::from(file),
            written: 0,
            kept: false,
        })
    }

    /// Makes a written file appear under its name, all at once.
    pub(crate) fn finish(
        &self,
        path: &HomePath,
        mut upload: Upload,
        condition: &Precondition,
    ) -> Result<String, Refusal> {
        let Some(name) = path.inner.file_name() else {
            return Err(Refusal::Invalid("a file needs a name".to_owned()));
        };
        upload.file.sync_data().map_err(Refusal::io(&path.shown))?;
        let _one_writer = self.writes.lock();
        let present = statat(&upload.folder, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        if present.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()) {
            return Err(Refusal::Conflict(format!("{} is a directory", path.shown)));
        }
        let present_tag = present.map(|stat| {
            tag_of(
                stat.st_ino,
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
                stat.st_size,
            )
        });
        if !condition.holds(present_tag.as_deref()) {
            return Err(Refusal::Stale);
        }
        // A program in the workspace does not take our lock: the kernel refuses to replace what was not there.
        let flags = if matches!(condition, Precondition::Absent) {
            RenameFlags::NOREPLACE
        } else {
            RenameFlags::empty()
        };
        match renameat_with(
            &upload.folder,
            upload.draft.as_str(),
            &upload.folder,
            name,
            flags,
        ) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(Refusal::Stale),
            Err(error) => return Err(Refusal::from_io(&path.shown, &error.into())),
        }
        upload.kept = true;
        tag(&upload.file).map_err(Refusal::io(&path.shown))
    }

    /// Deletes a file or an empty directory.
    pub(crate) fn delete(&self, path: &HomePath) -> Result<(), Refusal> {
        let (Some(name), Some(folder)) = (path.inner.file_name(), path.inner.parent()) else {
            return Err(Refusal::Denied("the home itself stays".to_owned()));
        };
        let _one_writer = self.writes.lock();
        let folder = self
            .resolve(place(folder), OFlags::PATH | OFlags::DIRECTORY)
            .map_err(Refusal::io(&path.shown))?;
        let outcome = match unlinkat(&folder, name, AtFlags::empty()) {
            Err(rustix::io::Errno::ISDIR) => unlinkat(&folder, name, AtFlags::REMOVEDIR),
            outcome => outcome,
        };
        outcome.map_err(|error| Refusal::from_io(&path.shown, &error.into()))
    }

    /// Whether a directory below the home exists, for a program to start in.
    pub(crate) fn has_folder(&self, path: &HomePath) -> Result<(), Refusal> {
        self.resolve(path.place(), OFlags::PATH | OFlags::DIRECTORY)
            .map(drop)
            .map_err(Refusal::io(&path.shown))
    }

    fn make_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let mut reached = PathBuf::from(".");
        let mut folder = self.resolve(&reached, OFlags::PATH | OFlags::DIRECTORY)?;
        for part in path.components() {
            reached.push(part);
            folder = match self.resolve(&reached, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match mkdirat(
                        &folder,
                        Path::new(part.as_os_str()),
                        Mode::from_raw_mode(0o755),
                    ) {
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    self.resolve(&reached, OFlags::PATH | OFlags::DIRECTORY)?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(folder)
    }

    /// The only way to a file: below the home, through no magic link.
    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES_MAX {
            match openat2(
                &self.dir,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                rules,
            ) {
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                outcome => return outcome.map_err(Into::into),
            }
        }
        Err(io::Error::other("the path changes too fast"))
    }
}

impl HomePath {
    /// For `openat2`, which takes no empty path.
    fn place(&self) -> &Path {
        place(&self.inner)
    }

    /// As a program sees it.
    pub(crate) fn absolute(&self, home: &Path) -> PathBuf {
        home.join(&self.inner)
    }
}

impl Precondition {
    fn holds(&self, tag: Option<&str>) -> bool {
        match self {
            Self::Always => true,
            Self::Exists => tag.is_some(),
            Self::Absent => tag.is_none(),
            Self::Tag(wanted) => tag.is_some_and(|tag| wanted.iter().any(|wanted| wanted == tag)),
        }
    }
}

impl Upload {
    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8], path: &HomePath) -> Result<(), Refusal> {
        self.written += bytes.len() as u64;
        if self.written > UPLOAD_BYTES_MAX {
            return Err(Refusal::TooLarge(format!(
                "{} is larger than {UPLOAD_BYTES_MAX} bytes",
                path.shown
            )));
        }
        self.file.write_all(bytes).map_err(Refusal::io(&path.shown))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = unlinkat(&self.folder, self.draft.as_str(), AtFlags::empty()) {
            tracing::debug!(%error, "draft not removed");
        }
    }
}

/// Changes whenever a file's content may have.
pub(crate) fn tag(file: &File) -> io::Result<String> {
    let meta = file.metadata()?;
    Ok(tag_of(
        meta.ino(),
        meta.mtime(),
        meta.mtime_nsec(),
        i64::try_from(meta.len()).unwrap_or(0),
    ))
}

fn tag_of(inode: u64, seconds: i64, nanos: i64, size: i64) -> String {
    format!("\"{inode:x}-{seconds:x}.{nanos:x}-{size:x}\"")
}

fn place(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

fn entry(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Option<FileEntry> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => "other",
    };
    Some(FileEntry {
        name: name.to_string_lossy().into_owned(),
        kind: kind.to_owned(),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat.st_mtime,
    })
}

/// Reads at most so many bytes; for small files.
pub(crate) fn read_bounded(file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
