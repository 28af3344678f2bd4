//! Limits: what a route gives each key, or all its callers together: requests and tokens in a time, requests at once,
//! money in a time.
//!
//! Before it is sent a request reserves what it may need, and settles what it did need when it ends. So requests that
//! run beside each other go over a limit by no more than one of them needs beyond its reservation.

mod meter;
mod registry;

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use protocol::{
    openai::ErrorKind,
    snapshot::{Budget, Limit, Mode, Per},
};
use tracing::warn;

use self::meter::{Capacity, Meter};
pub(crate) use self::registry::Registry;
use crate::{
    authorize::Caller,
    cost::{Cost, dollars},
    fault::Fault,
};

/// What a request may need, or what it needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Tokens of the prompt and of the answer.
    pub(crate) tokens: u64,
    /// Money.
    pub(crate) cost: Cost,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Resource {
    /// Requests in a time.
    Requests,
    /// Tokens in a time.
    Tokens,
    /// Requests at once.
    Concurrency,
    /// Nano-dollars in a time.
    Cost,
}

impl Resource {
    /// The label in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Concurrency => "concurrency",
            Self::Cost => "cost",
        }
    }

    const fn of(self, need: Need) -> u64 {
        match self {
            Self::Requests | Self::Concurrency => 1,
            Self::Tokens => need.tokens,
            Self::Cost => need.cost.nanos(),
        }
    }
}

/// One limit of a route.
#[derive(Debug)]
pub(crate) struct Rule {
    name: String,
    per: Per,
    mode: Mode,
    resource: Resource,
    capacity: Capacity,
    meters: Arc<registry::Meters>,
}

/// What a request holds of its route's limits; what is not settled is given back.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    held: Vec<Held>,
    /// What the client is told of the tightest limits.
    headers: HeaderMap,
}

#[derive(Debug)]
struct Held {
    meter: Arc<Meter>,
    resource: Resource,
    capacity: Capacity,
    amount: u64,
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The limit's name in the route.
    pub(crate) name: String,
    /// What is limited.
    pub(crate) resource: Resource,
    capacity: Capacity,
    per: Per,
    retry_after: Duration,
}

/// The rules of a route.
pub(crate) fn rules(
    route: &str,
    limits: &[Limit],
    budgets: &[Budget],
    registry: &Registry,
) -> Vec<Rule> {
    let rule = |name: &str, per: Per, mode: Mode, resource: Resource, capacity: Capacity| Rule {
        name: name.to_owned(),
        per,
        mode,
        resource,
        capacity,
        meters: registry.meters(route, name, resource, per, capacity),
    };
    let mut rules = Vec::new();
    for limit in limits {
        let Limit {
            name, per, mode, ..
        } = limit;
        let rates = [
            (Resource::Requests, limit.requests),
            (Resource::Tokens, limit.tokens),
        ];
        for (resource, rate) in rates {
            let Some(rate) = rate else { continue };
            let window = Duration::from_millis(rate.window_millis.max(1));
            let capacity = Capacity::refill(rate.limit, window);
            rules.push(rule(name, *per, *mode, resource, capacity));
        }
        if let Some(count) = limit.concurrency {
            let capacity = Capacity::at_once(count.into());
            rules.push(rule(name, *per, *mode, Resource::Concurrency, capacity));
        }
    }
    for budget in budgets {
        let window = Duration::from_millis(budget.window_millis.max(1));
        let capacity = Capacity::window(budget.amount_nanos, window);
        let Budget {
            name, per, mode, ..
        } = budget;
        rules.push(rule(name, *per, *mode, Resource::Cost, capacity));
    }
    rules
}

