//! Container logs: files in the CRI format, one series for each attempt, and the news that they have grown.

pub(crate) mod line;
pub(crate) mod pump;
pub(crate) mod read;
pub(crate) mod writer;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::pod::wanted::PodId;

/// Attempts whose logs are kept: this one and the one before, for `--previous`.
const ATTEMPTS_KEPT: u32 = 2;

/// How far a log that is being written has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    /// How often the file was put aside for a new one.
    pub(crate) rotations: u32,
    pub(crate) is_closed: bool,
}

/// All logs of the node.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    root: PathBuf,
    growing: Arc<Mutex<HashMap<PathBuf, watch::Sender<Progress>>>>,
}

impl Logs {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            growing: Arc::default(),
        }
    }

    /// Where the log of one attempt is written.
    pub(crate) fn path(&self, pod: &PodId, container: &str, attempt: u32) -> PathBuf {
        self.root
            .join(pod.log_folder())
            .join(container)
            .join(format!("{attempt}.log"))
    }

    /// Starts the log of an attempt; older ones are removed.
    pub(crate) fn create(
        &self,
        pod: &PodId,
        container: &str,
        attempt: u32,
    ) -> io::Result<writer::LogFile> {
        let path = self.path(pod, container, attempt);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
            remove_before(folder, (attempt + 1).saturating_sub(ATTEMPTS_KEPT));
        }
        let (sender, _) = watch::channel(Progress::default());
        self.growing.lock().insert(path.clone(), sender.clone());
        writer::LogFile::create(path, sender, self.clone())
    }

    /// Follows a log; `None` if nothing writes it any more.
    pub(crate) fn follow(&self, path: &Path) -> Option<watch::Receiver<Progress>> {
        self.growing.lock().get(path).map(watch::Sender::subscribe)
    }

    pub(crate) fn closed(&self, path: &Path) {
        self.growing.lock().remove(path);
    }

    /// Removes every log of a Pod.
    pub(crate) fn remove(&self, pod: &PodId) {
        if let Err(error) = fs::remove_dir_all(self.root.join(pod.log_folder()))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(pod = %pod.name, namespace = %pod.namespace, %error, "logs not removed");
        }
    }

    /// Removes the logs of Pods that are not among `uids`.
    pub(crate) fn keep_only(&self, uids: &[String]) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !uids.iter().any(|uid| name.ends_with(&format!("_{uid}"))) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}

/// The files of one attempt, oldest first; the last one is the one being written.
pub(crate) fn series(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut old: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            Some((
                entry
                    .file_name()
                    .to_str()?
                    .strip_prefix(&prefix)?
                    .parse()
                    .ok()?,
                entry.path(),
            ))
        })
        .collect();
    old.sort();
    let mut files: Vec<PathBuf> = old.into_iter().map(|(_, path)| path).collect();
    if path.exists() {
        files.push(path.to_owned());
    }
    files
}

fn remove_before(folder: &Path, first_kept: u32) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let attempt = name
            .to_str()
            .and_then(|name| name.split('.').next()?.parse::<u32>().ok());
        if attempt.is_some_and(|attempt| attempt < first_kept) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests;
