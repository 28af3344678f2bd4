//! `exec` and `attach`: a program's streams over one WebSocket.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use futures::FutureExt;
use futures::stream::SplitStream;
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedMutexGuard, broadcast};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_util::io::StreamReader;

use super::Refusal;
use super::channels::{Outbox, Piece, V4, V5, next, split};
use super::query::{Parameters, find_container, find_pod};
use crate::context::NodeContext;
use crate::logs::pump::Chunk;
use crate::runtime::terminal::Terminal;
use crate::runtime::{Ended, ExecRequest, Reader, Session, Writer};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Output of a program that has ended is waited for this long; a daemon it left may hold the stream open for ever.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);
const MESSAGE_BYTES_MAX: usize = 4 << 20;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

pub(super) async fn exec(
    State(context): State<Arc<NodeContext>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    uri: Uri,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri);
    let door = find_pod(&context, &namespace, &pod)?;
    let (name, container) = find_container(&door, &container)?;
    let running = container.running.ok_or_else(|| not_running(&name))?;
    let request = ExecRequest {
        command: parameters.all("command").map(ToOwned::to_owned).collect(),
        stdin: parameters.is_set("stdin"),
        tty: parameters.is_set("tty"),
    };
    if request.command.is_empty() {
        return Err(Refusal::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    let wants = Wants::of(&parameters);
    let shutdown = context.shutdown.clone();
    Ok(websocket(upgrade)?.on_upgrade(move |socket| async move {
        let (outbox, sending, stream) = split(socket);
        let work = async move {
            match running.exec(request).await {
                Ok(session) => run(session, wants, outbox, stream).await,
                Err(error) => {
                    outbox
                        .send(STATUS, internal(&error.to_string()).to_string().as_bytes())
                        .await;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            ((), ()) = futures::future::join(sending, work) => {}
        }
    }))
}

pub(super) async fn attach(
    State(context): State<Arc<NodeContext>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    uri: Uri,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let parameters = Parameters::of(&uri);
    let door = find_pod(&context, &namespace, &pod)?;
    let (name, container) = find_container(&door, &container)?;
    let (Some(running), Some(output)) = (container.running, container.output) else {
        return Err(not_running(&name));
    };
    let wants = Wants::of(&parameters);
    let stdin = match container.stdin.filter(|_| parameters.is_set("stdin")) {
        Some(stdin) => Some(Box::new(HeldWriter(stdin.lock_owned().await)) as Writer),
        None => None,
    };
    let ended = running.ended();
    let session = Session {
        stdin,
        stdout: Some(listen(&output, false)),
        stderr: Some(listen(&output, true)),
        terminal: None,
        ended: async move { Ok(ended.await) }.boxed(),
    };
    drop(output);
    let shutdown = context.shutdown.clone();
    Ok(websocket(upgrade)?.on_upgrade(move |socket| async move {
        let (outbox, sending, stream) = split(socket);
        tokio::select! {
            () = shutdown.cancelled() => {}
            ((), ()) = futures::future::join(sending, run(session, wants, outbox, stream)) => {}
        }
    }))
}

pub(super) fn websocket(upgrade: Upgrade) -> Result<WebSocketUpgrade, Refusal> {
    let upgrade = upgrade.map_err(|error| {
        Refusal::bad_request(format!(
            "only WebSocket upgrades are served here ({error}); SPDY clients must use WebSockets"
        ))
    })?;
    Ok(upgrade
        .protocols([V5, V4])
        .max_message_size(MESSAGE_BYTES_MAX))
}

fn not_running(name: &str) -> Refusal {
    Refusal::bad_request(format!("container {name} is not running"))
}

/// Which streams the client wants.
#[derive(Clone, Copy)]
struct Wants {
    stdout: bool,
    stderr: bool,
}

impl Wants {
    fn of(parameters: &Parameters) -> Self {
        Self {
            stdout: parameters.is_set("stdout"),
            stderr: parameters.is_set("stderr"),
        }
    }
}

/// Carries the streams until the program ends or the client leaves, which ends the program.
async fn run(session: Session, wants: Wants, outbox: Outbox, stream: SplitStream<WebSocket>) {
    let Session {
        stdin,
        stdout,
        stderr,
        terminal,
        ended,
    } = session;
    let program = async {
        let output = futures::future::join(
            outbox.copy(STDOUT, stdout.filter(|_| wants.stdout)),
            outbox.copy(STDERR, stderr.filter(|_| wants.stderr)),
        );
        futures::pin_mut!(output);
        let mut ended = ended.fuse();
        let result = tokio::select! {
            result = &mut ended => {
                // What it wrote last may still be in the pipe.
                drop(tokio::time::timeout(OUTPUT_GRACE, output).await);
                result
            }
            _ = &mut output => ended.await,
        };
        let status = match result {
            Ok(ended) => status(ended),
            Err(error) => internal(&error.to_string()),
        };
        outbox.send(STATUS, status.to_string().as_bytes()).await;
    };
    tokio::select! {
        () = program => {}
        () = listen_to_client(stream, stdin, terminal) => {}
    }
}

async fn listen_to_client(
    mut stream: SplitStream<WebSocket>,
    mut stdin: Option<Writer>,
    terminal: Option<Terminal>,
) {
    while let Some(piece) = next(&mut stream).await {
        match piece {
            Piece::Data(STDIN, bytes) => {
                if let Some(writer) = &mut stdin
                    && writer.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Piece::Data(RESIZE, bytes) => {
                if let (Some(terminal), Some((columns, rows))) = (&terminal, size(&bytes))
                    && let Err(error) = terminal.resize(columns, rows)
                {
                    tracing::debug!(%error, "terminal not resized");
                }
            }
            Piece::End(STDIN) => {
                // A terminal has no end of input but the character for it.
                if let (Some(mut writer), Some(_)) = (stdin.take(), &terminal) {
                    drop(writer.write_all(&[4]).await);
                }
            }
            Piece::Data(..) | Piece::End(_) => {}
        }
    }
}

fn size(bytes: &[u8]) -> Option<(u16, u16)> {
    let size: Value = serde_json::from_slice(bytes).ok()?;
    let side = |name: &str| {
        size.get(name)
            .and_then(Value::as_u64)
            .and_then(|side| u16::try_from(side).ok())
    };
    Some((side("Width")?, side("Height")?))
}

/// How the program ended, as a Status.
fn status(ended: Ended) -> Value {
    if ended.code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {}", ended.code),
        "details": {"causes": [{"reason": "ExitCode", "message": ended.code.to_string()}]},
    })
}

fn internal(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500})
}

