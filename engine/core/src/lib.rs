//! Pure decisions of the engine: sequences, key-value blocks, prefix cache, scheduler, sampling.
//!
//! Nothing here does I/O, reads a clock, waits, or knows a tensor: the scheduler says which tokens of which
//! sequences the next step computes, the sampler turns logits into a token, and the rest keeps count.

mod blocks;
mod cache;
mod chooser;
mod constraint;
mod generation;
mod sampling;
mod scheduler;
mod sequence;
mod speculation;
mod text;

pub use blocks::{BlockHash, BlockId, BlockPool, OutOfBlocks};
pub use cache::{Cache, CacheEvent, HostSlot, Tier, Transfer};
pub use chooser::{Chooser, Chosen};
pub use constraint::{Constraint, ConstraintError, TokenMask};
pub use generation::{Answer, FinishReason, Generation, GenerationOptions, Progress};
pub use sampling::{
    Allowed, InvalidSampling, PromptLogprob, Sampled, Sampler, SamplingParameters, Scratch,
};
pub use scheduler::{Refused, Row, Scheduler, SchedulerOptions, SchedulingPolicy, Step};
pub use sequence::{CachedTokens, NewSequence, Sequence, SequenceId};
pub use speculation::Speculation;
pub use text::{Piece, TextStream};

/// A token's place in the vocabulary.
pub type TokenId = u32;

/// Names a loaded adapter (LoRA) for as long as the engine runs; a name is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub u32);
