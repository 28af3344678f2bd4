//! Metrics of calls of tools and agents; labels come from the table, never from users.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use telemetry::metrics::Registry;

use crate::cost::Cost;

/// Seconds of calls.
const DURATION_BUCKETS: [f64; 12] = [
    0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    server: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    server: String,
    reason: &'static str,
}

/// The series.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    calls: Family<CallLabels, Counter>,
    durations: Family<ServerLabels, Histogram, fn() -> Histogram>,
    failures: Family<FailureLabels, Counter>,
    costs: Family<ServerLabels, Counter<f64, AtomicU64>>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            failures: Family::default(),
            costs: Family::default(),
        }
    }
}

impl CallMetrics {
    /// Adds the series to what Prometheus reads, under names that begin so.
    pub(crate) fn register(&self, registry: &mut Registry, prefix: &str) {
        registry.register(
            format!("{prefix}_calls"),
            "Calls, by server and how they ended",
            self.calls.clone(),
        );
        registry.register(
            format!("{prefix}_call_duration"),
            "Seconds from a call to the end of its answer",
            self.durations.clone(),
        );
        registry.register(
            format!("{prefix}_failures"),
            "Requests that servers did not answer, and why",
            self.failures.clone(),
        );
        registry.register(
            format!("{prefix}_cost"),
            "US dollars that calls cost, by server",
            self.costs.clone(),
        );
    }

    /// Counts a call that ended.
    pub(crate) fn count_call(&self, server: &str, outcome: &'static str, duration: Duration) {
        let calls = CallLabels {
            server: server.to_owned(),
            outcome,
        };
        self.calls.get_or_create(&calls).inc();
        let durations = ServerLabels {
            server: server.to_owned(),
        };
        let seconds = duration.as_secs_f64();
        self.durations.get_or_create(&durations).observe(seconds);
    }

    /// Counts what a call cost.
    pub(crate) fn count_cost(&self, server: &str, cost: Cost) {
        if cost != Cost::default() {
            let labels = ServerLabels {
                server: server.to_owned(),
            };
            let costs = self.costs.get_or_create(&labels);
            costs.inc_by(cost.as_dollars());
        }
    }

    /// Counts a request that a server did not answer.
    pub(crate) fn count_failure(&self, server: &str, reason: &'static str) {
        let labels = FailureLabels {
            server: server.to_owned(),
            reason,
        };
        self.failures.get_or_create(&labels).inc();
    }
}
