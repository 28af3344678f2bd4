//! What computes: a model, a key-value cache and a device behind one trait.

use std::sync::Arc;

use engine_core::{AdapterId, BlockId, TokenId};

use crate::adapter::Adapter;
use crate::weights::LoadError;

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

    /// Bytes that are reserved for vectors.
    pub(crate) const fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<f32>()
    }

    /// Room for `outputs` vectors of `vocabulary` values, whose old content means nothing.
    pub fn resize(&mut self, outputs: usize, vocabulary: usize) -> &mut Vec<f32> {
        self.vocabulary = vocabulary;
        self.values.resize(outputs * vocabulary, 0.0);
        &mut self.values
    }
}

/// How much of its memory a backend gives back while nobody needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SleepLevel {
    /// The cache and the weights; the model file may stay in the system's page cache, so waking is quick.
    Light,
    /// The page cache's copy of the model file too.
    Deep,
}

/// Bytes of main memory, or of the device's, by purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Weights, without those that are read in place from the mapped file.
    pub weights: usize,
    /// The key-value cache, as reserved.
    pub cache: usize,
    /// What a batch is computed in, logits included.
    pub scratch: usize,
    /// Adapters.
    pub adapters: usize,
}

/// A device that holds a model and a cache.
pub trait Backend: Send {
    /// Computes a batch: writes the keys and values of its tokens to the cache and returns logits. What a row
    /// yields does not depend on the other rows. A sleeping backend computes nothing: its logits are all zero.
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> &Logits;

    /// The device's name, as `cpu`.
    fn device(&self) -> &str;

    /// Bytes of the keys and values of one block, over all layers.
    fn block_bytes(&self) -> usize;

    /// Copies a block's keys and values to `bytes`, which are [`Self::block_bytes`] many. The layout is the
    /// backend's own: only a backend with the same model and options can take them. Nothing is copied in sleep.
    fn read_block(&self, block: BlockId, bytes: &mut [u8]);

    /// Replaces a block's keys and values by those that [`Self::read_block`] gave.
    fn write_block(&mut self, block: BlockId, bytes: &[u8]);

    /// Takes an adapter that rows can name from now on. It fits the model: the loader has checked its shapes.
    fn add_adapter(&mut self, id: AdapterId, adapter: Arc<Adapter>);

    /// Forgets an adapter. Rows that name it afterwards are computed without.
    fn remove_adapter(&mut self, id: AdapterId);

    /// Gives memory back until [`Self::wake`]; the content of the cache is lost.
    fn sleep(&mut self, level: SleepLevel);

    /// Takes the memory again; the cache is empty. Nothing happens if the backend is awake.
    ///
    /// # Errors
    /// [`LoadError`] when the weights can no longer be read; the backend sleeps on.
    fn wake(&mut self) -> Result<(), LoadError>;

    /// What the backend holds now.
    fn memory(&self) -> MemoryUse;
}
