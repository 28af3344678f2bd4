//! Metrics with controller-runtime's names, so that existing dashboards show this operator.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
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
pub(crate) struct ClientRequest {
    /// The status code, or `error` if there was no answer.
    pub(crate) code: String,
    pub(crate) method: String,
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
    pub(crate) client_requests: Family<ClientRequest, Counter>,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let to = &mut registry;
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let seconds = Family::new_with_constructor(histogram);
        to.register(
            "controller_runtime_reconcile_time_seconds",
            "Time of a reconcile",
            Family::clone(&seconds),
        );
        Self {
            reconciles: add(to, "controller_runtime_reconcile", "Reconciles by result"),
            errors: add(
                to,
                "controller_runtime_reconcile_errors",
                "Reconciles that failed",
            ),
            terminal_errors: add(
                to,
                "controller_runtime_terminal_reconcile_errors",
                "Reconciles that wait for somebody to act",
            ),
            seconds,
            workers_max: add(
                to,
                "controller_runtime_max_concurrent_reconciles",
                "Most reconciles at once",
            ),
            workers: add(
                to,
                "controller_runtime_active_workers",
                "Reconciles under way",
            ),
            queue_depth: add(to, "workqueue_depth", "Objects that wait"),
            queue_adds: add(to, "workqueue_adds", "Objects that were queued"),
            leading: add(
                to,
                "leader_election_master_status",
                "Whether this replica leads",
            ),
            snapshot_nodes: add(
                to,
                "quarterdeck_snapshot_nodes",
                "Data plane replicas that are connected",
            ),
            snapshots: add(to, "quarterdeck_snapshots", "Snapshots that were published"),
            client_requests: add(
                to,
                "rest_client_requests",
                "Requests to the API server by method and code",
            ),
            registry: Arc::new(registry),
        }
    }
}

/// Makes a family and registers it.
fn add<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    Family<L, M>: Default + Clone + Metric,
{
    let family = Family::default();
    registry.register(name, help, Family::clone(&family));
    family
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
