//! Metrics of where requests go when the first choice does not answer.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use telemetry::metrics::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FallbackLabels {
    route: String,
    class: &'static str,
}

/// The series.
#[derive(Debug, Default)]
pub(crate) struct RoutingSeries {
    fallbacks: Family<FallbackLabels, Counter>,
}

impl RoutingSeries {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "gateway_fallbacks",
            "Requests that another route's model was asked for, by the failure that led there",
            self.fallbacks.clone(),
        );
    }

    /// Counts a request that leaves a route for another model.
    pub(crate) fn count_fallback(&self, route: &str, class: &'static str) {
        let route = route.to_owned();
        let labels = FallbackLabels { route, class };
        self.fallbacks.get_or_create(&labels).inc();
    }
}
