//! Writes a volume's files so that readers see either all old files or all new ones: `..data` points at the current set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileContent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
}

/// The files of a volume by their path in it.
pub(crate) type Payload = BTreeMap<String, FileContent>;

const CURRENT: &str = "..data";

/// Makes `folder` hold exactly `payload`. Returns whether anything changed.
pub(crate) fn write(folder: &Path, payload: &Payload) -> io::Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    fs::create_dir_all(folder)?;
    let current = fs::read_link(folder.join(CURRENT)).ok();
    if let Some(current) = &current
        && holds(&folder.join(current), payload)
    {
        return Ok(false);
    }
    let fresh = format!("..{}", Timestamp::now().as_nanosecond());
    for (path, content) in payload {
        let file = folder.join(&fresh).join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, &content.bytes)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(content.mode))?;
    }
    fs::create_dir_all(folder.join(&fresh))?;
    let staged = folder.join("..data_tmp");
    drop(fs::remove_file(&staged));
    symlink(&fresh, &staged)?;
    fs::rename(&staged, folder.join(CURRENT))?;
    link_names(folder, payload)?;
    if let Some(old) = current {
        drop(fs::remove_dir_all(folder.join(old)));
    }
    Ok(true)
}

/// Each top-level name is a link into the current set, so that a swap of one link changes them all.
fn link_names(folder: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload
        .keys()
        .filter_map(|path| path.split('/').next())
        .collect();
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with("..")) else {
            continue;
        };
        if !names.contains(name) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in names {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(CURRENT).join(name), link)?;
        }
    }
    Ok(())
}

fn holds(folder: &Path, payload: &Payload) -> bool {
    let same = payload.iter().all(|(path, content)| {
        let file = folder.join(path);
        fs::read(&file).is_ok_and(|bytes| bytes == content.bytes)
            && fs::metadata(&file)
                .is_ok_and(|metadata| metadata.permissions().mode() & 0o777 == content.mode & 0o777)
    });
    same && count_files(folder) == payload.len()
}

fn count_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                count_files(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

fn check_path(path: &str) -> io::Result<()> {
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if plain && !path.is_empty() && !path.starts_with("..") {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("\"{path}\" is no path inside a volume"),
    ))
}

/// Makes a folder and everything in it readable for others, as volumes are.
pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<PathBuf> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(path.to_owned())
}
