//! Sampling: from logits to a token, by temperature, nucleus, top-k, minimum probability and penalties.
//!
//! The order is vLLM's: grammar, biases, least tokens, penalties, temperature, minimum probability, top-k, nucleus.
//! Log probabilities are those of the model, before any of it.

mod sampler;
mod scores;
#[cfg(test)]
mod tests;

pub use sampler::{Allowed, PromptLogprob, Sampled, Sampler, Scratch};

use thiserror::Error;

use crate::TokenId;

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParameters {
    /// 0 takes the likeliest token; 1 leaves the distribution as it is.
    pub temperature: f32,
    /// The smallest set of tokens with at least this mass is kept; above 0, 1 keeps all.
    pub top_p: f32,
    /// The number of likeliest tokens that are kept, if limited.
    pub top_k: Option<usize>,
    /// Tokens less likely than this share of the likeliest are dropped.
    pub min_p: f32,
    /// Taken off the logit of each token that occurs in the answer.
    pub presence_penalty: f32,
    /// Taken off the logit of a token for each time that it occurs in the answer.
    pub frequency_penalty: f32,
    /// Divides the logits above 0, and multiplies those below, of each token that occurs in the prompt or the
    /// answer; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Added to the logits of some tokens.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Equal seeds choose equal tokens.
    pub seed: u64,
    /// How many likeliest tokens to report with each token, if any log probabilities are wanted.
    pub logprobs: Option<usize>,
}

impl Default for SamplingParameters {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
            logprobs: None,
        }
    }
}

/// A parameter outside its range.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{parameter} is {value}, which is not {range}")]
pub struct InvalidSampling {
    /// The parameter's name in the OpenAI API.
    pub parameter: &'static str,
    /// What was given.
    pub value: f32,
    /// What may be given.
    pub range: &'static str,
}

impl SamplingParameters {
    /// Checks that each parameter is in its range.
    ///
    /// # Errors
    /// [`InvalidSampling`] for the first parameter that is not.
    pub fn validate(&self) -> Result<(), InvalidSampling> {
        let checks = [
            (
                "temperature",
                self.temperature,
                (0.0..=2.0).contains(&self.temperature),
                "0 to 2",
            ),
            (
                "top_p",
                self.top_p,
                0.0 < self.top_p && self.top_p <= 1.0,
                "above 0 and at most 1",
            ),
            (
                "min_p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "0 to 1",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                within_two(self.presence_penalty),
                "-2 to 2",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                within_two(self.frequency_penalty),
                "-2 to 2",
            ),
            (
                "repetition_penalty",
                self.repetition_penalty,
                0.0 < self.repetition_penalty && self.repetition_penalty.is_finite(),
                "above 0",
            ),
        ];
        for (parameter, value, is_valid, range) in checks {
            if !is_valid {
                return Err(InvalidSampling {
                    parameter,
                    value,
                    range,
                });
            }
        }
        let bias = self
            .logit_bias
            .iter()
            .map(|(_, bias)| *bias)
            .find(|bias| !(-100.0..=100.0).contains(bias));
        match bias {
            Some(value) => Err(InvalidSampling {
                parameter: "logit_bias",
                value,
                range: "-100 to 100",
            }),
            None => Ok(()),
        }
    }
}

fn within_two(value: f32) -> bool {
    (-2.0..=2.0).contains(&value)
}
