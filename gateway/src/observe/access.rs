//! The access log: one line of JSON for each request, in a file or on standard output.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use serde::Serialize;
use tokio::sync::oneshot;

use super::{Ended, context::hex, millis};

/// Lines that wait to be written.
const LINES_MAX: usize = 8192;
/// The path that stands for standard output.
const STDOUT: &str = "-";

/// Ends when the last line of a log is written.
pub(crate) type Written = oneshot::Receiver<()>;

/// The access log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// What a line tells; never anything of a prompt or an answer.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    id: &'a str,
    caller: &'a str,
    team: &'a str,
    route: &'a str,
    model: &'a str,
    target: &'a str,
    upstream_model: &'a str,
    operation: &'static str,
    status: u16,
    outcome: &'static str,
    stream: bool,
    cache: bool,
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
    cost_usd: String,
    queue_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    total_ms: f64,
    overhead_ms: Option<f64>,
    trace: Option<String>,
}

impl AccessLog {
    /// Opens the log; a file is appended to. What comes with it ends when the last line is written, after the log is
    /// dropped.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Written)> {
        let sink: Box<dyn Write + Send> = if path.as_os_str() == STDOUT {
            Box::new(io::stdout())
        } else {
            Box::new(OpenOptions::new().create(true).append(true).open(path)?)
        };
        let (sender, lines) = sync_channel(LINES_MAX);
        let (writing, written) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write_all(&lines, BufWriter::new(sink));
                drop(writing);
            })?;
        let log = Self {
            lines: sender,
            dropped: Arc::default(),
        };
        Ok((log, written))
    }

    /// Lines that were dropped because the disk could not keep up.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Adds a line, without waiting.
    pub(super) fn write(&self, ended: &Ended<'_>) {
        if self.lines.try_send(line(ended)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The line of a request, with its line break.
pub(super) fn line(ended: &Ended<'_>) -> Vec<u8> {
    let Ended {
        entry,
        upstream_model,
        provider: _,
        phases,
        watch,
        model_label: _,
    } = *ended;
    let line = Line {
        time: entry.started_at.to_string(),
        id: &entry.id,
        caller: &entry.key,
        team: &entry.team,
        route: &entry.route,
        model: &entry.model,
        target: &entry.target,
        upstream_model,
        operation: entry.operation.name(),
        status: entry.status,
        outcome: entry.outcome.word(),
        stream: entry.is_streamed,
        cache: entry.is_kept,
        prompt_tokens: entry.tokens.prompt,
        completion_tokens: entry.tokens.completion,
        cached_tokens: entry.tokens.cached.unwrap_or(0),
        cost_usd: crate::cost::dollars(entry.cost.nanos()),
        queue_ms: phases.queue.map(millis),
        first_byte_ms: phases.first_byte.map(millis),
        total_ms: millis(phases.total),
        overhead_ms: phases.overhead().map(millis),
        trace: watch.trace.as_ref().map(|trace| hex(&trace.id)),
    };
    // Lines serialise without fail; a line break in a text is escaped.
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Writes lines until the gateway has ended; they leave as soon as none is waiting.
fn write_all(lines: &Receiver<Vec<u8>>, mut sink: BufWriter<Box<dyn Write + Send>>) {
    while let Ok(first) = lines.recv() {
        let written = sink.write_all(&first).and_then(|()| {
            lines
                .try_iter()
                .try_for_each(|line| sink.write_all(&line))?;
            sink.flush()
        });
        if let Err(error) = written {
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
}
