//! Reads a log back: from a line or a time on, bounded, and on demand as it grows.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, watch};

use super::line::{Stream, parse};
use super::{Logs, Progress, series};

const BUFFER_BYTES: usize = 64 * 1024;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogQuery {
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<u64>,
    /// Only this stream.
    pub(crate) stream: Option<Stream>,
}

/// Sends the log at `path` until it ends or the receiver goes away.
pub(crate) async fn read(
    logs: Logs,
    path: PathBuf,
    query: LogQuery,
    out: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut growing = if query.follow {
        logs.follow(&path)
    } else {
        None
    };
    let seen = growing
        .as_mut()
        .map(|receiver| *receiver.borrow_and_update());
    let files = series(&path);
    let mut output = Output {
        skip: 0,
        query: &query,
        sent: 0,
        at_line_start: true,
        out,
    };
    if let Some(tail) = query.tail_lines {
        output.skip = count_lines(&files, &output).await?.saturating_sub(tail);
    }
    let mut current = None;
    for file in &files {
        let mut reader = open(file).await?;
        if !output.copy(&mut reader).await? {
            return Ok(());
        }
        current = Some(reader);
    }
    match (growing, seen) {
        (Some(receiver), Some(seen)) => follow(receiver, seen, &path, current, output).await,
        _ => output.flush_partial().await,
    }
}

async fn follow(
    mut growing: watch::Receiver<Progress>,
    mut seen: Progress,
    path: &Path,
    mut current: Option<BufReader<File>>,
    mut output: Output<'_>,
) -> io::Result<()> {
    let mut rotations = seen.rotations;
    loop {
        if let Some(reader) = &mut current
            && !output.copy(reader).await?
        {
            return Ok(());
        }
        if seen.rotations != rotations || current.is_none() {
            rotations = seen.rotations;
            current = open(path).await.ok();
            if current.is_some() {
                continue;
            }
        }
        if seen.is_closed {
            return output.flush_partial().await;
        }
        tokio::select! {
            changed = growing.changed() => match changed {
                Ok(()) => seen = *growing.borrow_and_update(),
                // The writer is gone; what it wrote last is read once more.
                Err(_) => seen = Progress { is_closed: true, ..*growing.borrow() },
            },
            () = output.out.closed() => return Ok(()),
        }
    }
}

async fn open(path: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(
        BUFFER_BYTES,
        File::open(path).await?,
    ))
}

async fn count_lines(files: &[PathBuf], output: &Output<'_>) -> io::Result<u64> {
    let mut count = 0;
    for file in files {
        let mut reader = open(file).await?;
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await? > 0 {
            count += u64::from(output.counts(&line));
            line.clear();
        }
    }
    Ok(count)
}

struct Output<'a> {
    /// Full lines still to pass over.
    skip: u64,
    query: &'a LogQuery,
    sent: u64,
    at_line_start: bool,
    out: mpsc::Sender<Bytes>,
}

impl Output<'_> {
    fn wanted<'l>(&self, line: &'l [u8]) -> Option<super::line::Line<'l>> {
        let line = parse(line.strip_suffix(b"\n").unwrap_or(line))?;
        let in_time = self.query.since.is_none_or(|since| line.time >= since);
        let in_stream = self.query.stream.is_none_or(|stream| line.stream == stream);
        (in_time && in_stream).then_some(line)
    }

    fn counts(&self, line: &[u8]) -> bool {
        self.wanted(line).is_some_and(|line| line.is_full)
    }

    /// Copies what the reader holds; `false` when nothing more is wanted.
    async fn copy(&mut self, reader: &mut BufReader<File>) -> io::Result<bool> {
        let mut line = Vec::new();
        let mut batch = Vec::new();
        // A line is written whole, so one without an end is a file that ended in a crash.
        while reader.read_until(b'\n', &mut line).await? > 0 {
            let go_on = self.take(&line, &mut batch);
            line.clear();
            if !go_on || batch.len() >= BUFFER_BYTES {
                let sent = self.out.send(Bytes::from(std::mem::take(&mut batch))).await;
                if !go_on || sent.is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(batch.is_empty() || self.out.send(Bytes::from(batch)).await.is_ok())
    }

    fn take(&mut self, line: &[u8], batch: &mut Vec<u8>) -> bool {
        let Some(line) = self.wanted(line) else {
            return true;
        };
        if self.skip > 0 {
            self.skip -= u64::from(line.is_full);
            return true;
        }
        let before = batch.len();
        if self.query.timestamps && self.at_line_start {
            batch.extend_from_slice(line.stamp.as_bytes());
            batch.push(b' ');
        }
        batch.extend_from_slice(line.message);
        if line.is_full {
            batch.push(b'\n');
        }
        self.at_line_start = line.is_full;
        self.sent += (batch.len() - before) as u64;
        match self.query.limit_bytes {
            Some(limit) if self.sent >= limit => {
                let excess = usize::try_from(self.sent - limit).unwrap_or(0);
                batch.truncate(batch.len() - excess);
                false
            }
            _ => true,
        }
    }

    async fn flush_partial(&mut self) -> io::Result<()> {
        if !self.at_line_start {
            // The receiver may have left; there is nobody to tell then.
            drop(self.out.send(Bytes::from_static(b"\n")).await);
        }
        Ok(())
    }
}
