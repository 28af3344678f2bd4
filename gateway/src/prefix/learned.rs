//! What is learned from answers: how long a token takes to read, how many tokens a byte is, how far a replica's cache can
//! be trusted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

/// Seconds to read a token until it was measured: 20,000 tokens a second, as of a model of 8 billion parameters on one
/// data-centre accelerator.
pub(super) const SECONDS_PER_TOKEN_DEFAULT: f64 = 50e-6;
/// Tokens of a byte until it was measured: English has about four bytes a token.
const TOKENS_PER_BYTE_DEFAULT: f64 = 0.25;
/// Tokens of a prompt until one was seen.
const TOKENS_PER_PROMPT_DEFAULT: f64 = 1024.0;
/// Share of what was known that one answer leaves; half of it is gone after 14 answers.
const KEPT: f64 = 0.95;
/// Work under this says more about the network than about the engine.
const TOKENS_MIN: u64 = 256;
/// A replica keeps this much trust, so that it can show that it deserves more.
const TRUST_MIN: f64 = 0.05;

/// A ratio of two sums in which old samples fade. A ratio of sums lets a long prompt count for more than a short one.
#[derive(Debug)]
struct Ratio {
    sums: Mutex<(f64, f64)>,
    /// The bits of the quotient, which picks read without the lock.
    value: AtomicU64,
}

impl Ratio {
    /// A ratio that is `value` until samples outweigh `weight`.
    fn new(value: f64, weight: f64) -> Self {
        Self {
            sums: Mutex::new((value * weight, weight)),
            value: AtomicU64::new(value.to_bits()),
        }
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.value.load(Relaxed))
    }

    fn learn(&self, numerator: f64, denominator: f64) {
        let mut sums = self.sums.lock();
        sums.0 = sums.0 * KEPT + numerator;
        sums.1 = sums.1 * KEPT + denominator;
        self.value.store((sums.0 / sums.1).to_bits(), Relaxed);
    }
}

/// What is learned about a pool of replicas of one model.
#[derive(Debug)]
pub(super) struct Learned {
    seconds_per_token: Ratio,
    tokens_per_byte: Ratio,
    tokens_per_prompt: Ratio,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            seconds_per_token: Ratio::new(SECONDS_PER_TOKEN_DEFAULT, 1024.0),
            tokens_per_byte: Ratio::new(TOKENS_PER_BYTE_DEFAULT, 1024.0),
            tokens_per_prompt: Ratio::new(TOKENS_PER_PROMPT_DEFAULT, 1.0),
        }
    }
}

impl Learned {
    /// Seconds in which an engine reads a token that it has not cached.
    pub(super) fn seconds_per_token(&self) -> f64 {
        self.seconds_per_token.get()
    }

    /// Tokens of a byte of a prompt's canonical text.
    pub(super) fn tokens_per_byte(&self) -> f64 {
        self.tokens_per_byte.get()
    }

    /// Tokens of a usual prompt.
    pub(super) fn tokens_per_prompt(&self) -> f64 {
        self.tokens_per_prompt.get()
    }

    /// Learns that so many tokens were read, in this request or before it in the queue, until its first token came.
    pub(super) fn learn_time(&self, tokens: u64, first_token: Duration) {
        if TOKENS_MIN <= tokens {
            let seconds = first_token.as_secs_f64();
            self.seconds_per_token.learn(seconds, tokens as f64);
        }
    }

    /// Learns that a text of so many bytes was so many tokens.
    pub(super) fn learn_length(&self, bytes: usize, tokens: u64) {
        if TOKENS_MIN <= tokens && 0 < bytes {
            self.tokens_per_byte.learn(tokens as f64, bytes as f64);
        }
        self.tokens_per_prompt.learn(tokens as f64, 1.0);
    }
}

/// How much of what a replica should have cached it has: 1 is all.
#[derive(Debug)]
pub(super) struct Trust(Ratio);

impl Default for Trust {
    fn default() -> Self {
        Self(Ratio::new(1.0, 16_384.0))
    }
}

impl Trust {
    /// The share.
    pub(super) fn get(&self) -> f64 {
        self.0.get().clamp(TRUST_MIN, 1.0)
    }

    /// Learns how many tokens were cached where so many were predicted.
    pub(super) fn learn(&self, predicted: u64, cached: u64) {
        if TOKENS_MIN <= predicted {
            self.0.learn(cached.min(predicted) as f64, predicted as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Learned, SECONDS_PER_TOKEN_DEFAULT, TRUST_MIN, Trust};

    #[test]
    fn cost_starts_at_its_default_and_follows_what_is_measured() {
        let learned = Learned::default();
        assert_eq!(learned.seconds_per_token(), SECONDS_PER_TOKEN_DEFAULT);
        // Too little work to tell.
        learned.learn_time(100, Duration::from_secs(9));
        assert_eq!(learned.seconds_per_token(), SECONDS_PER_TOKEN_DEFAULT);
        for _ in 0..100 {
            learned.learn_time(10_000, Duration::from_secs(1));
            learned.learn_length(3_000, 1_000);
        }
        assert!((learned.seconds_per_token() - 1e-4).abs() < 1e-6);
        assert!((learned.tokens_per_byte() - 1.0 / 3.0).abs() < 1e-3);
        assert!((learned.tokens_per_prompt() - 1_000.0).abs() < 1.0);
    }

    #[test]
    fn trust_falls_with_broken_promises_and_comes_back() {
        let trust = Trust::default();
        for _ in 0..100 {
            trust.learn(8_000, 0);
        }
        assert_eq!(trust.get(), TRUST_MIN);
        for _ in 0..100 {
            trust.learn(8_000, 9_000);
        }
        assert!(0.99 < trust.get());
    }
}
