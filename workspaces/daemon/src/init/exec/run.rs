//! One program from its start to its end, and everything it said.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use protocol::workspace::{ExecEvent, Exit};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use workspaces_sandbox::Stdio;
use workspaces_sandbox::confine::{Confined, Confinement, ProgramSpec, kill_tree};

use crate::fault::Refusal;
use crate::init::orphans::Orphans;

/// Bytes of output that are told, of both streams together; the program may write more.
const OUTPUT_BYTES_MAX: usize = 4 << 20;
const CHUNK_BYTES: usize = 32 << 10;
/// What was written before the end arrives within this; a program left in the background may hold the pipe for ever.
const DRAIN_MAX: Duration = Duration::from_millis(300);

/// What a program said so far, for any number of listeners.
#[derive(Debug)]
pub(super) struct Run {
    lines: Mutex<Vec<Bytes>>,
    state: watch::Sender<State>,
    unwanted: CancellationToken,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    lines: usize,
    ended: bool,
}

/// A program that was started, and its streams.
pub(super) struct Started {
    program: Confined,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Starts a program; blocks for a millisecond.
pub(super) fn spawn(
    confinement: &Confinement,
    orphans: &Orphans,
    spec: &ProgramSpec,
) -> Result<Started, Refusal> {
    let pipe = || {
        pipe_with(PipeFlags::CLOEXEC)
            .map_err(|error| Refusal::Internal(format!("no pipe: {error}")))
    };
    let (stdin, our_stdin) = pipe()?;
    let (our_stdout, stdout) = pipe()?;
    let (our_stderr, stderr) = pipe()?;
    let program = orphans.claim(
        || {
            confinement.spawn(
                spec,
                Stdio {
                    stdin,
                    stdout,
                    stderr,
                },
            )
        },
        Confined::keeper_pid,
    )?;
    Ok(Started {
        program,
        stdin: our_stdin,
        stdout: our_stdout,
        stderr: our_stderr,
    })
}

impl Default for Run {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            state: watch::Sender::default(),
            unwanted: CancellationToken::new(),
        }
    }
}

impl Run {
    /// Waits for a line; `None` after the last.
    pub(super) async fn line(&self, index: usize) -> Option<Bytes> {
        let mut state = self.state.subscribe();
        let reached = state
            .wait_for(|state| state.lines > index || state.ended)
            .await
            .ok()?
            .lines;
        if index < reached {
            self.lines.lock().get(index).cloned()
        } else {
            None
        }
    }

    /// Nobody wants to know any more: the program is killed.
    pub(super) fn give_up(&self) {
        self.unwanted.cancel();
    }

    /// It never started.
    pub(super) fn fail(&self) {
        self.state.send_modify(|state| state.ended = true);
    }

    /// Watches a program to its end.
    pub(super) async fn watch(
        &self,
        started: Started,
        stdin: Vec<u8>,
        timeout: Duration,
        orphans: &Orphans,
        shutdown: &CancellationToken,
    ) {
        let keeper = started.program.keeper_pid();
        self.say(
            &ExecEvent::Started {
                pid: started.program.pid(),
            },
            false,
        );
        let exit = match self
            .follow(started, stdin, timeout, orphans, shutdown)
            .await
        {
            Ok(exit) => exit,
            Err(error) => {
                tracing::error!(%error, "program lost");
                kill(keeper).await;
                Exit {
                    code: 137,
                    ..Exit::default()
                }
            }
        };
        orphans.release(keeper);
        self.say(&ExecEvent::Exit(exit), true);
    }

