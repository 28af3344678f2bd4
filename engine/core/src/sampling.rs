//! Sampling: from logits to a token, by temperature, nucleus, top-k, minimum probability and penalties.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
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

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Its log probability before temperature and penalties, if asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens and their log probabilities, best first, if asked for.
    pub top: Vec<(TokenId, f32)>,
}

/// Chooses the tokens of one sequence, independently of all others.
#[derive(Debug)]
pub struct Sampler {
    parameters: SamplingParameters,
    random: StdRng,
    occurrences: HashMap<TokenId, u32>,
}

impl Sampler {
    /// A sampler for a new answer.
    pub fn new(parameters: SamplingParameters) -> Self {
        let random = StdRng::seed_from_u64(parameters.seed);
        Self {
            parameters,
            random,
            occurrences: HashMap::new(),
        }
    }

    /// Chooses a token; `logits` has one value for each token of the vocabulary and is not empty.
    pub fn sample(&mut self, logits: &[f32]) -> Sampled {
        let adjusted = self.adjust(logits);
        let scores = adjusted.as_deref().unwrap_or(logits);
        let token = if self.parameters.temperature == 0.0 {
            likeliest(scores)
        } else {
            self.draw(scores)
        };
        *self.occurrences.entry(token).or_insert(0) += 1;
        match self.parameters.logprobs {
            None => Sampled {
                token,
                logprob: None,
                top: Vec::new(),
            },
            Some(count) => {
                let total = log_sum_exp(logits);
                let logprob = logits.get(token as usize).map(|logit| logit - total);
                let top = best(logits, count)
                    .into_iter()
                    .map(|(id, logit)| (id, logit - total))
                    .collect();
                Sampled {
                    token,
                    logprob,
                    top,
                }
            }
        }
    }

    /// Applies biases and penalties; `None` if there are none.
    fn adjust(&self, logits: &[f32]) -> Option<Vec<f32>> {
        let parameters = &self.parameters;
        let has_penalty = parameters.presence_penalty != 0.0 || parameters.frequency_penalty != 0.0;
        if parameters.logit_bias.is_empty() && (!has_penalty || self.occurrences.is_empty()) {
            return None;
        }
        let mut adjusted = logits.to_vec();
        for (token, bias) in &parameters.logit_bias {
            if let Some(logit) = adjusted.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        for (token, count) in &self.occurrences {
            if let Some(logit) = adjusted.get_mut(*token as usize) {
                *logit -=
                    parameters.presence_penalty + parameters.frequency_penalty * *count as f32;
            }
        }
        Some(adjusted)
    }

    /// Draws a token from what temperature, top-k, minimum probability and nucleus leave.
    fn draw(&mut self, logits: &[f32]) -> TokenId {
        let mut candidates = self.probabilities(logits);
        if let Some(count) = self
            .parameters
            .top_k
            .filter(|count| *count < candidates.len())
        {
            candidates.select_nth_unstable_by(count, by_probability);
            candidates.truncate(count);
        }
        if self.parameters.top_p < 1.0 {
            candidates = nucleus(candidates, self.parameters.top_p);
        }
        let mass: f64 = candidates.iter().map(|(_, probability)| *probability).sum();
        let mut point = self.random.random::<f64>() * mass;
        for (token, probability) in &candidates {
            point -= probability;
            if point < 0.0 {
                return *token;
            }
        }
        // Rounding can leave a rest: then it is the last candidate.
        candidates
            .last()
            .map_or_else(|| likeliest(logits), |(token, _)| *token)
    }

    /// Probabilities relative to the likeliest token, which has 1.
    fn probabilities(&self, logits: &[f32]) -> Vec<(TokenId, f64)> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let temperature = f64::from(self.parameters.temperature);
        let relative = |logit: f32| (f64::from(logit - highest) / temperature).exp();
        let floor = f64::from(self.parameters.min_p);
        let all = logits
            .iter()
            .enumerate()
            .map(|(id, logit)| (id as TokenId, relative(*logit)));
        all.filter(|(_, probability)| floor <= *probability && 0.0 < *probability)
            .collect()
    }
}

fn by_probability(left: &(TokenId, f64), right: &(TokenId, f64)) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

/// The likeliest candidates that together have at least `top_p` of the mass.
fn nucleus(mut candidates: Vec<(TokenId, f64)>, top_p: f32) -> Vec<(TokenId, f64)> {
    let mass: f64 = candidates.iter().map(|(_, probability)| *probability).sum();
    let wanted = mass * f64::from(top_p);
    // All candidates below this bound together weigh less than what may be left out, so they need not be sorted.
    let bound = (mass - wanted) / candidates.len() as f64;
    candidates.retain(|(_, probability)| bound <= *probability);
    candidates.sort_unstable_by(by_probability);
    let mut sum = 0.0;
    let reaches = |(_, probability): &(TokenId, f64)| {
        sum += probability;
        wanted <= sum
    };
    let kept = candidates
        .iter()
        .position(reaches)
        .map_or(candidates.len(), |index| index + 1);
    candidates.truncate(kept);
    candidates
}

/// The token with the highest logit; the first of equals.
fn likeliest(logits: &[f32]) -> TokenId {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if logits[best] < *logit || logits[best].is_nan() {
            best = index;
        }
    }
    best as TokenId
}

/// The `count` highest logits, best first.
fn best(logits: &[f32], count: usize) -> Vec<(TokenId, f32)> {
    let order = |left: &(TokenId, f32), right: &(TokenId, f32)| {
        right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
    };
    let mut all: Vec<_> = logits
        .iter()
        .enumerate()
        .map(|(id, logit)| (id as TokenId, *logit))
        .collect();
    let count = count.min(all.len());
    if count < all.len() {
        all.select_nth_unstable_by(count, order);
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - highest).exp())
        .sum();
    highest + sum.ln() as f32
}
