//! What a Route's status says.

use crds::{
    Route, RouteStatus,
    condition::{self, ConditionKind, Reason},
    route::BackendStatus,
};
use jiff::Timestamp;

use super::validate::{InvalidRoute, ValidBackend, ValidRoute};
use crate::{
    conditions::{Judgement, Verdict},
    snapshots::Programmed,
};

/// What was seen.
pub(super) struct Observed<'a> {
    pub(super) route: &'a Route,
    pub(super) valid: Result<&'a ValidRoute, &'a InvalidRoute>,
    pub(super) programmed: &'a Programmed,
    pub(super) now: Timestamp,
}

pub(super) fn status(observed: &Observed<'_>) -> RouteStatus {
    let generation = observed.route.metadata.generation.unwrap_or(0);
    let previous = observed.route.status.clone().unwrap_or_default();
    // The version of the first edition with this generation stays: later ones change nothing for this route.
    let first = previous
        .snapshot_version
        .clone()
        .filter(|_| previous.observed_generation == generation);
    RouteStatus {
        observed_generation: generation,
        snapshot_version: first.or_else(|| observed.programmed.version.clone()),
        backends: backends(observed),
        conditions: judge(observed).conclude(&previous.conditions, generation, observed.now),
    }
}

fn judge(observed: &Observed<'_>) -> Judgement {
    let route = match observed.valid {
        Ok(route) => route,
        Err(invalid) => {
            return Judgement::default()
                .gate(
                    ConditionKind::Accepted,
                    Verdict::stuck(invalid.reason(), invalid.to_string()),
                )
                .gate(
                    ConditionKind::ResolvedRefs,
                    Verdict::unknown(Reason::Blocked, ""),
                )
                .gate(
                    ConditionKind::Programmed,
                    Verdict::unknown(Reason::Blocked, ""),
                )
                .gate(
                    ConditionKind::Available,
                    Verdict::unknown(Reason::Blocked, ""),
                );
        }
    };
    let resolved = match route.unresolved.first() {
        None => Verdict::holds(Reason::ResolvedRefs, ""),
        Some((reason, message)) => Verdict::waits(*reason, message.clone()),
    };
    Judgement::default()
        .gate(
            ConditionKind::Accepted,
            Verdict::holds(Reason::Accepted, ""),
        )
        .gate(ConditionKind::ResolvedRefs, resolved)
        .gate(
            ConditionKind::Programmed,
            observed.programmed.verdict.clone(),
        )
        .gate(ConditionKind::Available, available(observed, route))
        .when_ready(Reason::Ready, "the gateway answers for this route")
}

fn available(observed: &Observed<'_>, route: &ValidRoute) -> Verdict {
    let all = route.backends.len();
    let has_engines = |backend: &&ValidBackend| !backend.endpoints.is_empty();
    let able = route.backends.iter().filter(has_engines).count();
    let sleeping = route
        .backends
        .iter()
        .filter(|backend| backend.endpoints.is_empty() && backend.on_demand.is_some())
        .count();
    if all == 0 && (route.mcp.is_some() || route.a2a.is_some()) {
        let message = "the gateway reaches tool servers and agents when they are asked";
        return Verdict::holds(Reason::MinimumReplicasAvailable, message);
    }
    let message = format!("{able} of {all} backends can take requests");
    if able == 0 && 0 < sleeping {
        let message = format!("{message}, {sleeping} start when they are asked");
        return Verdict::holds(Reason::MinimumReplicasAvailable, message);
    }
    if able == 0 {
        let pools = route.backends.iter().filter_map(|backend| {
            let pool = backend.pool.as_ref()?;
            Some(format!(", no Pod of the InferencePool `{pool}` is ready"))
        });
        let message = message + &pools.collect::<String>();
        return Verdict::waits(Reason::MinimumReplicasUnavailable, message);
    }
    // A gateway that knows older addresses goes on with them; one that knows none yet cannot answer.
    let was_ready = observed
        .route
        .status
        .as_ref()
        .is_some_and(|status| condition::is_ready(&status.conditions));
    if !was_ready && !observed.programmed.is_current {
        return Verdict::waits(
            Reason::Pending,
            "the gateway is about to learn the newest addresses",
        );
    }
    Verdict::holds(Reason::MinimumReplicasAvailable, message)
}

fn backends(observed: &Observed<'_>) -> Vec<BackendStatus> {
    let Ok(route) = observed.valid else {
        return Vec::new();
    };
    let status = route.backends.iter().map(|backend| BackendStatus {
        name: backend.name.clone(),
        endpoints: i32::try_from(backend.endpoints.len()).unwrap_or(i32::MAX),
    });
    status.collect()
}
