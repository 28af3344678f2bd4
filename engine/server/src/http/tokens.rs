//! `POST /tokenize` and `/detokenize`, in vLLM's shapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use engine_core::TokenId;
use engine_models::Tokenizer;
use protocol::openai::ChatMessage;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parse::Tool;
use crate::state::{Engine, State};

use super::chat::{TemplateOptions, render};
use super::completion::{check_tokens, decode_tokens};
use super::decode::{Object, request};
use super::fault::Fault;
use super::submit::served;
use super::unsupported::{self, refuse};
use super::{check_length, logprobs, offload};

#[derive(Debug, Deserialize)]
struct TokenizeBody {
    model: Option<String>,
    prompt: Option<String>,
    messages: Option<Vec<ChatMessage>>,
    tools: Option<Vec<Value>>,
    add_special_tokens: Option<bool>,
    add_generation_prompt: Option<bool>,
    continue_final_message: Option<bool>,
    chat_template_kwargs: Option<Map<String, Value>>,
    return_token_strs: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct DetokenizeBody {
    model: Option<String>,
    tokens: Vec<TokenId>,
}

/// The tokens of a text or of a chat.
pub(super) async fn tokenize(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<Json<Value>, Fault> {
    refuse(&object, &[unsupported::CHAT])?;
    let body: TokenizeBody = request(object, &[])?;
    let engine = engine(&state, body.model.as_deref())?;
    let has_strings = body.return_token_strs.unwrap_or(false);
    let preparing = Arc::clone(&engine);
    offload(&state, move || {
        let tokens = encode(&preparing, body)?;
        let strings = tokens
            .iter()
            .map(|token| logprobs::text(&preparing.tokenizer, *token));
        let strings = has_strings.then(|| strings.collect::<Vec<_>>());
        Ok(Json(json!({
            "count": tokens.len(), "max_model_len": preparing.context_length, "tokens": tokens,
            "token_strs": strings,
        })))
    })
    .await?
}

fn encode(engine: &Engine, body: TokenizeBody) -> Result<Vec<TokenId>, Fault> {
    match (body.prompt, body.messages) {
        (Some(text), None) => {
            check_length(engine, &text, "prompt")?;
            Ok(if body.add_special_tokens.unwrap_or(true) {
                engine.tokenizer.encode(&text)
            } else {
                encode_plain(&engine.tokenizer, &text)
            })
        }
        (None, Some(messages)) => {
            let tools = Tool::read_all(&body.tools.unwrap_or_default())?;
            let options = TemplateOptions {
                skips_generation_prompt: body.add_generation_prompt == Some(false),
                continues_final_message: body.continue_final_message == Some(true),
                variables: body.chat_template_kwargs.unwrap_or_default(),
            };
            Ok(render(engine, &messages, &tools, options)?.tokens)
        }
        (Some(_), Some(_)) | (None, None) => Err(Fault::parameter(
            "prompt",
            "Either `prompt` or `messages` must be given.",
        )),
    }
}

/// The tokens of a text alone, without the beginning that the model expects.
pub(super) fn encode_plain(tokenizer: &Tokenizer, text: &str) -> Vec<TokenId> {
    let mut tokens = tokenizer.encode_chat(text);
    let begin = tokenizer.begin_text();
    // A beginning that the text itself has stays.
    if begin.is_empty() || !text.starts_with(begin) {
        let added = tokenizer.encode_chat("").len().min(tokens.len());
        tokens.drain(..added);
    }
    tokens
}

/// The text of tokens.
pub(super) async fn detokenize(
    Extract(state): Extract<Arc<State>>,
    Object(object, _memory): Object,
) -> Result<Json<Value>, Fault> {
    let body: DetokenizeBody = request(object, &[("tokens", json!([]))])?;
    let engine = engine(&state, body.model.as_deref())?;
    if body.tokens.is_empty() {
        return Ok(Json(json!({"prompt": ""})));
    }
    check_tokens(
        &engine.tokenizer,
        std::slice::from_ref(&body.tokens),
        "tokens",
    )?;
    let text = offload(&state, move || {
        decode_tokens(&engine.tokenizer, &body.tokens)
    })
    .await?;
    Ok(Json(json!({"prompt": text})))
}

/// The engine of a model, or of the only one.
fn engine(state: &State, model: Option<&str>) -> Result<Arc<Engine>, Fault> {
    let name = model.or_else(|| state.names.first().map(String::as_str));
    Ok(served(state, name.unwrap_or_default())?.engine)
}
