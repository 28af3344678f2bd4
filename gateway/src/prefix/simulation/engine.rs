//! A fake engine: reads prompts one after the other, and skips what its block cache holds.

use testkit::block_cache::{BLOCK_TOKENS, BlockCache};

/// Seconds to read a token; not the gateway's default, which has to find out.
const SECONDS_PER_TOKEN: f64 = 80e-6;
/// Seconds that every request takes at least.
const SECONDS_PER_REQUEST: f64 = 0.01;
/// Seconds between two tokens of an answer; answers do not wait for each other.
const SECONDS_PER_ANSWERED_TOKEN: f64 = 0.015;

/// One replica.
#[derive(Debug)]
pub(super) struct Engine {
    cache: BlockCache,
    free_at: f64,
    /// Seconds that it read.
    pub(super) busy: f64,
    /// Tokens of all prompts that it was sent.
    pub(super) tokens: usize,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served {
    /// Tokens of the prompt that were cached.
    pub(super) cached_tokens: usize,
    /// When the first token comes.
    pub(super) first_token_at: f64,
    /// When the answer ends.
    pub(super) ends_at: f64,
}

impl Engine {
    /// An idle engine whose cache holds so many tokens.
    pub(super) fn new(cache_tokens: usize) -> Self {
        Self {
            cache: BlockCache::new(cache_tokens),
            free_at: 0.0,
            busy: 0.0,
            tokens: 0,
        }
    }

    /// Takes a prompt of these blocks; it is read when those before it are.
    pub(super) fn serve(&mut self, now: f64, prompt: &[u64], answered_tokens: usize) -> Served {
        let cached = self.cache.read(prompt);
        let missed_tokens = (prompt.len() - cached) * BLOCK_TOKENS;
        let seconds = SECONDS_PER_REQUEST + missed_tokens as f64 * SECONDS_PER_TOKEN;
        self.free_at = self.free_at.max(now) + seconds;
        self.busy += seconds;
        self.tokens += prompt.len() * BLOCK_TOKENS;
        Served {
            cached_tokens: cached * BLOCK_TOKENS,
            first_token_at: self.free_at,
            ends_at: self.free_at + answered_tokens as f64 * SECONDS_PER_ANSWERED_TOKEN,
        }
    }
}
