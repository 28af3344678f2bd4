//! `/livez`, `/readyz` and `/metrics`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};

use crate::metrics::Metrics;

/// Whether the caches are filled; standbys are ready too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug, Clone)]
struct Probes {
    readiness: Readiness,
    metrics: Metrics,
}

/// The probes' routes.
pub(crate) fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state(Probes { readiness, metrics })
}

async fn readyz(State(probes): State<Probes>) -> impl IntoResponse {
    if probes.readiness.is_set() {
        (StatusCode::OK, "ok")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the caches are not filled yet",
        )
    }
}

async fn show_metrics(State(probes): State<Probes>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, telemetry::metrics::CONTENT_TYPE)],
        probes.metrics.render(),
    )
}
