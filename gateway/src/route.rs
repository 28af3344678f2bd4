//! Route: which route answers a model name for a caller, and in which order its targets are tried. Pure.

use std::{sync::Arc, time::Instant};

use rand::Rng;

use crate::{
    authorize::Caller,
    fault::Fault,
    policy::{self, Candidate},
    table::{Route, Table},
};

/// The first route that answers the model name and that the caller may use.
///
/// # Errors
/// Without a valid key the caller learns only that; otherwise a model that is not allowed looks like one that is not
/// there.
pub(crate) fn route<'a>(
    table: &'a Table,
    caller: &Caller,
    model: &str,
) -> Result<&'a Arc<Route>, Fault> {
    let allowed = table
        .answering(model)
        .find(|route| caller.may_use(route))
        .filter(|_| caller.may_ask_for(model));
    allowed.ok_or_else(|| match caller {
        Caller::Nobody(why) => why.fault(),
        Caller::Key(_) => Fault::model_not_found(model),
    })
}

/// The order in which a route's targets are tried.
pub(crate) fn order(route: &Route, now: Instant, random: &mut impl Rng) -> Vec<usize> {
    let candidates: Vec<Candidate> = route
        .targets
        .iter()
        .map(|target| Candidate {
            weight: target.weight,
            priority: target.priority,
            is_usable: target
                .endpoints
                .iter()
                .any(|endpoint| endpoint.is_usable(now)),
        })
        .collect();
    policy::order(route.strategy, &candidates, random)
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
        let found = route(&table, caller, model)
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
