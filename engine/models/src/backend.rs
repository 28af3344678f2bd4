//! What computes: a model, a key-value cache and a device behind one trait.

use engine_core::{BlockId, TokenId};

/// The size of a key-value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// Number of blocks.
    pub blocks: usize,
    /// Tokens that a block holds.
    pub block_tokens: usize,
}

/// A run of one sequence's tokens in a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchRow<'a> {
    /// The tokens to compute; not empty.
    pub tokens: &'a [TokenId],
    /// The first token's place in its sequence; everything before it is in the cache.
    pub start: usize,
    /// The blocks that hold the sequence, with room for these tokens.
    pub blocks: &'a [BlockId],
    /// Whether the logits behind the last token are wanted.
    pub samples: bool,
}

/// Logits, one vector for each row that samples, in the order of the rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logits {
    values: Vec<f32>,
    vocabulary: usize,
}

impl Logits {
    /// Takes vectors of `vocabulary` values, one behind the other.
    pub const fn new(values: Vec<f32>, vocabulary: usize) -> Self {
        Self { values, vocabulary }
    }

    /// The vectors.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocabulary.max(1))
    }
}

/// A device that holds a model and a cache.
pub trait Backend: Send {
    /// Computes a batch: writes the keys and values of its tokens to the cache and returns logits. What a row
    /// yields does not depend on the other rows.
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> Logits;

    /// The device's name, as `cpu`.
    fn device(&self) -> &str;
}
