//! Metrics of tool calls; labels come from the table, never from users.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use telemetry::metrics::Registry;

use super::directory::Server;

/// Seconds of tool calls.
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
pub(super) struct ToolMetrics {
    calls: Family<CallLabels, Counter>,
    durations: Family<ServerLabels, Histogram, fn() -> Histogram>,
    failures: Family<FailureLabels, Counter>,
}

impl Default for ToolMetrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            failures: Family::default(),
        }
    }
}

impl ToolMetrics {
    /// Adds the series to what Prometheus reads.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "gateway_mcp_calls",
            "Calls of tools, by server and how they ended",
            self.calls.clone(),
        );
        registry.register(
            "gateway_mcp_call_duration",
            "Seconds from the call of a tool to the end of its answer",
            self.durations.clone(),
        );
        registry.register(
            "gateway_mcp_failures",
            "Requests that tool servers did not answer, and why",
            self.failures.clone(),
        );
    }

    /// Counts a call that ended.
    pub(super) fn count_call(&self, server: &Server, outcome: &'static str, duration: Duration) {
        let calls = CallLabels {
            server: server.id.clone(),
            outcome,
        };
        self.calls.get_or_create(&calls).inc();
        let durations = ServerLabels {
            server: server.id.clone(),
        };
        let seconds = duration.as_secs_f64();
        self.durations.get_or_create(&durations).observe(seconds);
    }

    /// Counts a request that a server did not answer.
    pub(super) fn count_failure(&self, server: &Server, reason: &'static str) {
        let labels = FailureLabels {
            server: server.id.clone(),
            reason,
        };
        self.failures.get_or_create(&labels).inc();
    }
}
