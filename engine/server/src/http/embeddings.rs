//! `POST /v1/embeddings`, on models that make vectors of texts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::TokenId;
use engine_models::InvalidInput;
use protocol::openai::{
    Embedding, EmbeddingFormat, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EmbeddingVector,
};
use serde_json::json;

use crate::state::{EmbedError, EncoderHandle, State};

use super::completion::{check_tokens, texts_or_tokens};
use super::decode::{Object, request};
use super::fault::Fault;
use super::offload;
use super::submit::not_served;
use super::unsupported::{self, refuse};

/// Texts in one request, as OpenAI has it.
const INPUTS_MAX: usize = 2048;
/// Tokens of all texts of one request, as OpenAI has it.
const TOKENS_MAX: usize = 300_000;
const INPUT: &str = "input";

/// A vector for each text.
pub(super) async fn create(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<Json<EmbeddingList>, Fault> {
    refuse(&object, &[unsupported::EMBEDDINGS])?;
    let required = [("model", json!("")), (INPUT, json!(""))];
    let body: EmbeddingRequest = request(object, &required)?;
    let encoder = encoder(&state, &body.model)?;
    check_dimensions(&encoder, &body)?;
    let format = body.encoding_format.unwrap_or_default();
    let (preparing, input) = (Arc::clone(&encoder), body.input);
    let texts = offload(&state, move || {
        let encode = |text: &str| encode(&preparing, text);
        let texts = texts_or_tokens(&input, INPUTS_MAX, INPUT, encode)?;
        check_tokens(&preparing.tokenizer, &texts, INPUT)?;
        Ok::<_, Fault>(texts)
    })
    .await??;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    if TOKENS_MAX < tokens {
        let message = format!("`input` has {tokens} tokens; at most {TOKENS_MAX} are allowed.");
        return Err(Fault::parameter(INPUT, message));
    }
    let vectors = encoder.embed(texts).await.map_err(|error| fault(&error))?;
    let data = (0..).zip(vectors).map(|(index, vector)| Embedding {
        object: "embedding".to_owned(),
        index,
        embedding: write(vector, format),
    });
    Ok(Json(EmbeddingList {
        object: "list".to_owned(),
        data: data.collect(),
        model: body.model,
        usage: EmbeddingUsage {
            prompt_tokens: tokens as u64,
            total_tokens: tokens as u64,
        },
    }))
}

fn encoder(state: &State, model: &str) -> Result<Arc<EncoderHandle>, Fault> {
    if !state.names.iter().any(|name| name == model) {
        return Err(Fault::unknown_model(model));
    }
    if state.engine().is_some() {
        let message =
            format!("The model `{model}` makes text and no embeddings. Use /v1/chat/completions.");
        return Err(Fault::parameter("model", message));
    }
    state.encoder().ok_or_else(|| not_served(state))
}

/// Vectors can be cut only where a model was trained for that, and none of ours is.
fn check_dimensions(encoder: &EncoderHandle, body: &EmbeddingRequest) -> Result<(), Fault> {
    match body.dimensions {
        Some(count) if count as usize != encoder.width => Err(Fault::parameter(
            "dimensions",
            format!(
                "This model makes vectors of {} numbers, which cannot be cut to {count}.",
                encoder.width
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

fn encode(encoder: &EncoderHandle, text: &str) -> Result<Vec<TokenId>, Fault> {
    let (limit, tokens_min) = (
        encoder.length_max,
        text.len() / encoder.tokenizer.longest_token(),
    );
    if limit < tokens_min {
        return Err(Fault::context_length(limit, tokens_min, 0, INPUT));
    }
    Ok(encoder.tokenizer.encode(text))
}

fn write(vector: Vec<f32>, format: EmbeddingFormat) -> EmbeddingVector {
    match format {
        EmbeddingFormat::Float => EmbeddingVector::Float(vector),
        EmbeddingFormat::Base64 => {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect();
            EmbeddingVector::Base64(STANDARD.encode(bytes))
        }
    }
}

fn fault(error: &EmbedError) -> Fault {
    match error {
        EmbedError::Invalid(InvalidInput::TooLong { length, limit, .. }) => {
            Fault::context_length(*limit, *length, 0, INPUT)
        }
        EmbedError::Invalid(InvalidInput::Empty { .. }) => {
            Fault::parameter(INPUT, "`input` has no tokens.")
        }
        EmbedError::Full => Fault::busy("The engine is busy. Try again later."),
        EmbedError::Closed => Fault::stopped(),
    }
}
