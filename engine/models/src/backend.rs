//! What computes: a model, a key-value cache and a device behind one trait.

use engine_core::{AdapterId, BlockId, TokenId};

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
    /// Of how many of the last tokens the logits are wanted.
    pub outputs: usize,
    /// The adapter that the sequence is computed with, if any.
    pub adapter: Option<AdapterId>,
}

/// Logits, one vector for each wanted output, in the order of the rows and of their tokens.
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

    /// Room for `outputs` vectors of `vocabulary` values, whose old content means nothing.
    pub fn resize(&mut self, outputs: usize, vocabulary: usize) -> &mut Vec<f32> {
        self.vocabulary = vocabulary;
        self.values.resize(outputs * vocabulary, 0.0);
        &mut self.values
    }
}

/// A device that holds a model and a cache.
pub trait Backend: Send {
    /// Computes a batch: writes the keys and values of its tokens to the cache and returns logits. What a row
    /// yields does not depend on the other rows.
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> &Logits;

    /// The device's name, as `cpu`.
    fn device(&self) -> &str;
}
