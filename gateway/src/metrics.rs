//! Metrics, by OpenTelemetry's names for generative AI; labels come from the table; of users' words only so many.

mod models;
mod names;
mod pools;
mod routing;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use telemetry::metrics::{Registry, render};

use self::{models::ModelSeries, names::ModelNames};
pub(crate) use self::{
    models::{Observation, TargetSeries},
    pools::PoolSeries,
    routing::{RoutingSeries, Wait, WaitingPlace},
};
use crate::{
    limits::Reached,
    observe::{AccessLog, Exporter, LogExporter, Observers},
    prefix::Prediction,
};

/// Shares of a whole.
const RATIO_BUCKETS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Seconds of decisions.
const DECISION_BUCKETS: [f64; 12] = [
    1e-6, 5e-6, 10e-6, 25e-6, 50e-6, 75e-6, 100e-6, 150e-6, 250e-6, 500e-6, 1e-3, 10e-3,
];
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    route: String,
    limit: String,
    resource: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    route: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GuardLabels {
    route: String,
    guard: String,
    phase: &'static str,
    effect: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    code: &'static str,
}

/// The gateway's metrics.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    /// One scrape at a time: what is counted for a scrape is counted anew with each.
    scraping: Mutex<()>,
    models: ModelSeries,
    retries: Family<RouteLabels, Counter>,
    limits: Family<LimitLabels, Counter>,
    hit_ratios: Family<RouteLabels, Histogram, fn() -> Histogram>,
    caches: Family<CacheLabels, Counter>,
    guards: Family<GuardLabels, Counter>,
    decisions: Family<RouteLabels, Histogram, fn() -> Histogram>,
    ejections: Family<RouteLabels, Counter>,
    faults: Family<FaultLabels, Counter>,
    in_flight: Gauge,
    snapshots: Counter,
    ledger: Gauge,
    missed: Gauge,
    /// The names of models that clients have chosen.
    pub(crate) names: ModelNames,
    /// Where requests go when the first choice does not answer.
    pub(crate) routing: RoutingSeries,
    /// Replicas of one model, by the names of llm-d's picker.
    pub(crate) pools: PoolSeries,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            scraping: Mutex::default(),
            models: ModelSeries::default(),
            retries: Family::default(),
            limits: Family::default(),
            hit_ratios: Family::new_with_constructor(|| Histogram::new(RATIO_BUCKETS)),
            caches: Family::default(),
            guards: Family::default(),
            decisions: Family::new_with_constructor(|| Histogram::new(DECISION_BUCKETS)),
            ejections: Family::default(),
            faults: Family::default(),
            in_flight: Gauge::default(),
            snapshots: Counter::default(),
            ledger: Gauge::default(),
            missed: Gauge::default(),
            names: ModelNames::default(),
            routing: RoutingSeries::default(),
            pools: PoolSeries::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock();
        self.models.register(&mut registry);
        drop(registry);
        self.register_own();
    }

    /// What the conventions for models have no names for.
    fn register_own(&self) {
        let mut registry = self.registry.lock();
        registry.register(
            "gateway_observations_missed",
            "Lines of the access log and spans that were dropped, or did not reach their collector",
            self.missed.clone(),
        );
        registry.register(
            "gateway_limits_reached",
            "Requests beyond a limit, whether they were refused or only watched",
            self.limits.clone(),
        );
        registry.register(
            "gateway_prefix_hit_ratio",
            "Share of a prompt that the replica should have cached, where replicas are picked by it",
            self.hit_ratios.clone(),
        );
        registry.register(
            "llm_d_epp_prefix_indexer_hit_ratio",
            "The same as gateway_prefix_hit_ratio",
            self.hit_ratios.clone(),
        );
        registry.register(
            "gateway_cache_requests",
            "Requests of routes that give answers again, by whether there was one",
            self.caches.clone(),
        );
        registry.register(
            "gateway_prefix_decision_seconds",
            "Time to find the replica that should have cached most of a prompt",
            self.decisions.clone(),
        );
        registry.register(
            "gateway_guard_findings",
            "What guards found, and whether it was blocked, masked, or only watched",
            self.guards.clone(),
        );
        registry.register(
            "gateway_retries",
            "Tries after the first",
            self.retries.clone(),
        );
        registry.register(
            "gateway_ejections",
            "Upstreams left out after failures",
            self.ejections.clone(),
        );
        registry.register(
            "gateway_faults",
            "Requests refused by the gateway itself",
            self.faults.clone(),
        );
        registry.register(
            "gateway_requests_in_flight",
            "Requests in progress",
            self.in_flight.clone(),
        );
        registry.register(
            "gateway_snapshots",
            "Snapshots applied",
            self.snapshots.clone(),
        );
        let ledger =
            "1 while the ledger takes rows, 0 while requests are refused because it does not";
        registry.register("gateway_ledger_healthy", ledger, self.ledger.clone());
        self.routing.register(&mut registry);
        self.pools.register(&mut registry);
    }

    /// Adds the series of a part of the gateway.
    pub(crate) fn register_part(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock());
    }

    /// The text that Prometheus reads, once `refresh` has noted what is known only when somebody asks.
    pub(crate) fn render(&self, refresh: impl FnOnce(&Self)) -> String {
        let _one = self.scraping.lock();
        refresh(self);
        render(&self.registry.lock())
    }

    /// Counts a request that was routed.
    pub(crate) fn count_begin(&self) {
        self.in_flight.inc();
    }

    /// Counts a request that ended.
    pub(crate) fn observe(&self, observation: &Observation<'_>) {
        self.in_flight.dec();
        self.models.observe(observation);
    }

    /// Counts a try after the first.
    pub(crate) fn count_retry(&self, route: &str) {
        self.retries
            .get_or_create(&RouteLabels {
                route: route.to_owned(),
            })
            .inc();
    }

    /// Counts a request beyond a limit.
    pub(crate) fn count_limit(&self, route: &str, reached: &Reached) {
        self.limits
            .get_or_create(&LimitLabels {
                route: route.to_owned(),
                limit: reached.name.clone(),
                resource: reached.resource.name(),
            })
            .inc();
    }

    /// Counts a request of a route that gives answers again.
    pub(crate) fn count_cache(&self, route: &str, result: &'static str) {
        self.caches
            .get_or_create(&CacheLabels {
                route: route.to_owned(),
                result,
            })
            .inc();
    }

    /// Shows the metrics of those who are told of requests.
    pub(crate) fn show(&self, observers: &Observers) {
        if let Some(litellm) = &observers.litellm {
            let mut registry = self.registry.lock();
            litellm.register(&mut registry);
            registry.register(
                "litellm_in_flight_requests",
                "Requests in progress",
                self.in_flight.clone(),
            );
        }
    }

    /// Notes what those who are told of requests have missed.
    pub(crate) fn set_missed(&self, observers: &Observers) {
        let access = observers.access.as_ref().map_or(0, AccessLog::dropped);
        let traces = observers.traces.as_ref().map_or(0, Exporter::dropped);
        let logs = observers.logs.as_ref().map_or(0, LogExporter::dropped);
        let missed = access.saturating_add(traces).saturating_add(logs);
        self.missed.set(i64::try_from(missed).unwrap_or(i64::MAX));
    }

    /// Counts what a guard found.
    pub(crate) fn count_guard(
        &self,
        route: &str,
        guard: &str,
        phase: &'static str,
        effect: &'static str,
    ) {
        self.guards
            .get_or_create(&GuardLabels {
                route: route.to_owned(),
                guard: guard.to_owned(),
                phase,
                effect,
            })
            .inc();
    }

    /// Observes what is expected of a replica's cache, and how long it took to find that out.
    pub(crate) fn observe_prediction(&self, route: &str, prediction: &Prediction) {
        let labels = RouteLabels {
            route: route.to_owned(),
        };
        self.hit_ratios
            .get_or_create(&labels)
            .observe(prediction.hit_ratio());
        self.decisions
            .get_or_create(&labels)
            .observe(prediction.decision_time().as_secs_f64());
    }

    /// Counts an upstream that is left out.
    pub(crate) fn count_ejection(&self, route: &str) {
        self.ejections
            .get_or_create(&RouteLabels {
                route: route.to_owned(),
            })
            .inc();
    }

    /// Counts a request that the gateway refused.
    pub(crate) fn count_fault(&self, code: &'static str) {
        self.faults.get_or_create(&FaultLabels { code }).inc();
    }

    /// Notes whether the ledger takes rows.
    pub(crate) fn set_ledger(&self, is_healthy: bool) {
        self.ledger.set(i64::from(is_healthy));
    }

    /// Counts a snapshot that was applied.
    pub(crate) fn count_snapshot(&self) {
        self.snapshots.inc();
    }
}
