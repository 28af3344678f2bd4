//! Unpacks a layer below a folder and nowhere else.
//!
//! Invariant: every path is resolved by the kernel with that folder as its root (`RESOLVE_IN_ROOT`), so neither `..`, nor an
//! absolute path, nor a link of an earlier layer leads out of it. Device nodes, owners and set-id bits are not taken over.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::fs::{chmodat, linkat, mkdirat, openat, openat2, statat, symlinkat, unlinkat};
use tar::{Archive, Entry, EntryType};

const BYTES_MAX: u64 = 32 << 30;
const ENTRIES_MAX: u64 = 2_000_000;
const DEPTH_MAX: usize = 256;

/// What one image may still unpack to.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: u64,
    entries: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: BYTES_MAX,
            entries: ENTRIES_MAX,
        }
    }
}

impl Budget {
    fn spend(&mut self, bytes: u64) -> io::Result<()> {
        let too_large = || invalid("the image is larger than this node unpacks");
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(too_large)?;
        self.entries = self.entries.checked_sub(1).ok_or_else(too_large)?;
        Ok(())
    }
}

/// Unpacks one layer over what lies in `root`.
pub(super) fn layer(
    blob: &Path,
    media_type: &str,
    root: &Path,
    budget: &mut Budget,
) -> io::Result<()> {
    let file = BufReader::new(File::open(blob)?);
    let bytes: Box<dyn Read> = if media_type.ends_with("gzip") {
        Box::new(MultiGzDecoder::new(file))
    } else if media_type.ends_with("tar") {
        Box::new(file)
    } else {
        return Err(invalid(&format!(
            "layers of type {media_type} are not supported, only tar and gzip"
        )));
    };
    let root = openat(
        rustix::fs::CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut archive = Archive::new(bytes);
    for entry in archive.entries()? {
        let mut entry = entry?;
        budget.spend(entry.size())?;
        place(&root, &mut entry)?;
    }
    Ok(())
}

fn place(root: &OwnedFd, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let path = plain(&entry.path()?)?;
    let Some(name) = path.file_name().map(ToOwned::to_owned) else {
        return Ok(());
    };
    let parent = folder(root, path.parent().unwrap_or(Path::new("")))?;
    if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
        if hidden == b".wh..opq" {
            return empty(&parent);
        }
        let hidden = Path::new(std::ffi::OsStr::from_bytes(hidden));
        return if hidden.components().count() == 1 {
            remove(&parent, hidden)
        } else {
            Ok(())
        };
    }
    let name = Path::new(&name);
    let mode = Mode::from_bits_truncate(entry.header().mode()? & 0o777);
    match entry.header().entry_type() {
        EntryType::Directory => make_folder(&parent, name, mode),
        EntryType::Regular | EntryType::Continuous => {
            remove(&parent, name)?;
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?);
            io::copy(entry, &mut file)?;
            Ok(rustix::fs::fchmod(&file, mode)?)
        }
        EntryType::Symlink => {
            let target = entry
                .link_name()?
                .ok_or_else(|| invalid("a link has no target"))?;
            remove(&parent, name)?;
            Ok(symlinkat(target.as_ref(), &parent, name)?)
        }
        EntryType::Link => {
            let target = plain(
                &entry
                    .link_name()?
                    .ok_or_else(|| invalid("a link has no target"))?,
            )?;
            let from = folder(root, target.parent().unwrap_or(Path::new("")))?;
            let from_name = target
                .file_name()
                .ok_or_else(|| invalid("a link has no target"))?;
            remove(&parent, name)?;
            Ok(linkat(&from, from_name, &parent, name, AtFlags::empty())?)
        }
        // A sandbox has devices of its own.
        _ => Ok(()),
    }
}

/// The path without leading slashes and dots; one with `..` is refused.
fn plain(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(invalid(&format!(
                    "{} leads out of the image",
                    path.display()
                )));
            }
        }
    }
    if plain.components().count() > DEPTH_MAX {
        return Err(invalid("a path is nested too deeply"));
    }
    Ok(plain)
}

