//! Files of a model: mapped, or read whole up to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;
use thiserror::Error;

/// Why a file of a model cannot be read.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file cannot be opened, mapped or read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than anything sensible.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Our limit.
        limit: u64,
    },
    /// The file is not the JSON that it should be.
    #[error("cannot parse {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        source: serde_json::Error,
    },
}

/// Maps a file.
pub(crate) fn map(path: &Path) -> Result<Mmap, FileError> {
    let unreadable = |source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    #[expect(unsafe_code, reason = "mapping a file is the point")]
    // SAFETY: weight files in the cache are complete and never written in place: they are renamed into it.
    // JUSTIFICATION: the weights stay in the page cache, shared by all engines of a machine.
    unsafe { Mmap::map(&file) }.map_err(unreadable)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let count = file.take(limit + 1).read_to_end(&mut bytes);
    if limit < count.map_err(unreadable)? as u64 {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// Reads a JSON file of at most `limit` bytes, no deeper than the parser allows.
pub(crate) fn read_json(path: &Path, limit: u64) -> Result<Value, FileError> {
    serde_json::from_slice(&read(path, limit)?).map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })
}

/// As [`read_json`]; `None` if there is no such file.
pub(crate) fn read_optional_json(path: &Path, limit: u64) -> Result<Option<Value>, FileError> {
    if path.exists() {
        read_json(path, limit).map(Some)
    } else {
        Ok(None)
    }
}
