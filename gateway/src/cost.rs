//! Costs: what a request's tokens cost at the target that answered it. Pure.

use std::ops::AddAssign;

use protocol::snapshot::Prices;
use serde::{Deserialize, Serialize};

use crate::provider::Tokens;

/// Nano-dollars in a dollar.
const NANOS: u64 = 1_000_000_000;
/// Tokens that prices are given for.
const PRICED_TOKENS: u128 = 1_000_000;

/// Money, in nano-dollars: the price of one token is a fraction of a micro-dollar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Cost(u64);

impl Cost {
    /// So many nano-dollars.
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nano-dollars.
    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// Dollars, for metrics.
    pub(crate) fn as_dollars(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

/// What tokens cost, rounded up to a nano-dollar. Tokens of the prompt that the upstream had cached have a price of
/// their own, if one is given.
pub(crate) fn cost(prices: &Prices, tokens: Tokens) -> Cost {
    let cached = tokens.cached.unwrap_or(0).min(tokens.prompt);
    let parts = [
        (tokens.prompt - cached, prices.input_nanos),
        (
            cached,
            prices.cached_input_nanos.unwrap_or(prices.input_nanos),
        ),
        (tokens.completion, prices.output_nanos),
    ];
    let sum: u128 = parts
        .into_iter()
        .map(|(count, price)| u128::from(count) * u128::from(price))
        .sum();
    Cost(u64::try_from(sum.div_ceil(PRICED_TOKENS)).unwrap_or(u64::MAX))
}

/// An amount in dollars, as `12.5`.
pub(crate) fn dollars(nanos: u64) -> String {
    let (whole, rest) = (nanos / NANOS, nanos % NANOS);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use protocol::snapshot::Prices;

    use super::{Cost, cost, dollars};
    use crate::provider::Tokens;

    #[track_caller]
    fn check(prompt: u64, cached: u64, completion: u64, expected: u64) {
        let prices = Prices {
            input_nanos: 2_500_000_000,
            cached_input_nanos: Some(1_250_000_000),
            output_nanos: 10_000_000_000,
        };
        let tokens = Tokens {
            prompt,
            completion,
            cached: Some(cached),
        };
        assert_eq!(cost(&prices, tokens), Cost(expected));
    }

    #[test]
    fn tokens_cost_what_their_prices_say() {
        check(1_000_000, 0, 0, 2_500_000_000);
        check(1_000_000, 400_000, 0, 1_500_000_000 + 500_000_000);
        check(0, 0, 3, 30_000);
        check(1, 5, 0, 1250);
        check(u64::MAX, 0, u64::MAX, u64::MAX);
        let free = Prices::default();
        let tokens = Tokens {
            prompt: 9,
            ..Tokens::default()
        };
        assert_eq!(cost(&free, tokens), Cost(0));
    }

    #[test]
    fn amounts_are_told_in_dollars() {
        assert_eq!(dollars(0), "0");
        assert_eq!(dollars(30_000), "0.00003");
        assert_eq!(dollars(12_500_000_000), "12.5");
        assert_eq!(dollars(500_000_000_000), "500");
    }
}
