//! The audit: one JSON line for each program and each connection, in a file and in the log.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use super::folder::Folder;

const FILE: &str = "audit.jsonl";
const PREVIOUS_FILE: &str = "audit.1.jsonl";
/// A file larger than this becomes the previous one, and the one before that goes.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Longer commands are cut.
const COMMAND_BYTES_MAX: usize = 4_096;

/// One thing that happened.
#[derive(Debug, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(crate) enum Event {
    /// A program ended, or was not started.
    Exec {
        command: Vec<String>,
        cwd: Option<String>,
        id: Option<String>,
        /// Nothing if it was not started or its end is not known.
        code: Option<i32>,
        timed_out: bool,
        millis: u64,
        /// Answered from an earlier run.
        repeated: bool,
    },
    /// A connection was asked for.
    Egress {
        host: String,
        port: u16,
        allowed: bool,
        reason: Option<String>,
        address: Option<String>,
    },
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    time: Timestamp,
    #[serde(flatten)]
    event: &'a Event,
}

/// Where events go.
#[derive(Debug)]
pub(crate) struct Audit {
    folder: Arc<Folder>,
    file: Mutex<(File, u64)>,
}

impl Audit {
    pub(crate) fn open(folder: Arc<Folder>) -> io::Result<Self> {
        let file = folder.append(FILE)?;
        let length = file.metadata()?.len();
        Ok(Self {
            folder,
            file: Mutex::new((file, length)),
        })
    }

    /// Records an event. A full disk must not stop the workspace: the log has the event then.
    pub(crate) fn record(&self, event: &Event) {
        let line = Line {
            time: Timestamp::now(),
            event,
        };
        let Ok(mut text) = serde_json::to_string(&line) else {
            return;
        };
        tracing::info!(target: "audit", event = %text, "audit");
        text.push('\n');
        if let Err(error) = self.append(&text) {
            tracing::error!(%error, "audit not written");
        }
    }

    fn append(&self, text: &str) -> io::Result<()> {
        let mut file = self.file.lock();
        if file.1 > FILE_BYTES_MAX {
            self.folder.rename(FILE, PREVIOUS_FILE)?;
            *file = (self.folder.append(FILE)?, 0);
        }
        file.0.write_all(text.as_bytes())?;
        file.1 += text.len() as u64;
        Ok(())
    }
}

/// A command short enough for a line.
pub(crate) fn shorten(command: &[String]) -> Vec<String> {
    let mut left = COMMAND_BYTES_MAX;
    let mut short = Vec::new();
    for word in command {
        if left == 0 {
            short.push("…".to_owned());
            break;
        }
        let kept: String = word.chars().take(left).collect();
        left -= kept.chars().count().min(left);
        short.push(kept);
    }
    short
}

/// Whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