/// Reserves what a request may need. `over` hears of limits that only watch.
///
/// # Errors
/// A limit is reached; nothing is reserved then.
pub(crate) fn reserve(
    rules: &[Rule],
    caller: &Caller,
    need: Need,
    now: Timestamp,
    mut over: impl FnMut(&Reached),
) -> Result<Reservation, Reached> {
    let mut reservation = Reservation::default();
    for rule in rules {
        let meter = rule.meters.of(match rule.per {
            Per::Key => caller.account(),
            Per::Route => "",
        });
        let amount = rule.resource.of(need);
        match meter.reserve(rule.capacity, amount, now) {
            Ok(left) => {
                reservation.tell(rule, left);
                reservation.held.push(Held {
                    meter,
                    resource: rule.resource,
                    capacity: rule.capacity,
                    amount,
                });
            }
            Err(retry_after) => {
                let reached = Reached {
                    name: rule.name.clone(),
                    resource: rule.resource,
                    capacity: rule.capacity,
                    per: rule.per,
                    retry_after,
                };
                over(&reached);
                match rule.mode {
                    Mode::Enforce => return Err(reached),
                    Mode::Shadow => {
                        warn!(limit = rule.name, %reached, "a limit that only watches is reached");
                    }
                }
            }
        }
    }
    Ok(reservation)
}

impl Reservation {
    /// Puts what was needed in the place of what was reserved.
    pub(crate) fn settle(&mut self, need: Need, now: Timestamp) {
        for held in self.held.drain(..) {
            let used = held.resource.of(need);
            held.meter.settle(held.capacity, held.amount, used, now);
        }
    }

    /// The headers that tell how much is left, by the names of OpenAI's API.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn tell(&mut self, rule: &Rule, left: meter::Left) {
        const REQUESTS: [HeaderName; 3] = [
            HeaderName::from_static("x-ratelimit-limit-requests"),
            HeaderName::from_static("x-ratelimit-remaining-requests"),
            HeaderName::from_static("x-ratelimit-reset-requests"),
        ];
        const TOKENS: [HeaderName; 3] = [
            HeaderName::from_static("x-ratelimit-limit-tokens"),
            HeaderName::from_static("x-ratelimit-remaining-tokens"),
            HeaderName::from_static("x-ratelimit-reset-tokens"),
        ];
        let [limit, remaining, reset] = match rule.resource {
            Resource::Requests => REQUESTS,
            Resource::Tokens => TOKENS,
            Resource::Concurrency | Resource::Cost => return,
        };
        let told = self.headers.get(&remaining);
        let told = told.and_then(|told| told.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|told| told <= left.amount) {
            return;
        }
        self.headers
            .insert(limit, HeaderValue::from(rule.capacity.limit()));
        self.headers
            .insert(remaining, HeaderValue::from(left.amount));
        let seconds = format!("{}ms", left.full_after.as_millis());
        if let Ok(value) = HeaderValue::from_str(&seconds) {
            self.headers.insert(reset, value);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            held.meter.release(held.amount);
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.per {
            Per::Key => "this key",
            Per::Route => "this route",
        };
        let (limit, window) = (self.capacity.limit(), self.capacity.describe_window());
        write!(
            formatter,
            "The limit `{}` of {whose} is reached: ",
            self.name
        )?;
        match self.resource {
            Resource::Requests => write!(formatter, "{limit} requests{window}."),
            Resource::Tokens => write!(formatter, "{limit} tokens{window}."),
            Resource::Concurrency => write!(formatter, "{limit} requests at once."),
            Resource::Cost => {
                let amount = dollars(limit);
                write!(formatter, "{amount} US dollars{window}.")
            }
        }
    }
}

impl Reached {
    /// What the caller is told.
    pub(crate) fn fault(&self) -> Fault {
        let kind = match self.resource {
            Resource::Cost => ErrorKind::QuotaExceeded,
            _ => ErrorKind::RateLimited,
        };
        let seconds = self.retry_after.as_secs_f64().ceil().max(1.0) as u64;
        Fault {
            retry_after: Some(seconds),
            ..Fault::new(kind, format!("{self} Try again in {seconds} s."))
        }
    }
}

#[cfg(test)]
mod tests;
