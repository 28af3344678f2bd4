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

/// A model and its cache in main memory.
#[derive(Debug)]
pub struct CpuBackend {
    model: Model,
    cache: Cache,
    workers: Workers,
    level: Level,
    scratch: Scratch,
}

impl CpuBackend {
    /// Takes a model; the cache's memory is reserved now and used as it fills.
    pub fn new(model: Model, shape: CacheShape, threads: NonZeroUsize) -> Self {
        let cache = Cache::new(&model.config, shape);
        let (workers, level) = (Workers::start(threads), Level::detect());
        Self {
            model,
            cache,
            workers,
            level,
            scratch: Scratch::default(),
        }
    }
}

impl Backend for CpuBackend {
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> Logits {
        let Self {
            model,
            cache,
            workers,
            level,
            scratch,
        } = self;
        let mut pass = forward::Pass {
            model,
            cache,
            workers,
            level: *level,
            scratch,
        };
        pass.run(rows)
    }

    fn device(&self) -> &str {
        "cpu"
    }
}
