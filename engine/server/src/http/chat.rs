//! Chats: the one way from messages to answers, and `POST /v1/chat/completions`.
//!
//! The other chat APIs (responses, messages) translate their requests into a [`ChatBody`] and read the same answers.

mod body;
mod prompt;
mod start;
mod stream;
mod whole;

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::state::State;

use super::decode::{self, Object};
use super::fault::Fault;
use super::models::fingerprint;
use super::unsupported::{self, refuse};
use super::{events, identifier, now};

pub(super) use body::ChatBody;
pub(super) use prompt::{TemplateOptions, render};
pub(super) use start::{Chat, count, start};

/// Answers a chat, at once or as it comes.
pub(super) async fn create(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<Response, Fault> {
    let body = read(object)?;
    let (is_streamed, usage) = (body.sampling.is_streamed(), body.sampling.stream_usage()?);
    let chat = Box::pin(start(&state, body)).await?;
    let head = Head {
        id: identifier("chatcmpl-"),
        created: now(),
        model: chat.model.clone(),
        fingerprint: fingerprint(&state),
    };
    if is_streamed {
        return Ok(events::chunks(stream::chunks(head, chat, usage)));
    }
    Ok(Json(whole::whole(head, chat).await?).into_response())
}

fn read(mut object: Map<String, Value>) -> Result<ChatBody, Fault> {
    refuse(&object, &[unsupported::GENERATION, unsupported::CHAT])?;
    // Both names mean the same; who sends both means the newer one.
    let is_new = object
        .get("max_completion_tokens")
        .is_some_and(|length| !length.is_null());
    object.remove(if is_new {
        "max_tokens"
    } else {
        "max_completion_tokens"
    });
    decode::request(object, &[("model", json!("")), ("messages", json!([]))])
}

/// What all parts of an answer share.
#[derive(Debug)]
struct Head {
    id: String,
    created: i64,
    model: String,
    fingerprint: String,
}
