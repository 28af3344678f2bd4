//! The CPU backend: one forward function for all architectures, over a paged cache, on a few threads.
//!
//! Each sum has one order, whatever the batch, the chunking of the prompt or the number of threads, both with floats
//! and with packed integer weights.

mod attention;
mod cache;
mod forward;
mod level;
mod linear;
mod low_rank;
mod parallel;
mod products;
mod ready;
mod rope;
mod simd;
#[cfg(test)]
mod tests;
mod vectors;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use engine_core::{AdapterId, BlockId};

use crate::adapter::Adapter;
use crate::backend::{Backend, BatchRow, CacheShape, Logits, MemoryUse, SleepLevel};
use crate::config::ModelConfig;
use crate::weights::{LoadError, Model};

use cache::{Cache, Layout};
use forward::{Pass, Scratch, Turns};
use low_rank::Changes;
use products::Team;
use ready::Ready;

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
    options: CpuOptions,
    layout: Layout,
    /// `None` in sleep.
    awake: Option<Awake>,
    team: Team,
    turns: Turns,
    scratch: Scratch,
    logits: Logits,
    adapters: HashMap<AdapterId, Changes>,
}

/// What a sleeping backend does without.
#[derive(Debug)]
struct Awake {
    ready: Ready,
    cache: Cache,
}

impl CpuBackend {
    /// Takes a model; the cache's memory is reserved now and used as it fills.
    pub fn new(model: Model, options: CpuOptions) -> Self {
        let layout = Layout::new(&model.config, options.cache);
        let mut backend = Self {
            turns: Turns::new(&model),
            model,
            options,
            layout,
            awake: None,
            team: Team::start(options.threads),
            scratch: Scratch::default(),
            logits: Logits::default(),
            adapters: HashMap::new(),
        };
        backend.take_memory();
        backend
    }

    /// Bytes of a block of `block_tokens` tokens in a cache for a model.
    pub const fn cache_block_bytes(
        config: &ModelConfig,
        block_tokens: usize,
        arithmetic: Arithmetic,
    ) -> usize {
        let shape = CacheShape {
            blocks: 1,
            block_tokens,
        };
        Cache::block_bytes(&Layout::new(config, shape), arithmetic)
    }

    fn take_memory(&mut self) {
        let CpuOptions {
            arithmetic,
            float_weights,
            ..
        } = self.options;
        let ready = Ready::pack(
            &self.model,
            arithmetic,
            float_weights,
            &mut self.team.workers,
        );
        let cache = Cache::new(self.layout, arithmetic);
        self.awake = Some(Awake { ready, cache });
    }
}

impl Backend for CpuBackend {
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> &Logits {
        let Some(Awake { ready, cache }) = &mut self.awake else {
            let outputs = rows.iter().map(|row| row.outputs).sum();
            self.logits
                .resize(outputs, self.model.config.vocabulary)
                .fill(0.0);
            return &self.logits;
        };
        let mut pass = Pass {
            model: &self.model,
            ready,
            adapters: &self.adapters,
            layout: self.layout,
            cache,
            turns: &mut self.turns,
            team: &mut self.team,
            scratch: &mut self.scratch,
        };
        pass.run(rows, &mut self.logits);
        &self.logits
    }

    fn device(&self) -> &str {
        "cpu"
    }

    fn block_bytes(&self) -> usize {
        Cache::block_bytes(&self.layout, self.options.arithmetic)
    }

    fn read_block(&self, block: BlockId, bytes: &mut [u8]) {
        if let Some(awake) = &self.awake {
            awake.cache.read_block(block, bytes);
        }
    }

    fn write_block(&mut self, block: BlockId, bytes: &[u8]) {
        if let Some(awake) = &mut self.awake {
            awake.cache.write_block(block, bytes);
        }
    }

    fn add_adapter(&mut self, id: AdapterId, adapter: Arc<Adapter>) {
        self.adapters.insert(id, Changes::new(&adapter));
    }

    fn remove_adapter(&mut self, id: AdapterId) {
        self.adapters.remove(&id);
    }

    /// Both levels give back all that is this process's: the file's pages are the system's, which takes them when it
    /// needs memory.
    fn sleep(&mut self, _level: SleepLevel) {
        self.awake = None;
        self.scratch = Scratch::default();
        self.logits = Logits::default();
    }

    fn wake(&mut self) -> Result<(), LoadError> {
        if self.awake.is_none() {
            self.take_memory();
        }
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        let (weights, cache) = match &self.awake {
            Some(Awake { ready, cache }) => (ready.bytes, cache.bytes()),
            None => (0, 0),
        };
        MemoryUse {
            weights,
            cache,
            scratch: self.scratch.bytes() + self.turns.bytes() + self.logits.bytes(),
            adapters: self.adapters.values().map(Changes::bytes).sum(),
        }
    }
}
