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
    while let Some(frame) = body.frame().await {
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
        if exit.is_some() {
            // Before the listener hears of the end: who has heard of it must never run it again.
            record(&gate, &request, exit, started.elapsed(), false);
            keep(&gate, &request, &whole).await;
        }
        if listens && pieces.send(piece).await.is_err() {
            listens = false;
            if request.id.is_none() {
                // Nobody can ask for it again: closing the stream kills the program.
                break;
            }
        }
    }
    if exit.is_none() {
        record(&gate, &request, None, started.elapsed(), false);
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
    match serde_json::from_slice(last).ok()? {
        ExecEvent::Exit(exit) => Some(exit),
        ExecEvent::Started { .. } | ExecEvent::Stdout { .. } | ExecEvent::Stderr { .. } => None,
    }
}
