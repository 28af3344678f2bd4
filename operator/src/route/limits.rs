//! A Route's limits, budgets and prices, as the gateway takes them.

use crds::route::{self, LimitMode};
use protocol::snapshot::{
    Budget, Limit, LongPrompts, Mode, Per, Prices, Rate, Rates, TargetLimits,
};

use super::validate::InvalidRoute;
use crate::quantities::{duration, nano_dollars};

/// Milliseconds of an hour.
const HOUR: u64 = 3_600_000;

pub(super) fn limits(limits: &[route::Limit]) -> Result<Vec<Limit>, InvalidRoute> {
    let limits = limits.iter().enumerate();
    limits
        .map(|(index, limit)| {
            let rate = |name: &str, given: Option<&route::Rate>| {
                let path = || format!("spec.limits[{index}].{name}.window");
                given.map(|given| rate(path, given)).transpose()
            };
            Ok(Limit {
                name: limit.name.clone(),
                per: per(limit.per),
                requests: rate("requests", limit.requests.as_ref())?,
                tokens: rate("tokens", limit.tokens.as_ref())?,
                concurrency: limit.concurrency,
                mode: mode(limit.mode),
            })
        })
        .collect()
}

/// The limits of a backend at a path.
pub(super) fn of_backend(
    at: &str,
    limits: Option<&route::BackendLimits>,
) -> Result<Option<TargetLimits>, InvalidRoute> {
    let Some(limits) = limits else {
        return Ok(None);
    };
    let rate = |name: &str, given: Option<&route::Rate>| {
        let path = || format!("{at}.{name}.window");
        given.map(|given| rate(path, given)).transpose()
    };
    Ok(Some(TargetLimits {
        requests: rate("requests", limits.requests.as_ref())?,
        tokens: rate("tokens", limits.tokens.as_ref())?,
        concurrency: limits.concurrency,
    }))
}

fn rate(path: impl Fn() -> String, rate: &route::Rate) -> Result<Rate, InvalidRoute> {
    let window = duration(&rate.window).filter(|window| !window.is_zero());
    let millis = window.and_then(|window| u64::try_from(window.as_millis()).ok());
    Ok(Rate {
        limit: u64::try_from(rate.limit).unwrap_or(0),
        window_millis: millis.ok_or_else(|| InvalidRoute::Window {
            path: path(),
            value: rate.window.clone(),
        })?,
    })
}

pub(super) fn budgets(budgets: &[route::Budget]) -> Result<Vec<Budget>, InvalidRoute> {
    let budgets = budgets.iter().enumerate();
    budgets
        .map(|(index, budget)| {
            let hours = budget
                .window
                .strip_suffix('h')
                .and_then(|hours| hours.parse().ok());
            let hours = hours.filter(|hours: &u64| 0 < *hours);
            Ok(Budget {
                name: budget.name.clone(),
                per: per(budget.per),
                amount_nanos: dollars(|| format!("spec.budgets[{index}].amount"), &budget.amount)?,
                window_millis: hours.ok_or_else(|| InvalidRoute::Window {
                    path: format!("spec.budgets[{index}].window"),
                    value: budget.window.clone(),
                })? * HOUR,
                mode: mode(budget.mode),
            })
        })
        .collect()
}

/// The prices at a path.
pub(super) fn prices(
    at: &str,
    prices: Option<&route::Prices>,
) -> Result<Option<Prices>, InvalidRoute> {
    let Some(prices) = prices else {
        return Ok(None);
    };
    let long = prices.long_prompts.as_ref();
    let long = long.map(|long| {
        let given = Given {
            input: &long.input_per_million,
            cached: long.cached_input_per_million.as_deref(),
            output: &long.output_per_million,
        };
        given
            .rates(&format!("{at}.longPrompts"))
            .map(|rates| LongPrompts {
                above_tokens: u64::try_from(long.above_tokens).unwrap_or(0),
                rates,
            })
    });
    let batches = prices.batches.as_ref();
    let batches = batches.map(|batches| {
        let given = Given {
            input: &batches.input_per_million,
            cached: batches.cached_input_per_million.as_deref(),
            output: &batches.output_per_million,
        };
        given.rates(&format!("{at}.batches"))
    });
    let given = Given {
        input: &prices.input_per_million,
        cached: prices.cached_input_per_million.as_deref(),
        output: &prices.output_per_million,
    };
    let Rates {
        input_nanos,
        cached_input_nanos,
        output_nanos,
    } = given.rates(at)?;
    Ok(Some(Prices {
        input_nanos,
        cached_input_nanos,
        output_nanos,
        long_prompts: long.transpose()?,
        batches: batches.transpose()?,
        margin_percent: prices.margin_percent.unwrap_or(0),
    }))
}

/// Prices as they are written.
struct Given<'a> {
    input: &'a str,
    cached: Option<&'a str>,
    output: &'a str,
}

impl Given<'_> {
    fn rates(&self, at: &str) -> Result<Rates, InvalidRoute> {
        let price = |name: &str, value: &str| dollars(|| format!("{at}.{name}"), value);
        let cached = self.cached;
        let cached = cached.map(|cached| price("cachedInputPerMillion", cached));
        Ok(Rates {
            input_nanos: price("inputPerMillion", self.input)?,
            cached_input_nanos: cached.transpose()?,
            output_nanos: price("outputPerMillion", self.output)?,
        })
    }
}

/// US dollars at a path, in nano-dollars.
pub(super) fn dollars(path: impl Fn() -> String, value: &str) -> Result<u64, InvalidRoute> {
    nano_dollars(value).ok_or_else(|| InvalidRoute::Dollars {
        path: path(),
        value: value.to_owned(),
    })
}

pub(super) fn per(per: Option<route::Per>) -> Per {
    match per {
        None | Some(route::Per::Key) => Per::Key,
        Some(route::Per::Route) => Per::Route,
        Some(route::Per::Team) => Per::Team,
        Some(route::Per::User) => Per::User,
        Some(route::Per::Tag) => Per::Tag,
        Some(route::Per::Model) => Per::Model,
    }
}

pub(super) fn mode(mode: Option<LimitMode>) -> Mode {
    match mode {
        None | Some(LimitMode::Enforce) => Mode::Enforce,
        Some(LimitMode::Shadow) => Mode::Shadow,
    }
}
