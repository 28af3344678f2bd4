//! `/health*`: whether the gateway lives, whether it can route, and which endpoints answer.
//!
//! Endpoints are not asked for this: what is told is what requests have met.

use std::time::Instant;

use http::{Response, StatusCode};
use serde_json::json;

use super::ok;
use crate::{
    encode::{self, Body},
    fault::Fault,
    gateway::Gateway,
};

/// `/health/liveliness`.
pub(super) fn lives() -> Response<Body> {
    ok(&"I'm alive!")
}

/// `/health/readiness`.
pub(super) fn readiness(gateway: &Gateway) -> Response<Body> {
    match gateway.is_ready() {
        true => ok(&json!({"status": "healthy", "db": "connected"})),
        false => encode::json(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({"status": "unhealthy", "db": "connected"}),
        ),
    }
}

/// `/health`.
///
/// # Errors
/// There is no table yet.
pub(super) fn endpoints(gateway: &Gateway) -> Result<Response<Body>, Fault> {
    let table = gateway.table()?;
    let now = Instant::now();
    let (mut healthy, mut unhealthy) = (Vec::new(), Vec::new());
    for route in &table.routes {
        for target in &route.targets {
            for endpoint in &target.endpoints {
                let shown = json!({"model": target.models(), "api_base": endpoint.url(),
                    "model_id": format!("{}/{}", route.id, target.name)});
                match endpoint.is_usable(now) {
                    true => healthy.push(shown),
                    false => unhealthy.push(shown),
                }
            }
        }
    }
    let (healthy_count, unhealthy_count) = (healthy.len(), unhealthy.len());
    Ok(ok(&json!({
        "healthy_endpoints": healthy,
        "unhealthy_endpoints": unhealthy,
        "healthy_count": healthy_count,
        "unhealthy_count": unhealthy_count,
    })))
}
