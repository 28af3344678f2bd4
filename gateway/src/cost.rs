//! Costs: what a request's tokens cost at the target that answered it. Pure.

use std::ops::AddAssign;

use protocol::snapshot::{Prices, Rates};
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
/// their own, if one is given; a long prompt has prices of its own for all of its request.
pub(crate) fn cost(prices: &Prices, tokens: Tokens) -> Cost {
    let long = prices.long_prompts.as_ref();
    let rates = match long.filter(|long| long.above_tokens < tokens.prompt) {
        Some(long) => long.rates,
        None => Rates {
            input_nanos: prices.input_nanos,
            cached_input_nanos: prices.cached_input_nanos,
            output_nanos: prices.output_nanos,
        },
    };
    let cached = tokens.cached.unwrap_or(0).min(tokens.prompt);
    let parts = [
        (tokens.prompt - cached, rates.input_nanos),
        (
            cached,
            rates.cached_input_nanos.unwrap_or(rates.input_nanos),
        ),
        (tokens.completion, rates.output_nanos),
    ];
    let sum: u128 = parts
        .into_iter()
        .map(|(count, price)| u128::from(count) * u128::from(price))
        .sum();
    // A margin takes off all of a cost at most.
    let percent = (100 + i32::from(prices.margin_percent))
        .max(0)
        .unsigned_abs();
    let sum = sum.saturating_mul(u128::from(percent));
    Cost(u64::try_from(sum.div_ceil(PRICED_TOKENS * 100)).unwrap_or(u64::MAX))
}

/// The prices of a line of a batch.
pub(crate) fn of_batches(prices: &Prices) -> Prices {
    match prices.batches {
        None => *prices,
        Some(rates) => Prices {
            input_nanos: rates.input_nanos,
            cached_input_nanos: rates.cached_input_nanos,
            output_nanos: rates.output_nanos,
            long_prompts: None,
            batches: None,
            margin_percent: prices.margin_percent,
        },
    }
}

/// An amount in dollars, as `12.5`.
pub(crate) fn dollars(nanos: u64) -> String {
    let (whole, rest) = (nanos / NANOS, nanos % NANOS);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use protocol::snapshot::{LongPrompts, Prices, Rates};

    use super::{Cost, cost, dollars, of_batches};
    use crate::provider::Tokens;

    #[track_caller]
    fn check(prompt: u64, cached: u64, completion: u64, expected: u64) {
        let prices = Prices {
            input_nanos: 2_500_000_000,
            cached_input_nanos: Some(1_250_000_000),
            output_nanos: 10_000_000_000,
            ..Prices::default()
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

    /// Gemini 2.5 Pro's prices, by hand: $1.25, $0.31 and $10 a million, above 200,000 tokens $2.50, $0.625 and $15, in
    /// batches half.
    const TIERED: Prices = Prices {
        input_nanos: 1_250_000_000,
        cached_input_nanos: Some(310_000_000),
        output_nanos: 10_000_000_000,
        long_prompts: Some(LongPrompts {
            above_tokens: 200_000,
            rates: Rates {
                input_nanos: 2_500_000_000,
                cached_input_nanos: Some(625_000_000),
                output_nanos: 15_000_000_000,
            },
        }),
        batches: Some(Rates {
            input_nanos: 625_000_000,
            cached_input_nanos: None,
            output_nanos: 5_000_000_000,
        }),
        margin_percent: 0,
    };

    #[track_caller]
    fn check_tiered(prices: &Prices, of: (u64, u64, u64), expected: &str) {
        let (prompt, cached, completion) = of;
        let tokens = Tokens {
            prompt,
            completion,
            cached: Some(cached),
        };
        assert_eq!(dollars(cost(prices, tokens).nanos()), expected, "{of:?}");
    }

    #[test]
    fn long_prompts_have_prices_of_their_own_for_all_their_tokens() {
        check_tiered(&TIERED, (200_000, 0, 1000), "0.26");
        check_tiered(&TIERED, (200_001, 0, 1000), "0.5150025");
        check_tiered(&TIERED, (400_000, 100_000, 1000), "0.8275");
        check_tiered(&TIERED, (100_000, 100_000, 0), "0.031");
    }

    #[test]
    fn lines_of_batches_have_prices_of_their_own() {
        check_tiered(&of_batches(&TIERED), (200_000, 100_000, 1000), "0.13");
        check_tiered(&of_batches(&TIERED), (400_000, 0, 0), "0.25");
        let plain = Prices {
            batches: None,
            ..TIERED
        };
        assert_eq!(of_batches(&plain), plain);
    }

    #[test]
    fn a_margin_is_added_and_taken_off() {
        let check = |margin_percent, expected| {
            let prices = Prices {
                margin_percent,
                ..TIERED
            };
            check_tiered(&prices, (100_000, 0, 1000), expected);
            let batched = of_batches(&prices);
            assert_eq!(batched.margin_percent, margin_percent);
        };
        check(0, "0.135");
        check(20, "0.162");
        check(-15, "0.11475");
        check(-100, "0");
        check(-120, "0");
    }

    #[test]
    fn amounts_are_told_in_dollars() {
        assert_eq!(dollars(0), "0");
        assert_eq!(dollars(30_000), "0.00003");
        assert_eq!(dollars(12_500_000_000), "12.5");
        assert_eq!(dollars(500_000_000_000), "500");
    }
}