    async fn follow(
        &self,
        started: Started,
        stdin: Vec<u8>,
        timeout: Duration,
        orphans: &Orphans,
        shutdown: &CancellationToken,
    ) -> std::io::Result<Exit> {
        let Started {
            mut program,
            stdin: write_stdin,
            stdout,
            stderr,
        } = started;
        let keeper = program.keeper_pid();
        let mut end = tokio::task::spawn_blocking(move || program.reap());
        let mut output = Output::new(self, stdout, stderr)?;
        let feed = feed(Sender::from_owned_fd(write_stdin)?, stdin);
        tokio::pin!(feed);
        let (mut fed, mut timed_out, mut killed) = (false, false, false);
        let deadline = sleep_until(Instant::now() + timeout);
        tokio::pin!(deadline);
        let ended = loop {
            tokio::select! {
                end = &mut end => break end.map_err(std::io::Error::other)?.map_err(std::io::Error::other)?,
                () = output.next(), if output.is_open() => {}
                () = &mut feed, if !fed => fed = true,
                () = &mut deadline, if !killed => { timed_out = true; killed = true; kill(keeper).await; }
                () = self.unwanted.cancelled(), if !killed => { killed = true; kill(keeper).await; }
                () = shutdown.cancelled(), if !killed => { killed = true; kill(keeper).await; }
            }
        };
        if ended.is_none() && !killed {
            // A program killed its keeper to get out of its reach: what has no keeper goes.
            orphans.sweep();
        }
        let code = ended.unwrap_or(128 + nix::libc::SIGKILL);
        output.drain(sleep_until(Instant::now() + DRAIN_MAX)).await;
        Ok(Exit {
            code,
            timed_out,
            truncated: output.truncated,
        })
    }

    fn say(&self, event: &ExecEvent, last: bool) {
        let mut line = serde_json::to_vec(event).unwrap_or_default();
        line.push(b'\n');
        let mut lines = self.lines.lock();
        lines.push(Bytes::from(line));
        let count = lines.len();
        drop(lines);
        self.state.send_modify(|state| {
            state.lines = count;
            state.ended |= last;
        });
    }
}

/// Both output streams of a program, up to the limit.
struct Output<'a> {
    run: &'a Run,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    piece: Vec<u8>,
    other_piece: Vec<u8>,
    left: usize,
    truncated: bool,
}

impl<'a> Output<'a> {
    fn new(run: &'a Run, stdout: OwnedFd, stderr: OwnedFd) -> std::io::Result<Self> {
        Ok(Self {
            run,
            stdout: Some(Receiver::from_owned_fd(stdout)?),
            stderr: Some(Receiver::from_owned_fd(stderr)?),
            piece: vec![0; CHUNK_BYTES],
            other_piece: vec![0; CHUNK_BYTES],
            left: OUTPUT_BYTES_MAX,
            truncated: false,
        })
    }

    fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Reads and tells one piece of either stream. Cancel safe: a piece that was read is told without waiting.
    async fn next(&mut self) {
        tokio::select! {
            count = read(&mut self.stdout, &mut self.piece), if self.stdout.is_some() => {
                let data = self.keep(count, |output| &output.piece);
                self.tell(data.map(|data| ExecEvent::Stdout { data }));
            }
            count = read(&mut self.stderr, &mut self.other_piece), if self.stderr.is_some() => {
                let data = self.keep(count, |output| &output.other_piece);
                self.tell(data.map(|data| ExecEvent::Stderr { data }));
            }
        }
    }

    /// What may still be told of a piece, in base64.
    fn keep(&mut self, count: usize, piece: impl FnOnce(&Self) -> &Vec<u8>) -> Option<String> {
        let kept = count.min(self.left);
        self.truncated |= kept < count;
        self.left -= kept;
        (kept > 0).then(|| STANDARD.encode(&piece(self)[..kept]))
    }

    fn tell(&self, event: Option<ExecEvent>) {
        if let Some(event) = event {
            self.run.say(&event, false);
        }
    }

    async fn drain(&mut self, limit: Sleep) {
        let mut limit: Pin<Box<Sleep>> = Box::pin(limit);
        while self.is_open() {
            tokio::select! {
                biased;
                () = self.next() => {}
                () = &mut limit => return,
            }
        }
    }
}

/// Reads a piece; closes the stream at its end.
async fn read(stream: &mut Option<Receiver>, buffer: &mut [u8]) -> usize {
    let Some(open) = stream else {
        return 0;
    };
    match open.read(buffer).await {
        Ok(count) if count > 0 => count,
        Ok(_) | Err(_) => {
            *stream = None;
            0
        }
    }
}

/// Writes standard input and closes it. A program that does not read it is no error.
async fn feed(mut pipe: Sender, bytes: Vec<u8>) {
    if let Err(error) = pipe.write_all(&bytes).await {
        tracing::debug!(%error, "standard input not read to its end");
    }
}

async fn kill(keeper: u32) {
    if let Err(error) = tokio::task::spawn_blocking(move || kill_tree(keeper)).await {
        tracing::error!(%error, "kill lost");
    }
}
