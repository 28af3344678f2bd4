//! Metrics, by OpenTelemetry's names for generative AI; labels come from the table; of users' words only so many.

mod names;
mod routing;

use std::{
    sync::{OnceLock, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use telemetry::metrics::{Registry, render};

use self::names::ModelNames;
pub(crate) use self::routing::{RoutingSeries, Wait, WaitingPlace};
use crate::{
    call::Operation,
    cost::Cost,
    limits::Reached,
    observe::{AccessLog, Exporter, Observers},
    prefix::Prediction,
    provider::Tokens,
};

/// Seconds of whole requests.
const DURATION_BUCKETS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Seconds to the first token.
const FIRST_TOKEN_BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Shares of a whole.
const RATIO_BUCKETS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Seconds of decisions.
const DECISION_BUCKETS: [f64; 12] = [
    1e-6, 5e-6, 10e-6, 25e-6, 50e-6, 75e-6, 100e-6, 150e-6, 250e-6, 500e-6, 1e-3, 10e-3,
];
/// Tokens of a request.
const TOKEN_BUCKETS: [f64; 12] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
];

/// What a request was about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
    route: String,
}

/// What a request was about, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
    route: String,
    status: u16,
}

/// What tokens were used for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
    gen_ai_token_type: &'static str,
    route: String,
}

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

/// The API that all upstreams speak so far.
const PROVIDER: &str = "openai";

/// The series of one target, by operation: looked up once, not with each request.
#[derive(Debug, Default)]
pub(crate) struct TargetSeries([OnceLock<Box<Series>>; Operation::ALL.len()]);

/// What is observed of the answers of one status.
#[derive(Debug)]
struct Series {
    labels: RequestLabels,
    duration: Histogram,
    first_token: OnceLock<Histogram>,
    input: OnceLock<Histogram>,
    output: OnceLock<Histogram>,
    cost: OnceLock<Counter<f64, AtomicU64>>,
}

/// How a request went.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    /// The route.
    pub(crate) route: &'a str,
    /// The model's name at the target.
    pub(crate) model: &'a str,
    /// The series of the target that answered.
    pub(crate) series: Option<&'a TargetSeries>,
    /// What was asked for.
    pub(crate) operation: Operation,
    /// The status.
    pub(crate) status: u16,
    /// What it used.
    pub(crate) tokens: Tokens,
    /// What that cost.
    pub(crate) cost: Cost,
    /// How long it took.
    pub(crate) duration: Duration,
    /// Milliseconds to the first bytes of a stream.
    pub(crate) first_byte_millis: Option<u64>,
}

/// The gateway's metrics.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    durations: Family<StatusLabels, Histogram, fn() -> Histogram>,
    first_tokens: Family<RequestLabels, Histogram, fn() -> Histogram>,
    tokens: Family<TokenLabels, Histogram, fn() -> Histogram>,
    costs: Family<RequestLabels, Counter<f64, AtomicU64>>,
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
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            first_tokens: Family::new_with_constructor(|| Histogram::new(FIRST_TOKEN_BUCKETS)),
            tokens: Family::new_with_constructor(|| Histogram::new(TOKEN_BUCKETS)),
            costs: Family::default(),
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
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock();
        let duration = "Seconds from a request to the end of its answer";
        registry.register(
            "gen_ai_server_request_duration",
            duration,
            self.durations.clone(),
        );
        let first = "Seconds from a request to the first event of its stream";
        registry.register(
            "gen_ai_server_time_to_first_token",
            first,
            self.first_tokens.clone(),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of a request",
            self.tokens.clone(),
        );
        registry.register(
            "gen_ai_client_cost",
            "US dollars that requests cost",
            self.costs.clone(),
        );
        drop(registry);
        self.register_own();
    }

    /// What the conventions for models have no names for.
    fn register_own(&self) {
        let mut registry = self.registry.lock();
        registry.register(
            "gateway_observations_missed",
            "Lines of the access log and spans that were dropped",
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
    }

    /// Adds the series of a part of the gateway.
    pub(crate) fn register_part(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock());
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        render(&self.registry.lock())
    }

    /// Counts a request that was routed.
    pub(crate) fn count_begin(&self) {
        self.in_flight.inc();
    }

    /// Counts a request that ended.
    pub(crate) fn observe(&self, observation: &Observation<'_>) {
        self.in_flight.dec();
        let known = observation.series.filter(|_| observation.status == 200);
        let looked_up;
        let series = match known {
            Some(known) => {
                let new = || Box::new(self.series(observation));
                known.0[observation.operation as usize].get_or_init(new)
            }
            None => {
                looked_up = self.series(observation);
                &looked_up
            }
        };
        let labels = &series.labels;
        series.duration.observe(observation.duration.as_secs_f64());
        if let Some(millis) = observation.first_byte_millis {
            let first_token = || self.first_tokens.get_or_create_owned(labels);
            let seconds = Duration::from_millis(millis).as_secs_f64();
            series.first_token.get_or_init(first_token).observe(seconds);
        }
        let tokens = observation.tokens;
        for (kind, histogram, count) in [
            ("input", &series.input, tokens.prompt),
            ("output", &series.output, tokens.completion),
        ] {
            if 0 < count {
                let histogram = histogram.get_or_init(|| self.token_usage(labels, kind));
                histogram.observe(approximate(count));
            }
        }
        if observation.cost != Cost::default() {
            let cost = || self.costs.get_or_create_owned(labels);
            let dollars = observation.cost.as_dollars();
            series.cost.get_or_init(cost).inc_by(dollars);
        }
    }

    fn series(&self, observation: &Observation<'_>) -> Series {
        let labels = RequestLabels {
            gen_ai_operation_name: observation.operation.name(),
            gen_ai_provider_name: PROVIDER,
            gen_ai_request_model: observation.model.to_owned(),
            route: observation.route.to_owned(),
        };
        let with_status = StatusLabels {
            gen_ai_operation_name: labels.gen_ai_operation_name,
            gen_ai_provider_name: labels.gen_ai_provider_name,
            gen_ai_request_model: labels.gen_ai_request_model.clone(),
            route: labels.route.clone(),
            status: observation.status,
        };
        Series {
            labels,
            duration: self.durations.get_or_create_owned(&with_status),
            first_token: OnceLock::new(),
            input: OnceLock::new(),
            output: OnceLock::new(),
            cost: OnceLock::new(),
        }
    }

    fn token_usage(&self, labels: &RequestLabels, kind: &'static str) -> Histogram {
        self.tokens.get_or_create_owned(&TokenLabels {
            gen_ai_operation_name: labels.gen_ai_operation_name,
            gen_ai_provider_name: labels.gen_ai_provider_name,
            gen_ai_request_model: labels.gen_ai_request_model.clone(),
            gen_ai_token_type: kind,
            route: labels.route.clone(),
        })
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
            litellm.register(&mut self.registry.lock());
        }
    }

    /// Notes what those who are told of requests have missed.
    pub(crate) fn set_missed(&self, observers: &Observers) {
        let access = observers.access.as_ref().map_or(0, AccessLog::dropped);
        let traces = observers.traces.as_ref().map_or(0, Exporter::dropped);
        let missed = access.saturating_add(traces);
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

/// A count as a float; counts of tokens are far below the 2^32 up to which this is exact.
fn approximate(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
