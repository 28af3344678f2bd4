//! `POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's API.

mod stream;
mod translate;
mod whole;

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use protocol::anthropic::{CountRequest, CountResponse, MessagesRequest};
use serde_json::json;

use crate::state::State;

use super::chat::{self, Chat};
use super::decode::{Object, request};
use super::fault::Fault;
use super::unsupported::{self, refuse};
use super::{events, identifier};

/// The names of parameters in chats and in messages.
const NAMES: [(&str, &str); 2] = [
    ("max_completion_tokens", "max_tokens"),
    ("stop", "stop_sequences"),
];

/// Answers a conversation, at once or as it comes.
pub(super) async fn create(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<Response, Fault> {
    refuse(&object, &[unsupported::GENERATION, unsupported::MESSAGES])?;
    let required = [
        ("model", json!("")),
        ("messages", json!([])),
        ("max_tokens", json!(1)),
    ];
    let body: MessagesRequest = request(object, &required)?;
    let is_streamed = body.stream.unwrap_or(false);
    let started = match translate::to_chat(body) {
        Ok(translated) => Box::pin(chat::start(&state, translated)).await,
        Err(fault) => Err(fault),
    };
    let Chat { model, choices, .. } = started.map_err(|fault| fault.renamed(&NAMES))?;
    let choice = choices.into_iter().next().ok_or_else(Fault::stopped)?;
    let id = identifier("msg_");
    if is_streamed {
        return Ok(events::response(stream::events(id, model, choice)));
    }
    Ok(Json(whole::whole(id, model, choice).await?).into_response())
}

/// How many tokens a prompt has.
pub(super) async fn count_tokens(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<Json<CountResponse>, Fault> {
    refuse(&object, &[unsupported::MESSAGES])?;
    let body: CountRequest = request(object, &[("model", json!("")), ("messages", json!([]))])?;
    let count = match translate::count_to_chat(body) {
        Ok(translated) => chat::count(&state, translated).await,
        Err(fault) => Err(fault),
    };
    let input_tokens = count.map_err(|fault| fault.renamed(&NAMES))? as u64;
    Ok(Json(CountResponse { input_tokens }))
}
