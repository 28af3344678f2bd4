//! Predictions: what a pick expects of its replica, kept while the request lasts and compared with what came.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::prefix::{
    blocks::BLOCK_BYTES, chain::Chain, picker::Pool, residents::Prompt, seat::Seat,
};

/// What a pick expects. One that is dropped before it is finished was for nothing: what the pick noted is taken back.
#[derive(Debug)]
pub(crate) struct Prediction {
    pool: Arc<Pool>,
    seat: Arc<Seat>,
    /// The seat's generation at the pick.
    generation: u32,
    chain: Chain,
    expected: Expected,
    is_read: bool,
    is_answered: bool,
    decided_in: Duration,
}

/// What a replica was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Blocks of the prompt that it has, says the index.
    pub(super) matched_blocks: usize,
    /// Tokens of the prompt.
    pub(super) prompt_tokens: u64,
    /// Those of them that are cached, as far as the replica can be trusted.
    pub(super) matched_tokens: u64,
    /// Tokens that it reads first.
    pub(super) queued_tokens: u64,
}

/// What an answer says about the prediction; what it does not say teaches nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Tokens of the prompt, from the usage.
    pub(crate) prompt_tokens: Option<u64>,
    /// Those of them that were cached, from the usage.
    pub(crate) cached_tokens: Option<u64>,
    /// From sending the request to the first token of the answer.
    pub(crate) first_token: Option<Duration>,
    /// When the request was sent.
    pub(crate) sent: Option<Instant>,
}

impl Prediction {
    /// Notes a pick.
    pub(super) fn begin(
        pool: Arc<Pool>,
        seat: Arc<Seat>,
        chain: Chain,
        expected: Expected,
    ) -> Self {
        let prediction = Self {
            generation: seat.generation(),
            pool,
            seat,
            chain,
            expected,
            is_read: false,
            is_answered: false,
            decided_in: Duration::ZERO,
        };
        let Self { pool, seat, .. } = &prediction;
        seat.begin(expected.prompt_tokens, prediction.missed_tokens());
        pool.index.insert(prediction.fresh_hashes(), seat.place());
        prediction
    }

    /// Share of the prompt that the replica should have cached.
    pub(crate) fn hit_ratio(&self) -> f64 {
        self.expected.matched_tokens as f64 / self.expected.prompt_tokens.max(1) as f64
    }

    /// Notes how long the decision took, from the body to the replica.
    pub(crate) fn note_decision(&mut self, decided_in: Duration) {
        self.decided_in = decided_in;
    }

    /// How long the decision took.
    pub(crate) const fn decision_time(&self) -> Duration {
        self.decided_in
    }

    /// How long the first token should take, for tests: the reading that waits before this prompt, and its own.
    #[cfg(test)]
    pub(crate) fn expected_first_token(&self) -> Duration {
        let tokens = self.expected.queued_tokens + self.missed_tokens();
        let seconds = tokens as f64 * self.pool.learned.seconds_per_token();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Notes that the first token came: the replica has read the prompt.
    pub(crate) fn note_first_token(&mut self) {
        if !self.is_read {
            self.is_read = true;
            self.seat.note_read(self.missed_tokens());
        }
    }

    /// Ends the request: the replica has the prompt now. An answer that broke off after its first token is an answer
    /// here, too.
    pub(crate) fn finish(mut self, answered: Answered) {
        self.is_answered = true;
        let Answered {
            prompt_tokens,
            cached_tokens,
            first_token,
            sent,
        } = answered;
        if let Some(tokens) = prompt_tokens {
            self.pool.learned.learn_length(self.chain.bytes(), tokens);
        }
        if let Some(first_token) = first_token {
            let missed = prompt_tokens
                .zip(cached_tokens)
                .map_or(self.missed_tokens(), |(prompt, cached)| {
                    prompt.saturating_sub(cached)
                });
            let waited_for = self.expected.queued_tokens + missed;
            self.pool.learned.learn_time(waited_for, first_token);
        }
        if !self.is_current() {
            return;
        }
        if let Some(cached) = cached_tokens {
            let tokens = prompt_tokens.unwrap_or(self.expected.prompt_tokens);
            self.seat.trust.learn(self.indexed_tokens(tokens), cached);
        }
        if let (Some(tokens), Some(sent)) = (prompt_tokens, sent) {
            self.seat.residents.learn(Prompt {
                hashes: self.chain.hashes(),
                bytes: self.chain.bytes(),
                tokens,
                sent,
            });
        }
        // All of it, also what was there before: what is in use must not grow old, and what another request took back
        // in the meantime is here.
        self.pool
            .index
            .insert(self.chain.hashes(), self.seat.place());
    }

    /// Whether the replica still is the process that the request was sent to.
    fn is_current(&self) -> bool {
        self.generation == self.seat.generation()
    }

    /// The hashes that the pick notes.
    fn fresh_hashes(&self) -> &[u64] {
        &self.chain.hashes()[self.expected.matched_blocks..]
    }

    fn missed_tokens(&self) -> u64 {
        self.expected.prompt_tokens - self.expected.matched_tokens
    }

    /// Tokens of the prompt that are cached, says the index, whatever the trust: that is what trust is measured by.
    fn indexed_tokens(&self, prompt_tokens: u64) -> u64 {
        let bytes = self.chain.bytes().max(1);
        let matched_bytes = bytes.min(self.expected.matched_blocks * BLOCK_BYTES);
        prompt_tokens * matched_bytes as u64 / bytes as u64
    }
}

impl Drop for Prediction {
    fn drop(&mut self) {
        self.note_first_token();
        self.seat.end(self.expected.prompt_tokens);
        if !self.is_answered && self.is_current() {
            self.pool
                .index
                .remove(self.fresh_hashes(), self.seat.place());
        }
    }
}
