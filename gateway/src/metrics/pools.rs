//! Metrics of replicas of one model, by the names that llm-d's endpoint picker gives them; asked for with each scrape.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::AtomicU64,
    time::Instant,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};
use telemetry::metrics::Registry;

use crate::{
    endpoint::Standing,
    table::{Table, Target},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    name: String,
}

type Shares = Family<PoolLabels, Gauge<f64, AtomicU64>>;

/// The series.
#[derive(Debug, Default)]
pub(crate) struct PoolSeries {
    ready: Family<PoolLabels, Gauge>,
    waiting: Shares,
    cache: Shares,
}

/// What is known of one pool.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pool {
    ready: i64,
    waiting: Option<f64>,
    cache: Option<f64>,
}

impl PoolSeries {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "llm_d_epp_ready_endpoints",
            "Replicas that requests may be sent to",
            self.ready.clone(),
        );
        registry.register(
            "llm_d_epp_average_queue_size",
            "Requests that wait in a replica, on average of those that say so",
            self.waiting.clone(),
        );
        registry.register(
            "llm_d_epp_average_kv_cache_utilization",
            "Share of a replica's cache that is in use, on average of those that say so",
            self.cache.clone(),
        );
    }

    /// Notes how all pools stand.
    pub(crate) fn set(&self, table: &Table, now: Instant) {
        let Self {
            ready,
            waiting,
            cache,
        } = self;
        ready.clear();
        waiting.clear();
        cache.clear();
        for (name, pool) in pools(table, now) {
            let labels = PoolLabels { name };
            ready.get_or_create(&labels).set(pool.ready);
            for (family, value) in [(waiting, pool.waiting), (cache, pool.cache)] {
                if let Some(value) = value {
                    family.get_or_create(&labels).set(value);
                }
            }
        }
    }
}

/// The targets whose replicas are picked by what they hold, as `NAMESPACE/ROUTE/TARGET`.
fn pools(table: &Table, now: Instant) -> HashMap<String, Pool> {
    // A route with patterns has an entry for each, with the same targets.
    let mut seen = HashSet::new();
    let routes = table.routes.iter().filter(|route| seen.insert(&route.id));
    let targets = routes.flat_map(|route| route.targets.iter().map(move |target| (route, target)));
    targets
        .filter(|(_, target)| target.caches.is_some() || !target.adapters.is_empty())
        .map(|(route, target)| (format!("{}/{}", route.id, target.name), pool(target, now)))
        .collect()
}

fn pool(target: &Target, now: Instant) -> Pool {
    let endpoints = target.endpoints.iter();
    let ready = endpoints
        .clone()
        .filter(|endpoint| endpoint.standing(now) == Standing::Usable);
    let said: Vec<_> = endpoints
        .filter_map(|endpoint| endpoint.adapters.busyness())
        .collect();
    Pool {
        ready: i64::try_from(ready.count()).unwrap_or(i64::MAX),
        waiting: average(said.iter().filter_map(|busy| busy.waiting)),
        cache: average(said.iter().filter_map(|busy| busy.cache)),
    }
}

/// The average; nothing of nothing.
fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (0.0 < count).then(|| sum / count)
}
