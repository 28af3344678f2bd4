//! Route: which route answers a model name for a caller, and in which order its targets are tried. Pure.

use std::{sync::Arc, time::Instant};

use protocol::snapshot::Strategy;
use rand::Rng;

use crate::{
    authorize::Caller,
    condition::Condition,
    cost::cost,
    fault::Fault,
    policy::{self, Candidate, Session},
    provider::Tokens,
    table::{Route, Table, Target},
};

/// The first route that answers the model name, that the caller may use, and whose condition holds.
///
/// # Errors
/// Without a valid key the caller learns only that; otherwise a model that is not allowed looks like one that is not
/// there.
pub(crate) fn route<'a>(
    table: &'a Table,
    caller: &Caller,
    model: &str,
    holds: impl Fn(&Condition) -> bool,
) -> Result<&'a Arc<Route>, Fault> {
    let allowed = table
        .answering(model)
        .filter(|route| caller.may_use(route))
        .find(|route| route.when.as_ref().is_none_or(&holds))
        .filter(|_| caller.may_ask_for(model));
    allowed.ok_or_else(|| match caller {
        Caller::Nobody(why) => why.fault(),
        Caller::Key(_) => Fault::model_not_found(model),
    })
}

/// The order in which a route's targets are tried; those that are `barred` for the request are left out.
pub(crate) fn order(
    route: &Route,
    request: &Wish<'_>,
    now: Instant,
    random: &mut impl Rng,
) -> Vec<usize> {
    let is_measured = route.strategy.is_measured();
    let candidates: Vec<Candidate> = route
        .targets
        .iter()
        .map(|target| {
            let plain = Candidate {
                weight: target.weight,
                priority: target.priority,
                is_usable: target
                    .endpoints
                    .iter()
                    .any(|endpoint| endpoint.is_usable(now)),
                ..Candidate::default()
            };
            match is_measured {
                true => measure(plain, target, request.guess, now),
                false => plain,
            }
        })
        .collect();
    let mut order = match request.session {
        Some(session) if route.strategy == Strategy::Weighted => {
            let name = |place: usize| route.targets[place].name.as_str();
            policy::order_for_session(session, &candidates, name)
        }
        _ => policy::order(route.strategy, &candidates, random),
    };
    if !request.barred.is_empty() {
        order.retain(|place| !request.barred.contains(place));
    }
    order
}

/// What of a request decides where it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The session that it belongs to.
    pub(crate) session: Option<Session>,
    /// Targets that are not asked for it, by their places.
    pub(crate) barred: &'a [usize],
    /// The tokens that it may need.
    pub(crate) guess: Tokens,
}

/// Adds what was learned of a target.
fn measure(plain: Candidate, target: &Target, guess: Tokens, now: Instant) -> Candidate {
    let endpoints = &target.endpoints;
    let in_flight: usize = endpoints.iter().map(|endpoint| endpoint.in_flight()).sum();
    let paces = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.pace.seconds(now));
    let shares = endpoints
        .iter()
        .filter_map(|endpoint| endpoint.pace.headroom(now));
    Candidate {
        load: in_flight as f64 / endpoints.len().max(1) as f64,
        pace: mean(paces),
        cost: cost(&target.prices, guess).nanos(),
        headroom: mean(shares),
        ..plain
    }
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = numbers.fold((0_u32, 0.0), |(count, sum), number| {
        (count + 1, sum + number)
    });
    (0 < count).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::{
        openai::ErrorKind,
        snapshot::{Access, GatewaySnapshot, RouteEntry},
    };

    use super::route;
    use crate::{
        authorize::{Caller, Unauthorized},
        people::Key,
        table::{Lasting, Table},
    };

    fn entry(name: &str, model: &str, access: Access) -> RouteEntry {
        RouteEntry {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            generation: 1,
            models: vec![model.to_owned()],
            access,
            ..RouteEntry::default()
        }
    }

    #[track_caller]
    fn check(caller: &Caller, model: &str, expected: Result<&str, ErrorKind>) {
        let routes = vec![
            entry("closed", "gpt", Access::Keys(vec!["ns/a".to_owned()])),
            entry("any", "small", Access::AnyKey),
            entry("open", "free-*", Access::Open),
            entry(
                "later",
                "gpt",
                Access::Keys(vec!["ns/a".to_owned(), "ns/b".to_owned()]),
            ),
        ];
        let table = Table::compile(
            &GatewaySnapshot::new(routes, Vec::new()),
            &Lasting::default(),
        )
        .unwrap();
        let found = route(&table, caller, model, |_| true)
            .map(|route| route.id.as_str())
            .map_err(|fault| fault.kind);
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_route_that_the_caller_may_use_answers() {
        let key = |id: &str| {
            Caller::Key(Arc::new(Key {
                id: id.to_owned(),
                ..Key::default()
            }))
        };
        let nobody = Caller::Nobody(Unauthorized::Wrong);
        check(&key("ns/a"), "gpt", Ok("ns/closed"));
        check(&key("ns/b"), "gpt", Ok("ns/later"));
        check(&key("ns/c"), "gpt", Err(ErrorKind::ModelNotFound));
        check(&key("ns/c"), "small", Ok("ns/any"));
        check(&key("ns/c"), "none", Err(ErrorKind::ModelNotFound));
        check(&nobody, "free-x", Ok("ns/open"));
        check(&nobody, "small", Err(ErrorKind::InvalidApiKey));
        check(&nobody, "none", Err(ErrorKind::InvalidApiKey));
    }
}
