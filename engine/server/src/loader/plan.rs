//! What the flags, the machine and the model allow.

use std::num::NonZeroUsize;
use std::thread;

use engine_core::{SchedulerOptions, SchedulingPolicy, Speculation};
use engine_models::{Arithmetic, FloatWeights};

use crate::args::{ArithmeticArg, EngineArgs, Policy, Quantize};

/// Tokens in a block of the cache.
pub(super) const BLOCK_TOKENS: u32 = 16;

/// Sizes that fit the memory that is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) context_length: usize,
    pub(super) blocks: u32,
    pub(super) host_blocks: u32,
    pub(super) threads: NonZeroUsize,
    /// Whether the next step is prepared while one is computed.
    pub(super) is_ahead: bool,
}

impl Plan {
    /// Fits the context and the cache into the memory that is allowed.
    pub(super) fn new(args: &EngineArgs, trained_length: usize, block_bytes: usize) -> Self {
        let blocks_in = |mebibytes: usize| mebibytes.saturating_mul(1 << 20) / block_bytes.max(1);
        let block_tokens = BLOCK_TOKENS as usize;
        // No more blocks than all sequences at their longest could use.
        let wished = args
            .context_length
            .unwrap_or(trained_length)
            .clamp(1, trained_length.max(1));
        let useful = wished
            .saturating_mul(args.max_sequences.max(1))
            .next_multiple_of(block_tokens);
        let blocks =
            blocks_in(args.kv_cache_mib).clamp(1, (useful / block_tokens).min(u32::MAX as usize));
        let host_blocks = blocks_in(args.host_cache_mib);
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = args.threads.and_then(NonZeroUsize::new).unwrap_or(cores);
        // Where all cores compute, whoever prepares the next step takes one of them away.
        let has_spare_core = threads < cores;
        Self {
            context_length: wished.min(blocks * block_tokens),
            blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
            host_blocks: u32::try_from(host_blocks).unwrap_or(u32::MAX),
            threads,
            is_ahead: args.overlap.unwrap_or(has_spare_core) && args.speculative_ngram == 0,
        }
    }
}

pub(super) fn scheduler_options(args: &EngineArgs) -> SchedulerOptions {
    let sequences_max = args.max_sequences.max(1);
    SchedulerOptions {
        // Each stream has its token in each step.
        step_tokens_max: args.step_tokens.max(sequences_max),
        sequences_max,
        waiting_max: args.max_waiting,
        waiting_tokens_max: args.max_waiting_tokens,
        policy: match args.scheduling_policy {
            Policy::Fcfs => SchedulingPolicy::Arrival,
            Policy::Priority => SchedulingPolicy::Priority,
        },
        speculation: (0 < args.speculative_ngram).then(|| Speculation {
            drafts_max: args.speculative_ngram,
            match_min: args.speculative_min.max(1),
            match_max: args.speculative_max.max(args.speculative_min),
        }),
    }
}

pub(super) const fn arithmetic(args: &EngineArgs) -> (Arithmetic, FloatWeights) {
    let arithmetic = match args.arithmetic {
        ArithmeticArg::Int8 => Arithmetic::Int8,
        ArithmeticArg::F32 => Arithmetic::F32,
    };
    let float_weights = match args.quantize {
        None => FloatWeights::Keep,
        Some(Quantize::Q8) => FloatWeights::Quantize8,
        Some(Quantize::Q4) => FloatWeights::Quantize4,
    };
    (arithmetic, float_weights)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{BLOCK_TOKENS, Plan, scheduler_options};
    use crate::http::tests::fixture;

    #[track_caller]
    fn check(flags: &[&str], block_bytes: usize, expected: (usize, u32)) {
        let args = fixture::args("file:///m.gguf", Path::new("/cache"), flags);
        let plan = Plan::new(&args, 1000, block_bytes);
        assert_eq!(
            (plan.context_length, plan.blocks * BLOCK_TOKENS),
            expected,
            "{flags:?}"
        );
    }

    #[test]
    fn context_and_cache_fit_the_memory() {
        let mebibyte = 1 << 20;
        check(&["--kv-cache-mib", "256"], mebibyte, (1000, 4096));
        check(&["--kv-cache-mib", "31"], mebibyte, (496, 496));
        check(&["--kv-cache-mib", "0"], mebibyte, (16, 16));
        check(&["--context-length", "100"], 1, (100, 1600));
        check(
            &["--context-length", "5000", "--max-sequences", "1"],
            1,
            (1000, 1008),
        );
        check(
            &["--context-length", "100", "--max-sequences", "2"],
            1,
            (100, 208),
        );
    }

    #[test]
    fn flags_reach_the_scheduler() {
        let flags = [
            "--max-sequences",
            "300",
            "--scheduling-policy",
            "priority",
            "--speculative-ngram",
            "4",
        ];
        let args = fixture::args("file:///m.gguf", Path::new("/cache"), &flags);
        let options = scheduler_options(&args);
        assert_eq!(options.step_tokens_max, 300, "no stream misses a step");
        assert_eq!(options.speculation.unwrap().drafts_max, 4);
        assert!(
            !Plan::new(&args, 100, 1).is_ahead,
            "guesses need all tokens"
        );
    }
}