/// One stream of a container's live output.
fn listen(output: &broadcast::Sender<Chunk>, stderr: bool) -> Reader {
    let chunks = BroadcastStream::new(output.subscribe()).filter_map(move |chunk| match chunk {
        Ok(chunk) if chunk.is_stderr == stderr => Some(Ok::<_, std::io::Error>(chunk.bytes)),
        // A client that lags behind misses what it did not take.
        _ => None,
    });
    Box::new(StreamReader::new(Box::pin(chunks)))
}

/// A container's standard input, held by one client at a time.
struct HeldWriter(OwnedMutexGuard<Writer>);

impl AsyncWrite for HeldWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Another client may attach later.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_as_a_cause() {
        let ended = |code| Ended {
            code,
            signal: None,
            out_of_memory: false,
        };
        assert_eq!(status(ended(0))["status"], "Success");
        let failed = status(ended(7));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(
            failed["details"]["causes"][0],
            json!({"reason": "ExitCode", "message": "7"})
        );
    }

    #[test]
    fn a_terminal_size_is_read_as_kubectl_sends_it() {
        assert_eq!(size(br#"{"Width":120,"Height":40}"#), Some((120, 40)));
        assert_eq!(size(br#"{"Width":70000,"Height":40}"#), None);
        assert_eq!(size(b"junk"), None);
    }
}
