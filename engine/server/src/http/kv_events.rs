//! `GET /kv_events`: the changes of the prefix cache as server-sent events, for whoever routes requests.
//!
//! They show the tokens of prompts, so they are served only if the engine was started with `--kv-events`.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::response::Response;
use futures::StreamExt;
use protocol::openai::ErrorKind;
use protocol::sse::Event;

use crate::state::State;

use super::events;
use super::fault::Fault;
use super::submit::not_served;

/// The changes from now on, or behind the one that `Last-Event-ID` names.
pub(super) async fn stream(
    Extract(state): Extract<Arc<State>>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let engine = state.engine().ok_or_else(|| not_served(&state))?;
    let Some(log) = &engine.events else {
        let message =
            "Changes of the cache are not published: start the engine with `--kv-events`.";
        return Err(Fault::new(ErrorKind::NotFound, message));
    };
    let after = match headers.get("last-event-id") {
        None => None,
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            let invalid = || Fault::parameter("Last-Event-ID", "`Last-Event-ID` is a number.");
            Some(id.ok_or_else(invalid)?)
        }
    };
    let changes = log.subscribe(after).map(|batch| {
        let data = serde_json::to_string(&*batch).unwrap_or_default();
        Event {
            id: Some(batch.seq.to_string()),
            ..Event::data(data)
        }
        .encode()
    });
    // A client that only listens must not keep a process from ending.
    let ended = state.draining.clone().cancelled_owned();
    Ok(events::response(changes.take_until(ended)))
}
