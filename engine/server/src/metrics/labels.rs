//! The labels of metrics, each with the few values that it can have.

use prometheus_client::encoding::EncodeLabelSet;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Finished {
    pub(crate) finished_reason: &'static str,
}

impl Finished {
    pub(super) const ALL: [Self; 4] = [
        Self::new("stop"),
        Self::new("length"),
        Self::new("abort"),
        Self::new("error"),
    ];

    pub(crate) const fn new(finished_reason: &'static str) -> Self {
        Self { finished_reason }
    }
}

/// Why requests wait or are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
}

impl Reason {
    pub(crate) const CAPACITY: Self = Self { reason: "capacity" };
    pub(crate) const DEFERRED: Self = Self { reason: "deferred" };
    pub(crate) const QUEUED_REQUESTS: Self = Self {
        reason: "max_num_queued_reqs",
    };
    pub(crate) const QUEUED_TOKENS: Self = Self {
        reason: "max_num_queued_tokens",
    };
}

/// Where tokens of a prompt came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Source {
    pub(crate) source: &'static str,
}

impl Source {
    pub(crate) const COMPUTED: Self = Self {
        source: "local_compute",
    };
    pub(crate) const CACHE_HIT: Self = Self {
        source: "local_cache_hit",
    };
    pub(crate) const TRANSFER: Self = Self {
        source: "external_kv_transfer",
    };
    pub(crate) const DEVICE: Self = Self { source: "device" };
    pub(crate) const HOST: Self = Self { source: "host" };
}

/// How deep the engine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SleepState {
    pub(crate) sleep_state: &'static str,
}

impl SleepState {
    pub(crate) const AWAKE: Self = Self {
        sleep_state: "awake",
    };
    pub(crate) const OFFLOADED: Self = Self {
        sleep_state: "weights_offloaded",
    };
    pub(crate) const DISCARDED: Self = Self {
        sleep_state: "discard_all",
    };
    pub(super) const ALL: [Self; 3] = [Self::AWAKE, Self::OFFLOADED, Self::DISCARDED];
}

/// A draft's place behind the last token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Position {
    pub(crate) position: u32,
}

/// The cache's shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CacheConfig {
    pub(crate) block_size: String,
    pub(crate) num_gpu_blocks: String,
    pub(crate) num_cpu_blocks: String,
    pub(crate) enable_prefix_caching: String,
    pub(crate) prefix_caching_hash_algo: String,
    pub(crate) kv_cache_size_tokens: String,
    pub(crate) kv_cache_memory_bytes: String,
}

/// Adapters in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Loras {
    pub(crate) max_lora: String,
    pub(crate) running_lora_adapters: String,
    pub(crate) waiting_lora_adapters: String,
}
