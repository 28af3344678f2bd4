//! Pure decisions of the engine: sequences, key-value blocks, prefix cache, scheduler, sampling.
//!
//! Nothing here does I/O, reads a clock, waits, or knows a tensor: the scheduler says which tokens of which
//! sequences the next step computes, the sampler turns logits into a token, and the rest keeps count.

mod blocks;
mod generation;
mod sampling;
mod scheduler;
mod sequence;
mod text;

pub use blocks::{BlockHash, BlockId, BlockPool, OutOfBlocks};
pub use generation::{FinishReason, Generation, Progress};
pub use sampling::{InvalidSampling, Sampled, Sampler, SamplingParameters};
pub use scheduler::{Limits, Refused, Row, Scheduler, Step};
pub use sequence::{Sequence, SequenceId};
pub use text::{Piece, TextStream};

/// A token's place in the vocabulary.
pub type TokenId = u32;
