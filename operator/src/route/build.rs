//! A Route's entries in the gateway's snapshot. Cannot fail.

use std::{cmp::Reverse, time::Duration};

use crds::route::Strategy as Picked;
use jiff::Timestamp;
use protocol::snapshot::{Affinity, Mirror, Retries, RouteEntry, Strategy, Target, Timeouts};

use super::{
    patterns::rank,
    validate::{ValidBackend, ValidMirror, ValidRoute},
};

/// An entry with what decides its place.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    rank: (bool, Reverse<usize>),
    created: Timestamp,
    entry: RouteEntry,
}

/// The entries: one for all exact names, one for each pattern, so that the most exact one wins over all routes.
pub(super) fn build(route: &ValidRoute) -> Vec<Placed> {
    let others = (route.mcp.is_some() || route.a2a.is_some()).then(|| others(route));
    if route.backends.is_empty() {
        return others.into_iter().collect();
    }
    let (patterns, exact): (Vec<String>, Vec<String>) = route
        .patterns
        .iter()
        .cloned()
        .partition(|pattern| pattern.contains('*'));
    let groups = patterns.into_iter().map(|pattern| vec![pattern]);
    let exact = (!exact.is_empty()).then_some(exact);
    groups
        .chain(exact)
        .map(|models| place(route, models))
        .chain(others)
        .collect()
}

/// The entry of what is not a model, once, however many entries the models need.
fn others(route: &ValidRoute) -> Placed {
    let placed = place(route, Vec::new());
    Placed {
        entry: RouteEntry {
            targets: Vec::new(),
            mirror: None,
            mcp: route.mcp.clone(),
            a2a: route.a2a.clone(),
            prompts: None,
            ..placed.entry
        },
        ..placed
    }
}

/// The entries of all routes in order of precedence.
pub(super) fn in_order(mut entries: Vec<Placed>) -> Vec<RouteEntry> {
    entries.sort_by(|left, right| {
        let place = |placed: &Placed| {
            (
                placed.rank,
                placed.created,
                placed.entry.namespace.clone(),
                placed.entry.name.clone(),
            )
        };
        place(left).cmp(&place(right))
    });
    entries.into_iter().map(|placed| placed.entry).collect()
}

fn place(route: &ValidRoute, models: Vec<String>) -> Placed {
    // All exact names are equally exact, whatever their length.
    let rank = match models.first().map(|pattern| rank(pattern)) {
        Some((true, length)) => (true, length),
        Some((false, _)) | None => (false, Reverse(0)),
    };
    Placed {
        rank,
        created: route.created,
        entry: RouteEntry {
            namespace: route.key.namespace.clone(),
            name: route.key.name.clone(),
            generation: route.generation,
            models,
            strategy: match route.strategy {
                Picked::Weighted => Strategy::Weighted,
                Picked::Failover => Strategy::Failover,
                Picked::LeastBusy => Strategy::LeastBusy,
                Picked::Latency => Strategy::Latency,
                Picked::Cost => Strategy::Cost,
                Picked::Headroom => Strategy::Headroom,
            },
            affinity: match route.affinity {
                crds::route::Affinity::None => Affinity::None,
                crds::route::Affinity::Prefix => Affinity::Prefix,
            },
            targets: route.backends.iter().map(target).collect(),
            retries: Retries {
                attempts: route.attempts,
                backoff_millis: millis(route.backoff),
            },
            timeouts: Timeouts {
                request_millis: millis(route.request),
                connect_millis: millis(route.connect),
                first_byte_millis: millis(route.first_token),
                stream_idle_millis: millis(route.stream_idle),
            },
            access: route.access.clone(),
            jwt: route.jwt.clone(),
            limits: route.limits.clone(),
            budgets: route.budgets.clone(),
            cache: route.cache.clone(),
            guards: route.guards.clone(),
            fallbacks: route.fallbacks.clone(),
            mirror: route.mirror.as_ref().map(mirror),
            hedging: route.hedging,
            queue: route.queue.clone(),
            cold_start_millis: route.cold_start_millis,
            session: route.session.clone(),
            when: route.when.clone(),
            mcp: None,
            a2a: None,
            prompts: route.prompts.clone(),
        },
    }
}

fn mirror(mirror: &ValidMirror) -> Box<Mirror> {
    Box::new(Mirror {
        target: target(&mirror.backend),
        percent: mirror.percent,
        timeout_millis: millis(mirror.timeout),
    })
}

fn target(backend: &ValidBackend) -> Target {
    let own = Target {
        name: backend.name.clone(),
        model: backend.model.clone(),
        endpoints: backend.endpoints.clone(),
        weight: backend.weight,
        priority: backend.priority,
        when: backend.when.clone(),
        prices: backend.prices,
        on_demand: backend.on_demand.clone(),
        adapters: backend.adapters.clone(),
        prompt_cache: backend.prompt_cache,
        kv_events: backend.kv_events.clone(),
        limits: backend.limits.clone(),
        ..Target::default()
    };
    match &backend.provider {
        None => own,
        Some(engine) => Target {
            credential: engine.credential.clone(),
            provider: engine.provider.clone(),
            vendor: engine.vendor.clone(),
            apis: engine.apis.clone(),
            headers: engine.headers.clone(),
            ..own
        },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
