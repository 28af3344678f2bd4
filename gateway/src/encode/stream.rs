//! Passes a stream on as it comes; what goes wrong after the first bytes becomes an honest error event.

use std::{
    fmt::Display,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use protocol::{
    openai::ErrorKind,
    sse::{self, Event},
};
use serde::Serialize;
use tokio::{sync::OwnedSemaphorePermit, time::Sleep};
use tracing::warn;

use super::{Body, Cut, events::Events};
use crate::{
    account::{Accounting, Ending},
    cache::Recorder,
    call::{Operation, Surface},
    fault::Fault,
    forward::Begun,
    guard::StreamGuards,
};

/// A stream on its way through; dropping it cancels the upstream and accounts for what was seen.
#[derive(Debug)]
pub(crate) struct Streaming {
    /// What the upstream sends.
    pub(crate) begun: Begun,
    /// The account of the request.
    pub(crate) accounting: Accounting,
    /// Records the stream for requests that ask for the same.
    pub(crate) recorder: Option<Recorder>,
    /// Looks at the events.
    pub(crate) guards: StreamGuards,
    /// What was asked for.
    pub(crate) operation: Operation,
    /// Whether the client asked for the usage.
    pub(crate) shows_usage: bool,
    /// How long the stream may be silent.
    pub(crate) idle: Duration,
    /// When it must have ended.
    pub(crate) deadline: Instant,
    /// The request's place in the gateway.
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// Why a stream ended early.
struct Break {
    kind: ErrorKind,
    message: String,
    /// Whether it speaks against the endpoint.
    is_harmful: bool,
}

impl From<Fault> for Break {
    fn from(fault: Fault) -> Self {
        Self {
            kind: fault.kind,
            message: fault.message,
            is_harmful: false,
        }
    }
}

struct State {
    streaming: Streaming,
    events: Events,
    /// Rings at the earliest time at which the stream may be late; moved on only then, not with each event.
    alarm: Pin<Box<Sleep>>,
    /// When bytes came last.
    heard: Instant,
    is_over: bool,
}

/// The answer that carries a stream.
pub(crate) fn stream(streaming: Streaming) -> Response<Body> {
    let events = Events::new(streaming.operation, streaming.shows_usage);
    let heard = Instant::now();
    let late_at = streaming.deadline.min(heard + streaming.idle);
    let state = State {
        streaming,
        events,
        alarm: Box::pin(tokio::time::sleep_until(late_at.into())),
        heard,
        is_over: false,
    };
    let frames = stream::unfold(state, |state| async move {
        let (bytes, state) = step(state).await?;
        Some((Ok::<_, Cut>(Frame::data(bytes)), state))
    });
    head(StreamBody::new(frames).boxed_unsync())
}

/// The answer that carries a stream that was given before.
pub(crate) fn replay(operation: Operation, shows_usage: bool, body: &Bytes) -> Response<Body> {
    // What was passed on once can be passed on again.
    let shown = Events::new(operation, shows_usage).push(body.clone());
    let body = Full::new(shown.unwrap_or_default()).map_err(|never| match never {});
    head(body.boxed_unsync())
}

/// The answer that carries a stream.
pub(super) fn head(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(sse::CONTENT_TYPE),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that buffer would turn a stream into one late answer.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The next bytes for the client; `None` after the last ones.
async fn step(mut state: State) -> Option<(Bytes, State)> {
    if state.is_over {
        return None;
    }
    loop {
        let shown = match next(&mut state).await {
            Ok(Some(shown)) => shown,
            Ok(None) => {
                state.is_over = true;
                let tally = state.events.tally();
                if tally.is_done || tally.may_end || tally.is_error {
                    let rest = held_back(&mut state).await;
                    end(&mut state, Ending::Complete).await;
                    return (!rest.is_empty()).then_some((rest, state));
                }
                let message = "The model's server ended the stream before the answer was complete."
                    .to_owned();
                let cut = Break {
                    kind: ErrorKind::UpstreamFailed,
                    message,
                    is_harmful: true,
                };
                return Some((broken(&mut state, cut).await, state));
            }
            Err(cut) => {
                state.is_over = true;
                return Some((broken(&mut state, cut).await, state));
            }
        };
        let tally = state.events.tally();
        state.streaming.accounting.see(tally);
        if tally.is_done {
            // The ledger holds the request before the client can know that it is complete.
            state.is_over = true;
            end(&mut state, Ending::Complete).await;
        }
        if !shown.is_empty() {
            return Some((shown, state));
        }
        if state.is_over {
            return None;
        }
    }
}

/// Reads on; `None` at the upstream's end.
async fn next(state: &mut State) -> Result<Option<Bytes>, Break> {
    let data = if state.streaming.begun.first.is_empty() {
        match frame(state).await? {
            Some(frame) => {
                state.heard = Instant::now();
                let data = frame.into_data().unwrap_or_default();
                match &mut state.streaming.begun.translation {
                    None => data,
                    Some(translation) => translation.push(&data).map_err(unreadable)?,
                }
            }
            None => match state.streaming.begun.translation.take() {
                None => return Ok(None),
                Some(mut translation) => translation.finish().map_err(unreadable)?,
            },
        }
    } else {
        std::mem::take(&mut state.streaming.begun.first)
    };
    state.streaming.accounting.look(&data);
    if let Some(recorder) = &mut state.streaming.recorder {
        recorder.push(&data);
    }
    let shown = state.events.push(data).map_err(unreadable)?;
    let guards = &mut state.streaming.guards;
    let shown = guards.push(shown).await?;
    state.streaming.accounting.note_events(&shown);
    Ok(Some(shown))
}

/// What guards still hold of a stream that has ended; nothing if they withhold it.
async fn held_back(state: &mut State) -> Bytes {
    let guards = std::mem::take(&mut state.streaming.guards);
    let rest = guards.finish().await.unwrap_or_default();
    state.streaming.accounting.note_events(&rest);
    rest
}

fn unreadable(error: impl Display) -> Break {
    Break {
        kind: ErrorKind::UpstreamFailed,
        message: format!("The model's server sent a stream that cannot be passed on: {error}."),
        is_harmful: true,
    }
}

/// The upstream's next frame, unless it is late.
async fn frame(state: &mut State) -> Result<Option<Frame<Bytes>>, Break> {
    let State {
        streaming,
        alarm,
        heard,
        ..
    } = state;
    loop {
        let late_at = streaming.deadline.min(*heard + streaming.idle);
        tokio::select! {
            biased;
            frame = streaming.begun.rest.frame() => {
                return frame.transpose().map_err(|_| Break {
                    kind: ErrorKind::UpstreamFailed,
                    message: "The connection to the model's server broke before the answer was complete."
                        .to_owned(),
                    is_harmful: true,
                });
            }
            () = alarm.as_mut() => {
                if late_at <= Instant::now() {
                    return Err(late(streaming));
                }
                alarm.as_mut().reset(late_at.into());
            }
        }
    }
}

fn late(streaming: &Streaming) -> Break {
    if streaming.deadline <= Instant::now() {
        let message =
            "The answer was not complete within the route's time for a request.".to_owned();
        return Break {
            kind: ErrorKind::Timeout,
            message,
            is_harmful: false,
        };
    }
    let message = format!("The model's server sent nothing for {:?}.", streaming.idle);
    Break {
        kind: ErrorKind::Timeout,
        message,
        is_harmful: true,
    }
}

/// Ends the account as failed; the event that tells the client.
async fn broken(state: &mut State, cut: Break) -> Bytes {
    let Break {
        kind,
        message,
        is_harmful,
    } = cut;
    let lease = &state.streaming.begun.lease;
    warn!(
        upstream = lease.endpoint().url(),
        reason = message,
        "a stream ended early"
    );
    if is_harmful {
        lease.endpoint().note_failure(Instant::now());
    }
    let rest = held_back(state).await;
    end(state, Ending::Failed(kind.status())).await;
    let fault = Fault::new(kind, message);
    let event = match state.streaming.operation.surface() {
        Surface::OpenAi | Surface::Ollama => Event::data(text(&fault.body())).encode(),
        Surface::Anthropic => Event {
            event: "error".to_owned(),
            ..Event::data(text(&fault.anthropic_body()))
        }
        .encode(),
    };
    match rest.is_empty() {
        true => event,
        false => Bytes::from([rest, event].concat()),
    }
}

fn text(body: &impl Serialize) -> String {
    // Our own errors serialise without fail.
    serde_json::to_string(body).unwrap_or_default()
}

async fn end(state: &mut State, ending: Ending) {
    let tally = state.events.tally();
    state.streaming.accounting.see(tally);
    if let Err(error) = state.streaming.accounting.finish(ending).await {
        // The row was there before the first byte; the ledger goes on trying to complete it.
        warn!(%error, "the end of a stream is not in the ledger yet");
    }
    if let Some(recorder) = state.streaming.recorder.take()
        && ending == Ending::Complete
    {
        recorder.keep_stream(tally);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let tally = self.events.tally();
        self.streaming.accounting.see(tally);
    }
}
