//! Metrics of requests that wait: for a turn, or for a first replica.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use telemetry::metrics::Registry;

use super::RoutingSeries;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Its turn in a queue.
    Turn,
    /// The first replica of a model.
    Replica,
}

impl Wait {
    const fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Replica => "replica",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabels {
    route: String,
    wait: &'static str,
}

/// The series.
#[derive(Debug, Default)]
pub(super) struct WaitSeries {
    waiting: Family<WaitLabels, Gauge>,
    refused: Family<WaitLabels, Counter>,
}

impl WaitSeries {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "gateway_requests_waiting",
            "Requests that wait for a turn, or for a first replica",
            self.waiting.clone(),
        );
        registry.register(
            "gateway_waits_refused",
            "Requests that could not wait, or waited in vain",
            self.refused.clone(),
        );
    }
}

/// One request that waits; counted until dropped.
#[derive(Debug)]
pub(crate) struct WaitingPlace(Gauge);

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RoutingSeries {
    /// Counts a request that waits.
    pub(crate) fn count_waiting(&self, route: &str, wait: Wait) -> WaitingPlace {
        let gauge = self.waits.waiting.get_or_create_owned(&labels(route, wait));
        gauge.inc();
        WaitingPlace(gauge)
    }

    /// Counts a request that could not wait, or waited in vain.
    pub(crate) fn count_wait_refused(&self, route: &str, wait: Wait) {
        self.waits.refused.get_or_create(&labels(route, wait)).inc();
    }
}

fn labels(route: &str, wait: Wait) -> WaitLabels {
    WaitLabels {
        route: route.to_owned(),
        wait: wait.name(),
    }
}
