//! The list of a source's files in the cache: names, lengths and digests, checked before it is written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task;

use super::cache::{remove_if_there, sync_folder};
use super::choose::Choice;
use super::digest::{self, Digest, Digests};
use super::error::FetchError;
use super::name::{FileName, MANIFEST};
use super::{Fetched, Phase, Progress};

const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// What a complete folder of the cache holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The address, without what may be secret.
    source: String,
    /// The commit or digest that the address stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    shape: Shape,
    files: Vec<Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    /// The model is one file.
    File(FileName),
    /// The model is this folder, empty for the top.
    Folder(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    name: FileName,
    bytes: u64,
    sha256: String,
}

/// What is known about a source beside its files.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) source: String,
    pub(super) revision: Option<String>,
    /// The digests that its files must have.
    pub(super) expected: BTreeMap<FileName, Digest>,
}

impl Manifest {
    /// Computes the digests of the chosen files under `folder` and checks them. A wrong file is removed.
    pub(super) async fn of(
        folder: &Path,
        choice: &Choice,
        origin: &Origin,
        progress: Progress<'_>,
    ) -> Result<Self, FetchError> {
        let mut names: Vec<FileName> = choice.names().into_iter().cloned().collect();
        names.sort();
        let paths = names.iter().map(|name| name.under(folder)).collect();
        let digests = digests_of(paths, progress).await?;
        let mut files = Vec::with_capacity(names.len());
        for (name, digests) in names.into_iter().zip(digests) {
            if let Some(expected) = origin.expected.get(&name)
                && let Err(error) = digests.check(expected)
            {
                // The next attempt must not continue a wrong file.
                remove_if_there(&name.under(folder))?;
                return Err(error);
            }
            let Digests { bytes, sha256, .. } = digests;
            files.push(Kept {
                name,
                bytes,
                sha256,
            });
        }
        let shape = match choice {
            Choice::File(name) => Shape::File(name.clone()),
            Choice::Folder { root, .. } => Shape::Folder(root.clone()),
        };
        Ok(Self {
            source: origin.source.clone(),
            revision: origin.revision.clone(),
            shape,
            files,
        })
    }

    /// The manifest of a folder, if all its files are there with their lengths.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let path = folder.join(MANIFEST);
        if MANIFEST_BYTES_MAX < fs::metadata(&path).ok()?.len() {
            return None;
        }
        let manifest: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let is_there = |kept: &Kept| {
            fs::metadata(kept.name.under(folder))
                .is_ok_and(|metadata| metadata.is_file() && metadata.len() == kept.bytes)
        };
        let names_a_file = match &manifest.shape {
            Shape::File(name) => manifest.files.iter().any(|kept| kept.name == *name),
            Shape::Folder(root) => root.is_empty() || FileName::try_from(root.as_str()).is_ok(),
        };
        (names_a_file && manifest.files.iter().all(is_there)).then_some(manifest)
    }

    /// Removes what earlier attempts have left in the folder and this model does not have.
    pub(super) fn purge(&self, folder: &Path) -> Result<(), FetchError> {
        let mut folders = vec![folder.to_owned()];
        while let Some(inner) = folders.pop() {
            let fail = |source| FetchError::cache(&inner, source);
            for entry in fs::read_dir(&inner).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                let path = entry.path();
                if entry.file_type().map_err(fail)?.is_dir() {
                    folders.push(path);
                } else if !self
                    .files
                    .iter()
                    .any(|kept| kept.name.under(folder) == path)
                {
                    remove_if_there(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Writes it into the folder, after everything that it lists is on the disk.
    pub(super) fn write(&self, folder: &Path) -> Result<(), FetchError> {
        let path = folder.join(MANIFEST);
        let fail = |source| FetchError::cache(&path, source);
        let mut folders: Vec<PathBuf> = Vec::new();
        for kept in &self.files {
            let place = kept.name.under(folder);
            let synced = File::open(&place).and_then(|file| file.sync_all());
            synced.map_err(|source| FetchError::cache(&place, source))?;
            folders.extend(place.parent().map(Path::to_owned));
        }
        let text = serde_json::to_vec_pretty(self).map_err(|error| {
            FetchError::Setup(format!("the manifest cannot be written: {error}"))
        })?;
        let mut file = File::create(&path).map_err(fail)?;
        file.write_all(&text).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        folders.push(folder.to_owned());
        folders.sort();
        folders.dedup();
        folders.iter().try_for_each(|folder| sync_folder(folder))
    }

    /// The digest of one file; for a folder that of the lines that `sha256sum` prints for its files, sorted by name.
    pub(super) fn digest(&self) -> String {
        match &self.shape {
            Shape::File(name) => {
                let kept = self.files.iter().find(|kept| kept.name == *name);
                kept.map(|kept| kept.sha256.clone()).unwrap_or_default()
            }
            Shape::Folder(root) => {
                let inner = |name: &FileName| {
                    let name = name.as_str();
                    let inner = name.strip_prefix(root.as_str()).unwrap_or(name);
                    inner.trim_start_matches('/').to_owned()
                };
                let mut lines: Vec<(String, &str)> = self
                    .files
                    .iter()
                    .map(|kept| (inner(&kept.name), kept.sha256.as_str()))
                    .collect();
                lines.sort();
                let lines: Vec<String> = lines
                    .iter()
                    .map(|(name, sha256)| format!("{sha256}  {name}\n"))
                    .collect();
                digest::of_bytes(lines.concat().as_bytes())
            }
        }
    }

    /// Checks the digest that somebody wants.
    pub(super) fn check(&self, sha256: Option<&str>) -> Result<(), FetchError> {
        let got = self.digest();
        match sha256.filter(|expected| **expected != got) {
            None => Ok(()),
            Some(expected) => Err(FetchError::DigestMismatch {
                expected: expected.to_owned(),
                got,
            }),
        }
    }

    /// Where the model lies when these files are under `folder`.
    pub(super) fn fetched(&self, folder: &Path) -> Fetched {
        match &self.shape {
            Shape::File(name) => Fetched::File(name.under(folder)),
            Shape::Folder(root) if root.is_empty() => Fetched::Folder(folder.to_owned()),
            Shape::Folder(root) => Fetched::Folder(folder.join(root)),
        }
    }

    /// Bytes of all files, and how many they are.
    pub(super) fn size(&self) -> (u64, usize) {
        let bytes = self.files.iter().map(|kept| kept.bytes).sum();
        (bytes, self.files.len())
    }
}

/// The digests of files, without holding up other tasks for long.
pub(super) async fn digests_of(
    paths: Vec<PathBuf>,
    progress: Progress<'_>,
) -> Result<Vec<Digests>, FetchError> {
    let lengths = paths
        .iter()
        .map(|path| fs::metadata(path).map(|metadata| metadata.len()));
    let total = lengths.sum::<Result<u64, _>>().ok();
    progress(Phase::Verifying, 0, total);
    let (sender, mut steps) = mpsc::unbounded_channel();
    let computed = task::spawn_blocking(move || {
        let mut before = 0;
        let one = |path: &PathBuf| {
            let digests = digest::of_file(path, &|done| {
                // Nobody listens any more if the fetch was dropped.
                let _ = sender.send(before + done);
            })?;
            before += digests.bytes;
            Ok(digests)
        };
        paths
            .iter()
            .map(one)
            .collect::<Result<Vec<_>, FetchError>>()
    });
    while let Some(done) = steps.recv().await {
        progress(Phase::Verifying, done, total);
    }
    computed.await.unwrap_or_else(|error| {
        let message = format!("computing the digest failed: {error}");
        Err(FetchError::Setup(message))
    })
}