/// Opens a folder of the image, making what is missing of it.
fn folder(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let open = |path: &Path| {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        openat2(
            root,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )
    };
    match open(path) {
        Ok(folder) => return Ok(folder),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let parent = folder(root, path.parent().unwrap_or(Path::new("")))?;
    if let Some(name) = path.file_name() {
        make_folder(&parent, Path::new(name), Mode::from_bits_truncate(0o755))?;
    }
    Ok(open(path)?)
}

fn make_folder(parent: &OwnedFd, name: &Path, mode: Mode) -> io::Result<()> {
    // A folder we cannot enter could not be filled.
    let mode = mode | Mode::RWXU;
    match mkdirat(parent, name, mode) {
        Ok(()) => Ok(chmodat(parent, name, mode, AtFlags::empty())?),
        Err(rustix::io::Errno::EXIST) => {
            let kind =
                FileType::from_raw_mode(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
            if kind == FileType::Directory {
                return Ok(chmodat(parent, name, mode, AtFlags::empty())?);
            }
            remove(parent, name)?;
            Ok(mkdirat(parent, name, mode)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn remove(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            empty(&openat(parent, name, flags, Mode::empty())?)?;
            Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn empty(folder: &OwnedFd) -> io::Result<()> {
    let names: Vec<_> = Dir::read_from(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .collect();
    for name in names {
        remove(
            folder,
            Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())),
        )?;
    }
    Ok(())
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn archive(entries: &[(&str, EntryType, &str)]) -> tempfile::NamedTempFile {
        let mut builder = tar::Builder::new(tempfile::NamedTempFile::new().unwrap());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            let is_file = *kind == EntryType::Regular;
            header.set_size(if is_file { content.len() as u64 } else { 0 });
            if !is_file && !content.is_empty() {
                header.set_link_name_literal(content).unwrap();
            }
            let name = &mut header.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder
                .append(&header, if is_file { content.as_bytes() } else { b"" })
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack(root: &Path, entries: &[(&str, EntryType, &str)]) -> io::Result<()> {
        layer(
            archive(entries).path(),
            "application/vnd.oci.image.layer.v1.tar",
            root,
            &mut Budget::default(),
        )
    }

    #[test]
    fn later_layers_replace_and_hide_what_earlier_ones_had() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        unpack(
            root.path(),
            &[
                ("usr/bin/a", EntryType::Regular, "one"),
                ("bin", EntryType::Symlink, "usr/bin"),
                ("etc/x", EntryType::Regular, "x"),
                ("etc/y", EntryType::Regular, "y"),
                ("hard", EntryType::Link, "etc/y"),
            ],
        )
        .unwrap();
        unpack(
            root.path(),
            &[
                ("bin/b", EntryType::Regular, "two"),
                ("usr/bin/.wh.a", EntryType::Regular, ""),
                ("etc/.wh..wh..opq", EntryType::Regular, ""),
                ("etc/z", EntryType::Regular, "z"),
            ],
        )
        .unwrap();
        assert_eq!(
            fs::read_to_string(at("usr/bin/b")).unwrap(),
            "two",
            "links of the image are followed inside it"
        );
        assert_eq!(fs::read_to_string(at("hard")).unwrap(), "y");
        assert!(!at("usr/bin/a").exists() && !at("etc/x").exists() && at("etc/z").exists());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(at("usr/bin/b")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o7777, 0o755, "set-id bits are dropped");
    }

    #[test]
    fn no_entry_leads_out_of_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        unpack(&root, &[("../evil", EntryType::Regular, "x")]).unwrap_err();
        unpack(
            &root,
            &[
                ("link", EntryType::Symlink, "../.."),
                ("link/evil", EntryType::Regular, "x"),
            ],
        )
        .unwrap();
        unpack(
            &root,
            &[
                ("abs", EntryType::Symlink, "/tmp"),
                ("abs/evil-of-quarterdeck", EntryType::Regular, "x"),
            ],
        )
        .unwrap();
        unpack(&root, &[("hard", EntryType::Link, "../../etc/passwd")]).unwrap_err();
        assert!(!folder.path().join("evil").exists());
        assert!(!Path::new("/tmp/evil-of-quarterdeck").exists());
    }
}
