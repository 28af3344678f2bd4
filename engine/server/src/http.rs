//! The HTTP surface: OpenAI's API, health and metrics.

mod answer;
mod chat;
mod completion;
mod decode;
mod fault;
mod parameters;
mod probes;
mod prompt;
mod submit;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::state::State;

/// Longest request body. A context of a million tokens fits.
const BODY_BYTES_MAX: usize = 8 << 20;

type Shared = axum::extract::State<Arc<State>>;

/// All routes.
pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completion::create))
        .route("/v1/models", get(probes::models))
        .route("/v1/models/{model}", get(probes::model))
        .route("/health", get(probes::alive))
        .route("/health/ready", get(probes::ready))
        .route("/health/load", get(probes::load))
        .route("/metrics", get(probes::metrics))
        .fallback(probes::no_such_path)
        .method_not_allowed_fallback(probes::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}
