//! `POST /v1/responses`: OpenAI's newer API, without storage.

mod echo;
mod stream;
mod translate;
mod whole;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::response::{IntoResponse, Response};
use protocol::openai::{ErrorKind, ResponsesRequest};
use serde_json::json;

use crate::state::State;

use super::chat::{self, Chat};
use super::decode::{Object, request};
use super::events;
use super::fault::Fault;
use super::unsupported::{self, refuse};

/// The names of parameters in chats and in responses.
const NAMES: [(&str, &str); 3] = [
    ("messages", "input"),
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
];

/// Answers a conversation, at once or as it comes.
pub(super) async fn create(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<Response, Fault> {
    refuse(&object, &[unsupported::GENERATION, unsupported::RESPONSES])?;
    if object
        .get("previous_response_id")
        .is_some_and(|id| !id.is_null())
    {
        return Err(Fault::parameter(
            "previous_response_id",
            "`previous_response_id` is not supported: responses are not stored. Send the whole conversation as `input`.",
        ));
    }
    let body: ResponsesRequest = request(object, &[("model", json!("")), ("input", json!(""))])?;
    let response = echo::response(&body);
    let is_streamed = body.stream.unwrap_or(false);
    let translated = translate::to_chat(body)?;
    let started = Box::pin(chat::start(&state, translated)).await;
    let Chat {
        tokenizer,
        choices,
        has_logprobs,
        ..
    } = started.map_err(|fault| fault.renamed(&NAMES))?;
    let choice = choices.into_iter().next().ok_or_else(Fault::stopped)?;
    let tokenizer = has_logprobs.then_some(tokenizer);
    if is_streamed {
        return Ok(events::response(stream::events(
            response, choice, tokenizer,
        )));
    }
    Ok(Json(whole::whole(response, choice, tokenizer).await?).into_response())
}

/// Nothing is stored, so there is nothing to get.
pub(super) async fn not_stored(Path(id): Path<String>) -> Fault {
    Fault::new(
        ErrorKind::NotFound,
        format!("The response `{id}` does not exist: responses are not stored."),
    )
}
