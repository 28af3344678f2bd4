//! The events of a run as server-sent events; a client that lost the stream goes on after `Last-Event-ID`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, stream};
use protocol::{
    runs::RunEvent,
    sse::{self, Event},
};

use super::{App, auth::Caller, error::ApiError, runs::own};
use crate::{
    feed::{Feed, Item},
    store::RunId,
};

/// How often a silent stream shows that it lives; it is also how a client that went away is noticed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

pub(super) async fn stream(
    State(app): State<App>,
    Caller(account): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let run = own(&app, &account, &id).await?;
    let last = match headers.get("last-event-id") {
        None => 0,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| {
                ApiError::invalid("Last-Event-ID", "the Last-Event-ID is not a number")
            })?,
    };
    Ok(event_stream(events(feed(&app, run.id, last))))
}

/// Listens to a run from the event after `last`.
pub(super) fn feed(app: &App, run: RunId, last: u64) -> Feed {
    Feed::new(
        app.services.store.clone(),
        Arc::clone(&app.services.hub),
        run,
        last,
    )
}

/// Answers with a stream of events.
pub(super) fn event_stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    use futures::StreamExt;
    let headers = [
        (header::CONTENT_TYPE, sse::CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::from_stream(stream.map(Ok::<_, Infallible>))).into_response()
}

fn events(feed: Feed) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::unfold(Some(feed), |feed| async move {
        let mut feed = feed?;
        match tokio::time::timeout(HEARTBEAT, feed.next()).await {
            Err(_) => Some((Bytes::from_static(b": alive\n\n"), Some(feed))),
            Ok(Ok(Some(item))) => Some((encode(&item), Some(feed))),
            Ok(Ok(None)) => None,
            // The client reconnects after the last event that it has.
            Ok(Err(error)) => Some((
                Event {
                    event: "error".to_owned(),
                    data: ApiError::from(error).to_json(),
                    id: None,
                }
                .encode(),
                None,
            )),
        }
    })
}

fn encode(item: &Item) -> Bytes {
    let kind = match item.event {
        RunEvent::Started { .. } => "started",
        RunEvent::StepStarted { .. } => "step_started",
        RunEvent::Delta { .. } => "delta",
        RunEvent::ToolCalled { .. } => "tool_called",
        RunEvent::StepFinished { .. } => "step_finished",
        RunEvent::Finished { .. } => "finished",
    };
    Event {
        event: kind.to_owned(),
        // Events came from JSON or go there: this cannot fail.
        data: serde_json::to_string(&item.event).unwrap_or_default(),
        id: item.seq.map(|seq| seq.to_string()),
    }
    .encode()
}
