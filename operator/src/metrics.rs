//! Metrics with controller-runtime's names, so that existing dashboards show this operator.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Seconds; reconciles that only look take microseconds, those that write some milliseconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Controller {
    pub(crate) controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReconcileResult {
    pub(crate) controller: &'static str,
    pub(crate) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Plane {
    pub(crate) plane: &'static str,
}

/// The operator's metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) reconciles: Family<ReconcileResult, Counter>,
    pub(crate) errors: Family<Controller, Counter>,
    pub(crate) terminal_errors: Family<Controller, Counter>,
    pub(crate) seconds: Family<Controller, Histogram, fn() -> Histogram>,
    pub(crate) workers_max: Family<Controller, Gauge>,
    pub(crate) workers: Family<Controller, Gauge>,
    pub(crate) queue_depth: Family<Named, Gauge>,
    pub(crate) queue_adds: Family<Named, Counter>,
    pub(crate) leading: Family<Named, Gauge>,
    pub(crate) snapshot_nodes: Family<Plane, Gauge>,
    pub(crate) snapshots: Family<Plane, Counter>,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let reconciles = Family::default();
        let errors = Family::default();
        let terminal_errors = Family::default();
        let seconds = Family::new_with_constructor(histogram);
        let workers_max = Family::default();
        let workers = Family::default();
        let queue_depth = Family::default();
        let queue_adds = Family::default();
        let leading = Family::default();
        let snapshot_nodes = Family::default();
        let snapshots = Family::default();
        registry.register(
            "controller_runtime_reconcile",
            "Reconciles by result",
            Family::clone(&reconciles),
        );
        registry.register(
            "controller_runtime_reconcile_errors",
            "Reconciles that failed",
            Family::clone(&errors),
        );
        registry.register(
            "controller_runtime_terminal_reconcile_errors",
            "Reconciles that failed and wait for a change",
            Family::clone(&terminal_errors),
        );
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "Time of a reconcile",
            Family::clone(&seconds),
        );
        registry.register(
            "controller_runtime_max_concurrent_reconciles",
            "Most reconciles at once",
            Family::clone(&workers_max),
        );
        registry.register(
            "controller_runtime_active_workers",
            "Reconciles under way",
            Family::clone(&workers),
        );
        registry.register(
            "workqueue_depth",
            "Objects that wait",
            Family::clone(&queue_depth),
        );
        registry.register(
            "workqueue_adds",
            "Objects that were queued",
            Family::clone(&queue_adds),
        );
        registry.register(
            "leader_election_master_status",
            "Whether this replica leads",
            Family::clone(&leading),
        );
        registry.register(
            "quarterdeck_snapshot_nodes",
            "Data plane replicas that are connected",
            Family::clone(&snapshot_nodes),
        );
        registry.register(
            "quarterdeck_snapshots",
            "Snapshots that were published",
            Family::clone(&snapshots),
        );
        Self {
            reconciles,
            errors,
            terminal_errors,
            seconds,
            workers_max,
            workers,
            queue_depth,
            queue_adds,
            leading,
            snapshot_nodes,
            snapshots,
            registry: Arc::new(registry),
        }
    }
}

impl Metrics {
    /// All metrics as text.
    pub(crate) fn render(&self) -> String {
        telemetry::metrics::render(&self.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::{Controller, Metrics, ReconcileResult};

    #[test]
    fn names_are_those_of_controller_runtime() {
        let metrics = Metrics::default();
        metrics
            .reconciles
            .get_or_create(&ReconcileResult {
                controller: "model",
                result: "success",
            })
            .inc();
        metrics
            .seconds
            .get_or_create(&Controller {
                controller: "model",
            })
            .observe(0.002);
        let text = metrics.render();
        for line in [
            "controller_runtime_reconcile_total{controller=\"model\",result=\"success\"} 1",
            "controller_runtime_reconcile_time_seconds_count{controller=\"model\"} 1",
        ] {
            assert!(text.contains(line), "{text} lacks {line}");
        }
    }
}
