//! Health, load, metrics, and what is not there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::load::LoadReport;
use protocol::openai::ErrorKind;
use serde_json::{Value, json};

use crate::state::State;

use super::fault::Fault;
use super::surface::Surface;

/// The process serves HTTP.
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// The same, with nothing to say, for platforms that ask in this way.
pub(super) async fn ping() {}

/// The model is loaded and requests are welcome.
pub(super) async fn ready(Extract(state): Extract<Arc<State>>) -> Response {
    let status = if state.engine().is_some() || state.encoder().is_some() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(state.report())).into_response()
}

/// How far the weights are.
pub(super) async fn load_report(Extract(state): Extract<Arc<State>>) -> Json<LoadReport> {
    Json(state.report())
}

/// How many answers are in the making.
pub(super) async fn load(Extract(surface): Extract<Surface>) -> Json<Value> {
    Json(json!({"server_load": surface.load()}))
}

/// The engine's version.
pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// All metrics.
pub(super) async fn metrics(Extract(state): Extract<Arc<State>>) -> Response {
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
