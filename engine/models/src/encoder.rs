//! Encoders: models of the BERT family that turn a text into one vector.
//!
//! A text's vector does not depend on the texts beside it: each is computed alone, on one thread, in one order.

mod forward;
mod open;
mod product;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use engine_core::TokenId;
use parking_lot::Mutex;
use thiserror::Error;

use crate::tokenizer::Tokenizer;

use forward::EncoderWeights;

/// The nonlinearity of the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x·Φ(x).
    Exact,
    /// The tanh approximation of it.
    Tanh,
}

/// How the vectors of tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
}

/// The shape of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// The architecture's name in the file.
    pub architecture: String,
    /// Number of layers.
    pub layers: usize,
    /// Numbers of a text's vector.
    pub width: usize,
    /// Numbers inside the feed-forward layer.
    pub feed_forward_width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Tokens that a text may have, those around it included.
    pub length_max: usize,
    /// How the vectors of tokens become one.
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalizes: bool,
    pub(crate) norm_epsilon: f32,
    pub(crate) activation: Activation,
}

/// Why texts are not embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidInput {
    /// A text is longer than the model can see.
    #[error("input {index} has {length} tokens, the model takes at most {limit}")]
    TooLong {
        /// Which text.
        index: usize,
        /// Its length in tokens.
        length: usize,
        /// The most that the model takes.
        limit: usize,
    },
    /// A text has no tokens.
    #[error("input {index} is empty")]
    Empty {
        /// Which text.
        index: usize,
    },
}

/// An encoder with its weights in memory.
#[derive(Debug)]
pub struct Encoder {
    config: EncoderConfig,
    weights: EncoderWeights,
    threads: NonZeroUsize,
}

/// Everything that an encoder's folder holds.
#[derive(Debug)]
pub struct LoadedEncoder {
    /// The weights.
    pub encoder: Encoder,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The size of the weights in bytes.
    pub file_bytes: u64,
    /// The number of parameters.
    pub parameters: u64,
}

impl Encoder {
    /// The shape.
    pub const fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Sets how many texts are computed at a time; one to begin with.
    pub const fn use_threads(&mut self, threads: NonZeroUsize) {
        self.threads = threads;
    }

    /// The vectors of some texts, which are tokens as [`Tokenizer::encode`] gives them.
    ///
    /// # Errors
    /// [`InvalidInput`] names the first text that cannot be embedded; nothing is cut off silently.
    pub fn embed(&self, texts: &[Vec<TokenId>]) -> Result<Vec<Vec<f32>>, InvalidInput> {
        let limit = self.config.length_max;
        for (index, text) in texts.iter().enumerate() {
            let length = text.len();
            if length == 0 {
                return Err(InvalidInput::Empty { index });
            }
            if limit < length {
                return Err(InvalidInput::TooLong {
                    index,
                    length,
                    limit,
                });
            }
        }
        let vectors = Mutex::new(vec![Vec::new(); texts.len()]);
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(text) = texts.get(index) else {
                    return;
                };
                let vector = forward::embed(&self.config, &self.weights, text);
                vectors.lock()[index] = vector;
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads.get().min(texts.len()) {
                scope.spawn(work);
            }
            work();
        });
        Ok(vectors.into_inner())
    }
}

/// The tanh approximation of x·Φ(x).
fn gelu_tanh(value: f32) -> f32 {
    const ROOT_OF_TWO_OVER_PI: f32 = 0.797_884_6;
    let inner = ROOT_OF_TWO_OVER_PI * (value + 0.044_715 * value * value * value);
    0.5 * value * (1.0 + inner.tanh())
}
