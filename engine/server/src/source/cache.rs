//! The cache: complete sources under their names, partial ones beside them, a lock for each.
//!
//! ```text
//! <cache>/<source>-<hash>/                     complete; the whole folder was renamed to here
//! <cache>/<source>-<hash>/.quarterdeck.json    what it holds: names, lengths, digests
//! <cache>/.partial/<source>-<hash>/parts/      files that come
//! <cache>/.partial/<source>-<hash>/files/      files that have come
//! <cache>/.partial/<source>-<hash>/blobs/      archives, until they are unpacked
//! <cache>/.partial/<source>-<hash>.lock        locked by who fetches
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::Fetched;
use super::digest;
use super::error::FetchError;
use super::manifest::Manifest;
use super::name::{FileName, MANIFEST};

/// How often a waiting engine looks whether the other one is done.
const LOCK_INTERVAL: Duration = Duration::from_millis(250);
const READABLE_LENGTH_MAX: usize = 80;

/// The place of one source.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    cache: PathBuf,
    folder: PathBuf,
    partial: PathBuf,
    lock: PathBuf,
}

impl Entry {
    /// The place of the source with this address; what may be secret in it does not show in names.
    pub(super) fn new(cache_dir: &Path, uri: &str) -> Self {
        let plain = |character: char| {
            if character.is_ascii_alphanumeric() || "._".contains(character) {
                character
            } else {
                '-'
            }
        };
        let public = public_part(uri);
        let readable: String = public
            .chars()
            .map(plain)
            .take(READABLE_LENGTH_MAX)
            .collect();
        let readable = readable.trim_start_matches('.');
        let name = format!("{readable}-{}", digest::short_name(uri));
        let partial = cache_dir.join(".partial");
        Self {
            cache: cache_dir.to_owned(),
            folder: cache_dir.join(&name),
            lock: partial.join(format!("{name}.lock")),
            partial: partial.join(name),
        }
    }

    /// The folder for what is not complete.
    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    /// The folder of files that have come.
    pub(super) fn files(&self) -> PathBuf {
        self.partial.join("files")
    }

    /// The folder of archives that have come.
    pub(super) fn blobs(&self) -> PathBuf {
        self.partial.join("blobs")
    }

    /// Where a file is while it comes.
    pub(super) fn part(&self, path: &Path) -> PathBuf {
        let path = path.to_string_lossy();
        self.partial.join("parts").join(digest::short_name(&path))
    }

    /// Waits until nobody else fetches this source. The lock is gone with the process, however it ends.
    pub(super) async fn lock(&self) -> Result<File, FetchError> {
        let fail = |source| FetchError::cache(&self.lock, source);
        let parts = self.partial.join("parts");
        fs::create_dir_all(&parts).map_err(|source| FetchError::cache(&parts, source))?;
        let file = File::options()
            .create(true)
            .append(true)
            .open(&self.lock)
            .map_err(fail)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => sleep(LOCK_INTERVAL).await,
                Err(TryLockError::Error(source)) => return Err(fail(source)),
            }
        }
        // Who had the lock before has removed them.
        fs::create_dir_all(&parts).map_err(|source| FetchError::cache(&parts, source))?;
        Ok(file)
    }

    /// What is in the cache, if it is whole and the one that is wanted.
    pub(super) fn find(&self, sha256: Option<&str>) -> Option<Fetched> {
        let manifest = Manifest::read(&self.folder)?;
        let is_wanted = sha256.is_none_or(|sha256| manifest.digest() == sha256);
        is_wanted.then(|| manifest.fetched(&self.folder))
    }

    /// Finishes what a process had complete when it ended. Needs the lock.
    pub(super) fn finish(&self) -> Result<(), FetchError> {
        let files = self.files();
        if Manifest::read(&files).is_some() {
            return self.place();
        }
        remove_if_there(&files.join(MANIFEST))
    }

    /// Makes the files visible, all at once. Needs the lock.
    pub(super) fn admit(&self, manifest: &Manifest) -> Result<Fetched, FetchError> {
        manifest.purge(&self.files())?;
        manifest.write(&self.files())?;
        self.place()?;
        Ok(manifest.fetched(&self.folder))
    }

    fn place(&self) -> Result<(), FetchError> {
        let fail = |source| FetchError::cache(&self.folder, source);
        let old = self.partial.join("old");
        if self.folder.exists() {
            clear(&old)?;
            // Engines that have the old files open keep them.
            fs::rename(&self.folder, &old).map_err(fail)?;
        }
        fs::rename(self.files(), &self.folder).map_err(fail)?;
        sync_folder(&self.cache)?;
        self.clear_partial();
        Ok(())
    }

    /// Removes what a fetch has so far.
    pub(super) fn clear_partial(&self) {
        // What stays is overwritten or continued by the next fetch.
        drop(fs::remove_dir_all(&self.partial));
    }
}

/// An address without query, fragment and user, which may hold secrets.
pub(super) fn public_part(uri: &str) -> String {
    let uri = uri.split(['?', '#']).next().unwrap_or_default();
    match uri.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        _ => uri.to_owned(),
    }
}

/// Moves a file that has come to its place.
pub(super) fn settle(part: &Path, place: &Path) -> Result<(), FetchError> {
    let fail = |source| FetchError::cache(place, source);
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    fs::rename(part, place).map_err(fail)
}

/// Makes renames in a folder last.
pub(super) fn sync_folder(folder: &Path) -> Result<(), FetchError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| FetchError::cache(folder, source))
}

pub(super) fn clear(folder: &Path) -> Result<(), FetchError> {
    gone(fs::remove_dir_all(folder), folder)
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), FetchError> {
    gone(fs::remove_file(path), path)
}

fn gone(removed: io::Result<()>, path: &Path) -> Result<(), FetchError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FetchError::cache(path, error))
        }
        _ => Ok(()),
    }
}

/// The name of a single file: the last part of its address, made plain.
pub(super) fn plain_name(last: &str) -> FileName {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || "._-".contains(character) {
            character
        } else {
            '-'
        }
    };
    let name: String = last.chars().map(plain).take(READABLE_LENGTH_MAX).collect();
    let name = name.trim_start_matches('.');
    FileName::try_from(name).unwrap_or_else(|_| FileName::gguf())
}
