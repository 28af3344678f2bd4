//! A part of a volume as a mount source; it cannot lead out of the volume.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Resolves `subpath` in `volume`, making folders that are missing.
pub(crate) fn resolve(volume: &Path, subpath: &str) -> io::Result<PathBuf> {
    let outside = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("subPath \"{subpath}\" leads out of the volume"),
        )
    };
    if !Path::new(subpath)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(outside());
    }
    let root = volume.canonicalize()?;
    let mut path = root.clone();
    for part in Path::new(subpath).components() {
        path.push(part);
        if fs::symlink_metadata(&path).is_err() {
            fs::create_dir(&path)?;
        }
        // A link in the volume may point anywhere; what it resolves to is what would be mounted.
        path = path.canonicalize()?;
        if !path.starts_with(&root) {
            return Err(outside());
        }
    }
    Ok(path)
}
