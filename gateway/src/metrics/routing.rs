//! Metrics of where requests go when the first choice does not answer.

mod waiting;

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use telemetry::metrics::Registry;

use self::waiting::WaitSeries;
pub(crate) use self::waiting::{Wait, WaitingPlace};
use crate::{
    endpoint::{Aside, Standing},
    table::Table,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FallbackLabels {
    route: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AsideLabels {
    route: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    route: String,
    target: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HedgeLabels {
    route: String,
    won: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CopyLabels {
    route: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KvEventLabels {
    event: &'static str,
}

/// The series.
#[derive(Debug, Default)]
pub(crate) struct RoutingSeries {
    fallbacks: Family<FallbackLabels, Counter>,
    asides: Family<AsideLabels, Counter>,
    endpoints: Family<EndpointLabels, Gauge>,
    hedges: Family<HedgeLabels, Counter>,
    copies: Family<CopyLabels, Counter>,
    kv_events: Family<KvEventLabels, Counter>,
    conditions: Counter,
    waits: WaitSeries,
}

impl RoutingSeries {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "gateway_fallbacks",
            "Requests that another route's model was asked for, by the failure that led there",
            self.fallbacks.clone(),
        );
        registry.register(
            "gateway_endpoints_set_aside",
            "Upstreams left out since they said that they take no requests",
            self.asides.clone(),
        );
        registry.register(
            "gateway_endpoints",
            "Replicas of a target, by how they stand",
            self.endpoints.clone(),
        );
        registry.register(
            "gateway_hedges",
            "Second requests beside a late one, by whose answer was taken",
            self.hedges.clone(),
        );
        registry.register(
            "gateway_mirror_copies",
            "Requests that were drawn to be copied to a mirror, by what became of the copy",
            self.copies.clone(),
        );
        registry.register(
            "gateway_kv_events",
            "What replicas said of their caches: blocks stored and removed, caches cleared, engines restarted, batches missed",
            self.kv_events.clone(),
        );
        registry.register(
            "gateway_conditions_failed",
            "Conditions that failed on a request and were taken for false",
            self.conditions.clone(),
        );
        self.waits.register(registry);
    }

    /// Counts a request that leaves a route for another model.
    pub(crate) fn count_fallback(&self, route: &str, class: &'static str) {
        let route = route.to_owned();
        let labels = FallbackLabels { route, class };
        self.fallbacks.get_or_create(&labels).inc();
    }

    /// Counts a second request.
    pub(crate) fn count_hedge(&self, route: &str, is_second: bool) {
        let route = route.to_owned();
        let won = if is_second { "second" } else { "first" };
        self.hedges.get_or_create(&HedgeLabels { route, won }).inc();
    }

    /// Counts a request that was drawn to be copied.
    pub(crate) fn count_copy(&self, route: &str, result: &'static str) {
        let route = route.to_owned();
        let labels = CopyLabels { route, result };
        self.copies.get_or_create(&labels).inc();
    }

    /// Counts what a replica said of its cache.
    pub(crate) fn count_kv_events(&self, event: &'static str, count: u64) {
        let labels = KvEventLabels { event };
        self.kv_events.get_or_create(&labels).inc_by(count);
    }

    /// Counts a condition that failed.
    pub(crate) fn count_condition(&self) {
        self.conditions.inc();
    }

    /// Counts an upstream that is set aside.
    pub(crate) fn count_aside(&self, route: &str, why: Aside) {
        let route = route.to_owned();
        let reason = match why {
            Aside::RateLimit => "rate_limit",
            Aside::Unauthorized => "unauthorized",
        };
        let labels = AsideLabels { route, reason };
        self.asides.get_or_create(&labels).inc();
    }

    /// Notes how all endpoints stand; asked for with each scrape.
    pub(crate) fn set_endpoints(&self, table: &Table, now: Instant) {
        let mut counts: HashMap<EndpointLabels, i64> = HashMap::new();
        // A route with patterns has an entry for each, with the same targets.
        let mut seen = HashSet::new();
        let routes = table.routes.iter().filter(|route| seen.insert(&route.id));
        for route in routes {
            for target in &route.targets {
                for endpoint in &target.endpoints {
                    let labels = EndpointLabels {
                        route: route.id.clone(),
                        target: target.name.clone(),
                        state: state(endpoint.standing(now)),
                    };
                    *counts.entry(labels).or_default() += 1;
                }
            }
        }
        self.endpoints.clear();
        for (labels, count) in counts {
            self.endpoints.get_or_create(&labels).set(count);
        }
    }
}

const fn state(standing: Standing) -> &'static str {
    match standing {
        Standing::Usable => "usable",
        Standing::Probing => "probing",
        Standing::Ejected => "ejected",
        Standing::Unauthorized => "unauthorized",
        Standing::RateLimited { .. } => "rate_limited",
    }
}
