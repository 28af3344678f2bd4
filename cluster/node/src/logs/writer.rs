//! The file that one attempt's output goes to, put aside for a new one when it is large.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use tokio::sync::watch;

use super::{Logs, Progress, series};

/// A file larger than this is put aside.
const FILE_BYTES_MAX: u64 = 10 << 20;
/// Files of one attempt that are kept.
const FILES_MAX: usize = 5;

/// An open log; closing it tells the followers.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    file_bytes: u64,
    file_bytes_max: u64,
    progress: watch::Sender<Progress>,
    logs: Logs,
    /// The disk refused the last write; said once until it takes one again.
    is_failing: bool,
}

impl LogFile {
    pub(super) fn create(
        path: PathBuf,
        progress: watch::Sender<Progress>,
        logs: Logs,
    ) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let file_bytes = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            file_bytes,
            file_bytes_max: FILE_BYTES_MAX,
            progress,
            logs,
            is_failing: false,
        })
    }

    #[cfg(test)]
    pub(super) fn with_limit(mut self, bytes: u64) -> Self {
        self.file_bytes_max = bytes;
        self
    }

    /// Appends whole lines. What a full disk refuses is lost, and said.
    pub(crate) fn write(&mut self, lines: &[u8]) {
        if self.file_bytes > 0 && self.file_bytes + lines.len() as u64 > self.file_bytes_max {
            self.rotate();
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.is_failing = false;
                self.file_bytes += lines.len() as u64;
                self.progress
                    .send_modify(|progress| progress.bytes += lines.len() as u64);
            }
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!(path = %self.path.display(), %error, "log lines lost");
            }
            Err(_) => {}
        }
    }

    fn rotate(&mut self) {
        let old = series(&self.path);
        let next = old
            .iter()
            .rev()
            .find_map(|path| path.extension()?.to_str()?.parse::<u32>().ok())
            .map_or(1, |n| n + 1);
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".{next}"));
        let moved = fs::rename(&self.path, aside).and_then(|()| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)
        });
        match moved {
            Ok(file) => {
                self.file = file;
                self.file_bytes = 0;
                self.progress
                    .send_modify(|progress| progress.rotations += 1);
                let excess = (old.len() + 1).saturating_sub(FILES_MAX);
                for path in old.iter().take(excess) {
                    drop(fs::remove_file(path));
                }
            }
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "log not rotated"),
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.progress
            .send_modify(|progress| progress.is_closed = true);
        self.logs.closed(&self.path);
    }
}
