//! Carries a container's output into its log and to those attached to it.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast;

use super::line::{Splitter, Stream, format};
use super::writer::LogFile;
use crate::runtime::Reader;

const CHUNK_BYTES: usize = 8 * 1024;
/// Chunks that an attached client may lag behind before it loses some.
const ATTACHED_CHUNKS_MAX: usize = 256;

/// A piece of output as it came.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) is_stderr: bool,
    pub(crate) bytes: Bytes,
}

pub(crate) fn channel() -> broadcast::Sender<Chunk> {
    broadcast::channel(ATTACHED_CHUNKS_MAX).0
}

/// Runs until both streams end.
pub(crate) async fn pump(
    stdout: Reader,
    stderr: Option<Reader>,
    log: LogFile,
    attached: broadcast::Sender<Chunk>,
) {
    let log = Arc::new(Mutex::new(log));
    let out = carry(stdout, Stream::Stdout, &log, &attached);
    let err = async {
        if let Some(stderr) = stderr {
            carry(stderr, Stream::Stderr, &log, &attached).await;
        }
    };
    tokio::join!(out, err);
}

async fn carry(
    mut from: Reader,
    stream: Stream,
    log: &Mutex<LogFile>,
    attached: &broadcast::Sender<Chunk>,
) {
    let mut splitter = Splitter::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let bytes = &buffer[..count];
        if attached.receiver_count() > 0 {
            let chunk = Chunk {
                is_stderr: stream == Stream::Stderr,
                bytes: Bytes::copy_from_slice(bytes),
            };
            // The last listener may have left.
            drop(attached.send(chunk));
        }
        let now = Timestamp::now();
        let mut lines = Vec::new();
        for (message, is_full) in splitter.feed(bytes) {
            lines.extend(format(now, stream, is_full, &message));
        }
        if !lines.is_empty() {
            log.lock().write(&lines);
        }
    }
    if let Some(message) = splitter.finish() {
        log.lock()
            .write(&format(Timestamp::now(), stream, true, &message));
    }
}
