//! Rules: limits and budgets, compiled.

use std::{sync::Arc, time::Duration};

use protocol::{
    allowance::{self, Allowance, Window},
    snapshot::{Budget, Limit, Mode, Per, Rate, TargetLimits},
};
use thiserror::Error;

use super::{
    Registry, Resource, Scope,
    meter::Capacity,
    registry::{MeterId, Meters},
};
use crate::{
    people::Kind,
    table::{InvalidPattern, Pattern},
};

/// One limit.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(super) name: String,
    pub(super) scope: Arc<Scope>,
    pub(super) per: Per,
    pub(super) mode: Mode,
    pub(super) resource: Resource,
    pub(super) capacity: Capacity,
    pub(super) meters: Arc<Meters>,
    /// The models that count, if not all.
    models: Option<Pattern>,
}

impl Rule {
    /// Whether only requests for some models count.
    pub(super) const fn is_for_some(&self) -> bool {
        self.models.is_some()
    }

    /// Whether requests for this model count.
    pub(super) fn is_about(&self, model: &str) -> bool {
        self.models
            .as_ref()
            .is_none_or(|pattern| pattern.matches(model))
    }
}

/// Why an allowance cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidRules {
    /// A model that is no pattern.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    /// Two limits that nothing tells apart.
    #[error("two of `{name}` have the same window and the same model; keep one of them")]
    Twice {
        /// What they are called.
        name: String,
    },
}

/// What all rules of one limit share.
struct Maker<'a> {
    registry: &'a Registry,
    scope: &'a Arc<Scope>,
    name: &'a str,
    per: Per,
    mode: Mode,
}

impl Maker<'_> {
    fn rule(&self, resource: Resource, capacity: Capacity) -> Rule {
        let id = MeterId {
            scope: Arc::clone(self.scope),
            name: self.name.to_owned(),
            resource,
            per: self.per,
            renewal: capacity.renewal(),
        };
        Rule {
            name: self.name.to_owned(),
            scope: Arc::clone(self.scope),
            per: self.per,
            mode: self.mode,
            resource,
            capacity,
            meters: self.registry.meters(id, capacity),
            models: None,
        }
    }
}

/// The rules of a route.
pub(crate) fn rules(
    route: &str,
    limits: &[Limit],
    budgets: &[Budget],
    registry: &Registry,
) -> Vec<Rule> {
    let scope = &Arc::new(Scope::Route(route.to_owned()));
    let mut rules = Vec::new();
    for limit in limits {
        let maker = Maker {
            registry,
            scope,
            name: &limit.name,
            per: limit.per,
            mode: limit.mode,
        };
        let given = given(limit.requests, limit.tokens, limit.concurrency);
        rules.extend(given.map(|(resource, capacity)| maker.rule(resource, capacity)));
    }
    for budget in budgets {
        let maker = Maker {
            registry,
            scope,
            name: &budget.name,
            per: budget.per,
            mode: budget.mode,
        };
        let window = Duration::from_millis(budget.window_millis.max(1));
        let capacity = Capacity::window(budget.amount_nanos, window);
        rules.push(maker.rule(Resource::Cost, capacity));
    }
    rules
}

/// The rules of a target of a route, which hold for all callers together.
pub(crate) fn of_target(
    route: &str,
    target: &str,
    limits: Option<&TargetLimits>,
    registry: &Registry,
) -> Vec<Rule> {
    let Some(limits) = limits else {
        return Vec::new();
    };
    let scope = &Arc::new(Scope::Target {
        route: route.to_owned(),
        target: target.to_owned(),
    });
    let maker = Maker {
        registry,
        scope,
        name: &format!("target-{target}"),
        per: Per::Route,
        mode: Mode::Enforce,
    };
    given(limits.requests, limits.tokens, limits.concurrency)
        .map(|(resource, capacity)| maker.rule(resource, capacity))
        .collect()
}

/// What of requests and tokens in a time, and of requests at once, is limited.
fn given(
    requests: Option<Rate>,
    tokens: Option<Rate>,
    concurrency: Option<u32>,
) -> impl Iterator<Item = (Resource, Capacity)> {
    let refill = |rate: Rate| {
        let window = Duration::from_millis(rate.window_millis.max(1));
        Capacity::refill(rate.limit, window)
    };
    let at_once = |count: u32| Capacity::at_once(count.into());
    [
        (Resource::Requests, requests.map(refill)),
        (Resource::Tokens, tokens.map(refill)),
        (Resource::Concurrency, concurrency.map(at_once)),
    ]
    .into_iter()
    .filter_map(|(resource, capacity)| Some((resource, capacity?)))
}

/// The rules of somebody's allowance.
///
/// # Errors
/// [`InvalidRules`]
pub(crate) fn allowed(
    kind: Kind,
    id: &str,
    allowance: &Allowance,
    registry: &Registry,
) -> Result<Vec<Rule>, InvalidRules> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut add = |name: &str,
                   model: Option<&String>,
                   mode: Mode,
                   limits: Vec<(Resource, Capacity)>|
     -> Result<(), InvalidRules> {
        let scope = &Arc::new(Scope::Party {
            kind,
            id: id.to_owned(),
            model: model.cloned(),
        });
        let soft = match mode {
            Mode::Enforce => "",
            Mode::Shadow => "soft-",
        };
        let about = if model.is_some() { "model-" } else { "" };
        let maker = Maker {
            registry,
            scope,
            name: &format!("{kind}-{soft}{about}{name}"),
            per: Per::Route,
            mode,
        };
        for (resource, capacity) in limits {
            let rule = Rule {
                models: model.map(|model| Pattern::parse(model)).transpose()?,
                ..maker.rule(resource, capacity)
            };
            if rules
                .iter()
                .any(|other| Arc::ptr_eq(&other.meters, &rule.meters))
            {
                return Err(InvalidRules::Twice { name: rule.name });
            }
            rules.push(rule);
        }
        Ok(())
    };
    for limit in &allowance.limits {
        let refill = |rate: allowance::Rate| Capacity::refill(rate.limit, refilled_in(rate.window));
        let given = [
            (Resource::Requests, limit.requests.map(refill)),
            (Resource::Tokens, limit.tokens.map(refill)),
            (
                Resource::Concurrency,
                limit
                    .concurrency
                    .map(|count| Capacity::at_once(count.into())),
            ),
        ];
        let given = given
            .into_iter()
            .filter_map(|(resource, capacity)| Some((resource, capacity?)));
        add("limit", limit.model.as_ref(), limit.mode, given.collect())?;
    }
    for budget in &allowance.budgets {
        let amount = budget.amount.nanos();
        let capacity = match budget.window {
            Some(Window::Every(time)) => Capacity::window(amount, time),
            Some(Window::Month) => Capacity::month(amount),
            None => Capacity::once(amount),
        };
        let capacity = vec![(Resource::Cost, capacity)];
        add("budget", budget.model.as_ref(), budget.mode, capacity)?;
    }
    Ok(rules)
}

/// A rate over a month comes back in the days of an average one.
fn refilled_in(window: Window) -> Duration {
    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    match window {
        Window::Every(time) => time,
        Window::Month => MONTH,
    }
}
