//! Models, health, metrics, and what is not there.

use axum::Json;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::load::LoadReport;
use protocol::openai::{ErrorKind, Model, ModelList};

use super::Shared;
use super::fault::Fault;

const OWNER: &str = "quarterdeck";

/// All names of the model.
pub(super) async fn models(axum::extract::State(state): Shared) -> Json<ModelList> {
    let models = state
        .names
        .iter()
        .map(|name| Model::new(name, state.created, OWNER));
    Json(ModelList::new(models))
}

/// One name of the model.
pub(super) async fn model(
    axum::extract::State(state): Shared,
    Path(name): Path<String>,
) -> Result<Json<Model>, Fault> {
    if state.names.contains(&name) {
        return Ok(Json(Model::new(name, state.created, OWNER)));
    }
    Err(Fault::unknown_model(&name))
}

/// The process serves HTTP.
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// The model is loaded and requests are welcome.
pub(super) async fn ready(axum::extract::State(state): Shared) -> Response {
    let status = if state.engine().is_some() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(state.report())).into_response()
}

/// How far the weights are.
pub(super) async fn load(axum::extract::State(state): Shared) -> Json<LoadReport> {
    Json(state.report())
}

/// All metrics.
pub(super) async fn metrics(axum::extract::State(state): Shared) -> Response {
    let text = telemetry::metrics::render(&state.metrics.registry);
    (
        [(header::CONTENT_TYPE, telemetry::metrics::CONTENT_TYPE)],
        text,
    )
        .into_response()
}

pub(super) async fn no_such_path() -> Fault {
    Fault::new(ErrorKind::NotFound, "There is nothing at this path.")
}

pub(super) async fn no_such_method() -> Fault {
    Fault::new(
        ErrorKind::MethodNotAllowed,
        "The path exists, and does not take this method.",
    )
}
