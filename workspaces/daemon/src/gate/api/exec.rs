//! Running programs: each is told to the audit, and one with an id is run once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use protocol::workspace::{ExecEvent, ExecRequest, Exit};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Gate;
use crate::fault::Refusal;
use crate::gate::audit::{Event, millis, shorten};

const LINES: &str = "application/x-ndjson";
/// Pieces that a slow client may be behind before the program is made to wait.
const PIECES_MAX: usize = 64;

/// `POST /v1/exec`
pub(super) async fn handle(
    State(gate): State<Arc<Gate>>,
    request: Result<Json<ExecRequest>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(request) = request.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge(rejection.body_text()),
        _ => Refusal::Invalid(rejection.body_text()),
    })?;
    if let Some(events) = known(&gate, &request).await? {
        record(&gate, &request, last_exit(&events), Duration::ZERO, true);
        return Ok(answer(Body::from(events)));
    }
    let started = Instant::now();
    let running = start(&gate, &request).await?;
    if running.status() != StatusCode::OK {
        record(&gate, &request, None, started.elapsed(), false);
        let (parts, body) = running.into_parts();
        return Ok(Response::from_parts(parts, Body::new(body)));
    }
    let (pieces, listener) = mpsc::channel(PIECES_MAX);
    // On its own, so that a program with an id is kept whole though its listener has gone.
    let follower = follow(
        Arc::clone(&gate),
        request,
        running.into_body(),
        pieces,
        started,
    );
    gate.tasks.spawn(follower);
    Ok(answer(Body::from_stream(
        ReceiverStream::new(listener).map(Ok::<_, std::convert::Infallible>),
    )))
}

fn answer(body: Body) -> Response {
    ([(CONTENT_TYPE, LINES)], body).into_response()
}

async fn known(gate: &Arc<Gate>, request: &ExecRequest) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(id) = request.id.clone() else {
        return Ok(None);
    };
    let (results, request) = (Arc::clone(&gate.results), request.clone());
    tokio::task::spawn_blocking(move || results.find(&id, &request))
        .await
        .map_err(|error| Refusal::Internal(format!("a look-up was lost: {error}")))?
}

async fn start(gate: &Gate, request: &ExecRequest) -> Result<http::Response<Incoming>, Refusal> {
    let internal = |error: String| Refusal::Internal(error);
    let body = serde_json::to_vec(request).map_err(|error| internal(error.to_string()))?;
    let request = Request::post("/v1/exec")
        .header(HOST, "workspace")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(|error| internal(error.to_string()))?;
    gate.init.send(request).await
}

/// Passes a program's events on to its end, then keeps and records them.
async fn follow(
    gate: Arc<Gate>,
    request: ExecRequest,
    mut body: Incoming,
    pieces: mpsc::Sender<Bytes>,
    started: Instant,
) {
    let mut whole = Vec::new();
    let mut listens = true;
    let mut exit = None;
    while let Some(frame) = next(&gate, &request, &mut body, &pieces).await {
        let piece = match frame.map(Frame::into_data) {
            Ok(Ok(piece)) => piece,
            // Trailers say nothing here.
            Ok(Err(_)) => continue,
            Err(error) => {
                tracing::warn!(%error, "the workspace ended while a program ran");
                break;
            }
        };
        whole.extend_from_slice(&piece);
        exit = last_exit(&whole);
        if request.id.is_none() {
            forget_told(&mut whole);
        }
        if exit.is_some() {
            // Before the listener hears of the end: who has heard of it must never run it again.
            record(&gate, &request, exit, started.elapsed(), false);
            keep(&gate, &request, &whole).await;
        }
        listens = listens && tell(&gate, &pieces, piece).await;
    }
    if exit.is_none() {
        record(&gate, &request, None, started.elapsed(), false);
    }
}

/// The next piece; nothing after the program's end or ours, or when nobody can ask for the rest any more: closing the
/// stream kills the program.
async fn next(
    gate: &Gate,
    request: &ExecRequest,
    body: &mut Incoming,
    pieces: &mpsc::Sender<Bytes>,
) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    tokio::select! {
        frame = body.frame() => frame,
        () = pieces.closed(), if request.id.is_none() => None,
        () = gate.shutdown.cancelled() => None,
    }
}

/// Tells the listener; says whether it still listens.
async fn tell(gate: &Gate, pieces: &mpsc::Sender<Bytes>, piece: Bytes) -> bool {
    tokio::select! {
        sent = pieces.send(piece) => sent.is_ok(),
        () = gate.shutdown.cancelled() => false,
    }
}

/// Keeps only the last line, whole or not: it may be the end.
fn forget_told(events: &mut Vec<u8>) {
    let end = events.strip_suffix(b"\n").map_or(events.len(), <[u8]>::len);
    if let Some(position) = events[..end].iter().rposition(|byte| *byte == b'\n') {
        events.drain(..=position);
    }
}

async fn keep(gate: &Gate, request: &ExecRequest, events: &[u8]) {
    let Some(id) = request.id.clone() else {
        return;
    };
    let (results, request, events) = (Arc::clone(&gate.results), request.clone(), events.to_vec());
    match tokio::task::spawn_blocking(move || results.keep(&id, &request, &events)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(%error, "result not kept; a repeat will run the program again");
        }
        Err(error) => tracing::error!(%error, "result lost"),
    }
}

fn record(gate: &Gate, request: &ExecRequest, exit: Option<Exit>, time: Duration, repeated: bool) {
    gate.audit.record(&Event::Exec {
        command: shorten(&request.command),
        cwd: request.cwd.clone(),
        id: request.id.clone(),
        code: exit.map(|exit| exit.code),
        timed_out: exit.is_some_and(|exit| exit.timed_out),
        millis: millis(time),
        repeated,
    });
}

/// How the program ended, if its last event says so.
fn last_exit(events: &[u8]) -> Option<Exit> {
    let last = events
        .strip_suffix(b"\n")?
        .rsplit(|byte| *byte == b'\n')
        .next()?;
    // Most lines are output, and long.
    if !last.starts_with(br#"{"type":"exit""#) {
        return None;
    }
    match serde_json::from_slice(last).ok()? {
        ExecEvent::Exit(exit) => Some(exit),
        ExecEvent::Started { .. } | ExecEvent::Stdout { .. } | ExecEvent::Stderr { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: &str = r#"{"type":"exit","code":3,"timedOut":false,"truncated":false}"#;

    #[track_caller]
    fn check(events: &str, code: Option<i32>, kept: &str) {
        let mut events = events.as_bytes().to_vec();
        assert_eq!(last_exit(&events).map(|exit| exit.code), code);
        forget_told(&mut events);
        assert_eq!(events, kept.as_bytes());
    }

    #[test]
    fn the_end_is_the_last_whole_line() {
        check("", None, "");
        check("a\nb", None, "b");
        check("a\nb\n", None, "b\n");
        check(&format!("a\n{EXIT}\n"), Some(3), &format!("{EXIT}\n"));
        check(&format!("{EXIT}\n"), Some(3), &format!("{EXIT}\n"));
        check(&format!("a\n{EXIT}"), None, EXIT);
        check(&format!("{EXIT}\na\n"), None, "a\n");
    }
}
