//! The HTTP surface: OpenAI's and Anthropic's APIs, vLLM's extensions, health and metrics.
//!
//! All chat APIs are translated into one request (`chat`) and read one stream of pieces (`choice`); what differs is
//! how requests are read and how pieces are written.

mod admin;
mod chat;
mod choice;
mod completion;
mod decode;
mod embeddings;
mod events;
mod fault;
mod format;
mod kv_events;
mod logprobs;
mod messages;
mod models;
mod probes;
mod responses;
mod sampling;
mod submit;
mod surface;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;
mod unsupported;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use crate::state::{Engine, State};

use fault::Fault;
use surface::Surface;

/// Longest request body. A context of a million tokens fits.
const BODY_BYTES_MAX: usize = 8 << 20;

/// All routes.
pub(crate) fn router(state: Arc<State>) -> Router {
    let surface = Surface::new(state);
    Router::new()
        .merge(answers(&surface))
        .merge(administration(&surface))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{model}", get(models::one))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/health", get(probes::alive))
        .route("/health/ready", get(probes::ready))
        .route("/health/load", get(probes::load_report))
        .route("/ping", get(probes::ping).post(probes::ping))
        .route("/version", get(probes::version))
        .route("/load", get(probes::load))
        .route("/metrics", get(probes::metrics))
        .route("/is_sleeping", get(admin::is_sleeping))
        .route("/kv_events", get(kv_events::stream))
        .fallback(probes::no_such_path)
        .method_not_allowed_fallback(probes::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(surface::identify))
        .with_state(surface)
}

/// The routes that answer with what the model makes.
fn answers(surface: &Surface) -> Router<Surface> {
    let anthropic = Router::new()
        .route("/v1/messages", post(messages::create))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
        .method_not_allowed_fallback(probes::no_such_method)
        .layer(from_fn(fault::in_anthropic_shape));
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completion::create))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/responses", post(responses::create))
        .route("/v1/responses/{id}", get(responses::not_stored))
        .merge(anthropic)
        .layer(from_fn_with_state(surface.clone(), surface::count))
}

/// The routes of operators.
fn administration(surface: &Surface) -> Router<Surface> {
    Router::new()
        .route("/sleep", post(admin::sleep))
        .route("/wake_up", post(admin::wake))
        .route("/reset_prefix_cache", post(admin::reset_prefix_cache))
        .route("/v1/load_lora_adapter", post(admin::load_adapter))
        .route("/v1/unload_lora_adapter", post(admin::unload_adapter))
        .layer(from_fn_with_state(surface.clone(), admin::guard))
}

/// Works on a thread that may take its time: long texts take milliseconds, and other requests must not wait for them.
async fn offload<T: Send + 'static>(
    state: &State,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let done = state.offload.run(work).await;
    done.ok_or_else(|| Fault::internal("The request could not be prepared."))
}

/// Refuses a text that cannot fit the context whatever its tokens are, before time and memory go into encoding it.
fn check_length(engine: &Engine, text: &str, parameter: &str) -> Result<(), Fault> {
    let tokens_min = text.len() / engine.tokenizer.longest_token();
    if engine.context_length < tokens_min {
        return Err(Fault::context_length(
            engine.context_length,
            tokens_min,
            0,
            parameter,
        ));
    }
    Ok(())
}

/// A new identifier.
fn identifier(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::now_v7().simple())
}

/// Unix seconds.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
