//! Probes and metrics.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};

use super::App;

pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Ready means: definitions are loaded and the log can be written.
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    if !app.services.catalog.is_loaded() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no snapshot yet\n");
    }
    if !app.services.store.is_writable() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the run log cannot be written\n",
        );
    }
    (StatusCode::OK, "ok\n")
}

pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, telemetry::metrics::CONTENT_TYPE)],
        app.services.metrics.render(),
    )
}
