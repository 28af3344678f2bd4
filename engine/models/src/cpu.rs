//! The CPU backend: one forward function for all architectures, over a paged cache, on a few threads.
//!
//! Weights are decoded a few rows at a time and multiplied in `f32`; each sum has one order, whatever the batch, the
//! chunking of the prompt or the number of threads.

mod attention;
mod forward;
mod kernel;
mod parallel;
mod rope;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

use crate::backend::{Backend, BatchRow, CacheShape, Logits};
use crate::weights::Model;

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
    cache: Cache,
    workers: Workers,
    level: Level,
    scratch: Scratch,
    logits: Logits,
}

impl CpuBackend {
    /// Takes a model; the cache's memory is reserved now and used as it fills.
    pub fn new(model: Model, options: CpuOptions) -> Self {
        let cache = Cache::new(&model.config, options.cache);
        let (workers, level) = (Workers::start(options.threads), Level::detect());
        Self {
            model,
            cache,
            workers,
            level,
            scratch: Scratch::default(),
            logits: Logits::default(),
        }
    }
}

impl Backend for CpuBackend {
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> &Logits {
        let Self {
            model,
            cache,
            workers,
            level,
            scratch,
            logits,
        } = self;
        let mut pass = forward::Pass {
            model,
            cache,
            workers,
            level: *level,
            scratch,
        };
        *logits = pass.run(rows);
        logits
    }

    fn device(&self) -> &str {
        "cpu"
    }
}
