//! The cache: complete files under the names of their sources, partial ones beside them, a lock for each.
//!
//! ```text
//! <cache>/<source>-<hash>/<file>          complete; renamed to here
//! <cache>/<source>-<hash>/<file>.sha256   its digest and size, once known
//! <cache>/.partial/<source>-<hash>/       what a download has so far
//! <cache>/.partial/<source>-<hash>.lock   locked by who downloads
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::digest;
use super::error::FetchError;
use super::uri::Source;
use super::{Phase, Progress};

/// How often a waiting engine looks whether the other one is done.
const LOCK_INTERVAL: Duration = Duration::from_millis(250);
const FILE_NAME_DEFAULT: &str = "model.gguf";
const NAME_LENGTH_MAX: usize = 80;

/// The place of one source's file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    folder: PathBuf,
    partial: PathBuf,
    lock: PathBuf,
    file_name: String,
}

impl Entry {
    pub(super) fn new(cache_dir: &Path, uri: &str, source: &Source) -> Self {
        let plain = |character: char| {
            if character.is_ascii_alphanumeric() || "._".contains(character) {
                character
            } else {
                '-'
            }
        };
        let readable: String = uri.chars().map(plain).take(NAME_LENGTH_MAX).collect();
        let name = format!(
            "{}-{}",
            readable.trim_start_matches('.'),
            digest::short_name(uri)
        );
        let file_name: String = source
            .file_name()
            .unwrap_or(FILE_NAME_DEFAULT)
            .chars()
            .map(plain)
            .collect();
        let partial = cache_dir.join(".partial");
        Self {
            folder: cache_dir.join(&name),
            lock: partial.join(format!("{name}.lock")),
            partial: partial.join(name),
            file_name: file_name.trim_start_matches('.').to_owned(),
        }
    }

    /// The folder for what is not complete; exists while the lock is held.
    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Waits until nobody else fetches this source. The lock is gone with the process, however it ends.
    pub(super) async fn lock(&self) -> Result<File, FetchError> {
        let fail = |source| FetchError::cache(&self.lock, source);
        fs::create_dir_all(&self.partial)
            .map_err(|source| FetchError::cache(&self.partial, source))?;
        let file = File::options()
            .create(true)
            .append(true)
            .open(&self.lock)
            .map_err(fail)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => sleep(LOCK_INTERVAL).await,
                Err(TryLockError::Error(source)) => return Err(fail(source)),
            }
        }
    }

    /// The file, if it is in the cache and is the one that is wanted; another one is removed.
    pub(super) async fn find(
        &self,
        sha256: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<Option<PathBuf>, FetchError> {
        let path = self.folder.join(&self.file_name);
        let Ok(metadata) = fs::metadata(&path) else {
            return Ok(None);
        };
        let Some(expected) = sha256 else {
            return Ok(Some(path));
        };
        let note = fs::read_to_string(self.note()).unwrap_or_default();
        if note == note_of(expected, metadata.len())
            || digest_of(&path, progress).await? == expected
        {
            return Ok(Some(path));
        }
        fs::remove_file(&path).map_err(|source| FetchError::cache(&path, source))?;
        Ok(None)
    }

    /// Checks a fetched file and moves it into the cache.
    pub(super) async fn admit(
        &self,
        fetched: &Path,
        sha256: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<PathBuf, FetchError> {
        let got = digest_of(fetched, progress).await?;
        if let Some(expected) = sha256.filter(|expected| *expected != got) {
            // The next attempt must not continue a wrong file.
            self.clear_partial();
            return Err(FetchError::DigestMismatch {
                expected: expected.to_owned(),
                got,
            });
        }
        let fail = |source| FetchError::cache(&self.folder, source);
        fs::create_dir_all(&self.folder).map_err(fail)?;
        let path = self.folder.join(&self.file_name);
        File::open(fetched)
            .and_then(|file| file.sync_all())
            .map_err(fail)?;
        let length = fs::metadata(fetched).map_err(fail)?.len();
        fs::rename(fetched, &path).map_err(fail)?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(fail)?;
        // Without the note the digest is computed again at the next start.
        drop(fs::write(self.note(), note_of(&got, length)));
        self.clear_partial();
        Ok(path)
    }

    /// Removes what a download has so far.
    pub(super) fn clear_partial(&self) {
        // What stays is overwritten by the next download.
        drop(fs::remove_dir_all(&self.partial));
    }

    fn note(&self) -> PathBuf {
        self.folder.join(format!("{}.sha256", self.file_name))
    }
}

fn note_of(digest: &str, length: u64) -> String {
    format!("{digest} {length}\n")
}

/// The digest of a file, without holding up other tasks for long.
pub(super) async fn digest_of(path: &Path, progress: Progress<'_>) -> Result<String, FetchError> {
    progress(Phase::Verifying, 0, None);
    let (path, (sender, mut steps)) = (path.to_owned(), tokio::sync::mpsc::unbounded_channel());
    let digest = tokio::task::spawn_blocking(move || {
        digest::of_file(&path, &|_, done, total| {
            // Nobody listens any more if the fetch was dropped.
            let _ = sender.send((done, total));
        })
    });
    while let Some((done, total)) = steps.recv().await {
        progress(Phase::Verifying, done, total);
    }
    digest.await.unwrap_or_else(|error| {
        Err(FetchError::Setup(format!(
            "computing the digest failed: {error}"
        )))
    })
}
