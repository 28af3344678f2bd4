//! The CPU backend: one forward function for all architectures, over a paged cache, on a few threads.
//!
//! Weights are decoded a few rows at a time and multiplied in `f32`; each sum has one order, whatever the batch, the
//! chunking of the prompt or the number of threads.

mod attention;
mod forward;
mod kernel;
mod level;
mod linear;
mod parallel;
mod rope;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use engine_core::{AdapterId, BlockId};

use crate::adapter::Adapter;
use crate::backend::{Backend, BatchRow, CacheShape, Logits, MemoryUse, SleepLevel};
use crate::weights::{LoadError, Model};

use attention::Cache;
use forward::Scratch;
use kernel::Level;
use parallel::Workers;

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arithmetic {
    /// Weights, activations, keys and values as 32-bit floats: the mode for comparisons with other programs.
    F32,
    /// Packed integer weights, activations of 8 bits, keys and values of 16 bits; sums are 32-bit floats.
    #[default]
    Int8,
}

/// What becomes of matrices that the file stores as floats, where products are computed with integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FloatWeights {
    /// They stay floats.
    #[default]
    Keep,
    /// They get 8 bits, with a scale for 32 numbers.
    Quantize8,
    /// They get 4 bits, with a scale and a minimum for 32 numbers.
    Quantize4,
}

/// How a backend on CPUs computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuOptions {
    /// The cache's size.
    pub cache: CacheShape,
    /// Threads that compute, the caller's included.
    pub threads: NonZeroUsize,
    /// How products are computed.
    pub arithmetic: Arithmetic,
    /// What becomes of matrices of floats.
    pub float_weights: FloatWeights,
}

/// A model and its cache in main memory.
#[derive(Debug)]
pub struct CpuBackend {
    model: Model,
    /// `None` in sleep.
    cache: Option<Cache>,
    shape: CacheShape,
    workers: Workers,
    level: Level,
    scratch: Scratch,
    logits: Logits,
    adapters: HashMap<AdapterId, Arc<Adapter>>,
}

impl CpuBackend {
    /// Takes a model; the cache's memory is reserved now and used as it fills.
    pub fn new(model: Model, options: CpuOptions) -> Self {
        let cache = Cache::new(&model.config, options.cache);
        let (workers, level) = (Workers::start(options.threads), Level::detect());
        Self {
            model,
            cache: Some(cache),
            shape: options.cache,
            workers,
            level,
            scratch: Scratch::default(),
            logits: Logits::default(),
            adapters: HashMap::new(),
        }
    }
}

impl Backend for CpuBackend {
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> &Logits {
        let Some(cache) = &mut self.cache else {
            let outputs = rows.iter().map(|row| row.outputs).sum();
            self.logits
                .resize(outputs, self.model.config.vocabulary)
                .fill(0.0);
            return &self.logits;
        };
        let mut pass = forward::Pass {
            model: &self.model,
            cache,
            workers: &mut self.workers,
            level: self.level,
            scratch: &mut self.scratch,
        };
        self.logits = pass.run(rows);
        &self.logits
    }

    fn device(&self) -> &str {
        "cpu"
    }

    fn block_bytes(&self) -> usize {
        self.shape.block_tokens * self.model.config.cache_bytes_per_token()
    }

    fn read_block(&self, block: BlockId, bytes: &mut [u8]) {
        if let Some(cache) = &self.cache {
            cache.read_block(block, bytes);
        }
    }

    fn write_block(&mut self, block: BlockId, bytes: &[u8]) {
        if let Some(cache) = &mut self.cache {
            cache.write_block(block, bytes);
        }
    }

    fn add_adapter(&mut self, id: AdapterId, adapter: Arc<Adapter>) {
        self.adapters.insert(id, adapter);
    }

    fn remove_adapter(&mut self, id: AdapterId) {
        self.adapters.remove(&id);
    }

    fn sleep(&mut self, _level: SleepLevel) {
        self.cache = None;
        self.scratch = Scratch::default();
        self.logits = Logits::default();
    }

    fn wake(&mut self) -> Result<(), LoadError> {
        if self.cache.is_none() {
            self.cache = Some(Cache::new(&self.model.config, self.shape));
        }
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        let cache = if self.cache.is_some() {
            self.shape.blocks * self.block_bytes()
        } else {
            0
        };
        MemoryUse {
            cache,
            ..MemoryUse::default()
        }
    }
}
