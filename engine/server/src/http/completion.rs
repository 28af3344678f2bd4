//! `POST /v1/completions`.

mod body;
mod start;
mod stream;
mod whole;

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use protocol::openai::{CompletionChoice, CompletionResponse, Usage};
use serde_json::json;

use crate::state::State;

use super::decode::{self, Object};
use super::fault::Fault;
use super::models::fingerprint;
use super::unsupported::{self, refuse};
use super::{events, identifier, now};

use body::CompletionBody;

pub(super) use body::{check_tokens, texts_or_tokens};
pub(super) use start::decode as decode_tokens;

/// Completes each prompt, at once or as it comes.
pub(super) async fn create(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<Response, Fault> {
    refuse(&object, &[unsupported::GENERATION, unsupported::COMPLETION])?;
    let required = [("model", json!("")), ("prompt", json!(""))];
    let body: CompletionBody = decode::request(object, &required)?;
    let (is_streamed, usage) = (body.sampling.is_streamed(), body.sampling.stream_usage()?);
    let head = Head {
        id: identifier("cmpl-"),
        created: now(),
        model: body.model.clone(),
        fingerprint: fingerprint(&state),
    };
    let completion = Box::pin(start::start(&state, body)).await?;
    if is_streamed {
        return Ok(events::chunks(stream::chunks(head, completion, usage)));
    }
    Ok(Json(whole::whole(head, completion).await?).into_response())
}

/// What all parts of an answer share.
#[derive(Debug)]
struct Head {
    id: String,
    created: i64,
    model: String,
    fingerprint: String,
}

impl Head {
    fn response(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> CompletionResponse {
        CompletionResponse {
            id: self.id.clone(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
            system_fingerprint: Some(self.fingerprint.clone()),
        }
    }
}
