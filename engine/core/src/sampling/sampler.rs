//! The sampler of one sequence: what a token's logits become before one is chosen.

use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::TokenId;
use crate::constraint::TokenMask;

use super::SamplingParameters;
use super::scores::{self, Scored};

/// Temperatures below take the likeliest token: their reciprocal leaves the range of numbers.
const TEMPERATURE_MIN: f32 = 1e-5;
/// Tokens less likely than this share of the likeliest (as a logarithm) are never drawn: all of the largest
/// vocabulary together would have a share of 1e-8.
const NEVER: f32 = -31.0;
/// How many of the likeliest tokens are looked at first to find the nucleus, and by how much more each next time.
const NUCLEUS_FIRST: usize = 64;
const NUCLEUS_GROWTH: usize = 16;

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Its log probability in the model's distribution, if asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens and their log probabilities, best first, if asked for.
    pub top: Vec<(TokenId, f32)>,
}

/// What the model thought of a token of the prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptLogprob {
    /// The token.
    pub token: TokenId,
    /// Its log probability behind the tokens before it.
    pub logprob: f32,
    /// Its place among all tokens, 1 for the likeliest.
    pub rank: usize,
    /// The likeliest tokens and their log probabilities, best first.
    pub top: Vec<(TokenId, f32)>,
}

impl PromptLogprob {
    /// Looks up what logits say about the token that follows, and the `count` likeliest ones.
    pub fn of(logits: &[f32], token: TokenId, count: usize) -> Self {
        let total = scores::log_sum_exp(logits);
        let own = logits
            .get(token as usize)
            .copied()
            .unwrap_or(f32::NEG_INFINITY);
        Self {
            token,
            logprob: own - total,
            rank: scores::count_above(logits, own) + 1,
            top: best(logits, count, total),
        }
    }
}

/// Which tokens may be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed<'a> {
    /// How many tokens there are, if the model computes more numbers than that: the rest is padding and never comes.
    pub vocabulary: Option<usize>,
    /// The only tokens that may come, if restricted.
    pub mask: Option<&'a TokenMask>,
    /// Tokens that may not come, unless nothing else may.
    pub banned: &'a [TokenId],
}

/// Memory that all samplers of a thread share, so that sampling allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    adjusted: Vec<f32>,
    weights: Vec<f32>,
    candidates: Vec<Scored>,
}

/// Chooses the tokens of one sequence, independently of all others.
#[derive(Debug)]
pub struct Sampler {
    parameters: SamplingParameters,
    random: StdRng,
    /// How often tokens occur in the answer.
    occurrences: HashMap<TokenId, u32>,
    /// The tokens of the prompt, if their repetition has a penalty.
    prompt: HashSet<TokenId>,
}

impl Sampler {
    /// A sampler for a new answer.
    pub fn new(parameters: SamplingParameters) -> Self {
        let random = StdRng::seed_from_u64(parameters.seed);
        Self {
            parameters,
            random,
            occurrences: HashMap::new(),
            prompt: HashSet::new(),
        }
    }

    /// Takes note of the prompt, whose tokens count as repeated when they come again.
    pub fn read_prompt(&mut self, prompt: &[TokenId]) {
        if self.parameters.repetition_penalty != 1.0 {
            self.prompt.extend(prompt);
        }
    }

    /// Chooses a token; `logits` has one value for each token of the vocabulary, and for padding behind them.
    pub fn sample(
        &mut self,
        logits: &[f32],
        allowed: Allowed<'_>,
        scratch: &mut Scratch,
    ) -> Sampled {
        let vocabulary = allowed.vocabulary.unwrap_or(logits.len());
        let tokens = &logits[..vocabulary.min(logits.len())];
        let token = self.choose(tokens, allowed, scratch);
        if self.counts_tokens() {
            *self.occurrences.entry(token).or_insert(0) += 1;
        }
        let Some(count) = self.parameters.logprobs else {
            return Sampled {
                token,
                logprob: None,
                top: Vec::new(),
            };
        };
        let total = scores::log_sum_exp(logits);
        Sampled {
            token,
            logprob: logits.get(token as usize).map(|logit| logit - total),
            top: best(logits, count, total),
        }
    }

    const fn counts_tokens(&self) -> bool {
        let parameters = &self.parameters;
        parameters.presence_penalty != 0.0
            || parameters.frequency_penalty != 0.0
            || parameters.repetition_penalty != 1.0
    }

    fn choose(&mut self, logits: &[f32], allowed: Allowed<'_>, scratch: &mut Scratch) -> TokenId {
        let Scratch {
            adjusted,
            weights,
            candidates,
        } = scratch;
        let scores = if self.adjusts(allowed) {
            self.adjust(logits, allowed, adjusted);
            adjusted.as_slice()
        } else {
            logits
        };
        if TEMPERATURE_MIN <= self.parameters.temperature
            && let Some(token) = self.draw(scores, weights, candidates)
        {
            return token;
        }
        // Nothing is left of the scores only if all that may come is banned, or all logits are NaN.
        scores::likeliest(scores).unwrap_or_else(|| last_resort(logits, allowed))
    }

    fn adjusts(&self, allowed: Allowed<'_>) -> bool {
        let has_seen = !self.occurrences.is_empty() || !self.prompt.is_empty();
        allowed.mask.is_some()
            || !allowed.banned.is_empty()
            || !self.parameters.logit_bias.is_empty()
            || (self.counts_tokens() && has_seen)
    }

    /// Applies the mask, biases, bans and penalties.
    fn adjust(&self, logits: &[f32], allowed: Allowed<'_>, adjusted: &mut Vec<f32>) {
        let parameters = &self.parameters;
        adjusted.clear();
        match allowed.mask {
            Some(mask) => extend_masked(adjusted, logits, mask),
            None => adjusted.extend_from_slice(logits),
        }
        for (token, bias) in &parameters.logit_bias {
            if let Some(logit) = adjusted.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        for token in allowed.banned {
            if let Some(logit) = adjusted.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let penalty = parameters.repetition_penalty;
        if penalty != 1.0 {
            let in_answer = self.occurrences.keys();
            let only_in_prompt = self
                .prompt
                .iter()
                .filter(|token| !self.occurrences.contains_key(*token));
            for token in in_answer.chain(only_in_prompt) {
                if let Some(logit) = adjusted.get_mut(*token as usize) {
                    *logit = if 0.0 < *logit {
                        *logit / penalty
                    } else {
                        *logit * penalty
                    };
                }
            }
        }
        for (token, count) in &self.occurrences {
            if let Some(logit) = adjusted.get_mut(*token as usize) {
                *logit -=
                    parameters.presence_penalty + parameters.frequency_penalty * *count as f32;
            }
        }
    }

    /// Draws a token from what temperature, minimum probability, top-k and nucleus leave; `None` if that is nothing.
    fn draw(
        &mut self,
        scores: &[f32],
        weights: &mut Vec<f32>,
        candidates: &mut Vec<Scored>,
    ) -> Option<TokenId> {
        let SamplingParameters {
            temperature,
            top_p,
            top_k,
            min_p,
            ..
        } = self.parameters;
        let highest = scores::highest(scores);
        if highest == f32::NEG_INFINITY {
            return None;
        }
        let sharpness = temperature.recip();
        let floor = highest + temperature * min_p.ln().max(NEVER);
        if let Some(count) = top_k.filter(|count| *count < scores.len()) {
            scores::top(scores, count.max(1), candidates);
            candidates.retain(|(_, score)| floor <= *score);
            for (_, score) in candidates.iter_mut() {
                *score = scores::exp((*score - highest) * sharpness);
            }
            let mass = candidates
                .iter()
                .map(|(_, weight)| f64::from(*weight))
                .sum();
            cut_nucleus(candidates, mass, top_p);
            return self.pick(candidates);
        }
        let mass = scores::weigh(scores, highest, sharpness, floor, weights);
        if top_p < 1.0 {
            let mut count = NUCLEUS_FIRST;
            loop {
                scores::top(weights, count, candidates);
                if cut_nucleus(candidates, mass, top_p) || weights.len() <= count {
                    return self.pick(candidates);
                }
                count *= NUCLEUS_GROWTH;
            }
        }
        self.pick_among_all(weights, mass)
    }

    /// Draws one of some candidates by weight.
    fn pick(&mut self, candidates: &[Scored]) -> Option<TokenId> {
        let mass: f64 = candidates
            .iter()
            .map(|(_, weight)| f64::from(*weight))
            .sum();
        let mut point = self.random.random::<f64>() * mass;
        for (token, weight) in candidates {
            point -= f64::from(*weight);
            if point < 0.0 {
                return Some(*token);
            }
        }
        // Rounding can leave a rest: then it is the last candidate.
        candidates.last().map(|(token, _)| *token)
    }

    /// Draws one of all tokens by weight: first the part of the vocabulary, then the token.
    fn pick_among_all(&mut self, weights: &[f32], mass: f64) -> Option<TokenId> {
        const PART: usize = 1024;
        let mut point = self.random.random::<f64>() * mass;
        let mut last = None;
        for (index, part) in weights.chunks(PART).enumerate() {
            let part_mass = scores::sum(part);
            if part_mass <= point {
                point -= part_mass;
                continue;
            }
            for (token, weight) in (index * PART..).zip(part) {
                if 0.0 < *weight {
                    last = Some(token as TokenId);
                }
                point -= f64::from(*weight);
                if point < 0.0 {
                    return last;
                }
            }
            point = 0.0;
        }
        // Rounding can leave a rest.
        last.or_else(|| scores::likeliest(weights))
    }
}

/// Copies the logits of the tokens that a mask allows; all others become impossible.
fn extend_masked(adjusted: &mut Vec<f32>, logits: &[f32], mask: &TokenMask) {
    const BITS: usize = u32::BITS as usize;
    let mut words = mask.words().iter();
    for chunk in logits.chunks(BITS) {
        match words.next().copied().unwrap_or(0) {
            0 => adjusted.resize(adjusted.len() + chunk.len(), f32::NEG_INFINITY),
            u32::MAX => adjusted.extend_from_slice(chunk),
            word => adjusted.extend(chunk.iter().enumerate().map(|(bit, logit)| {
                if word & (1 << bit) != 0 {
                    *logit
                } else {
                    f32::NEG_INFINITY
                }
            })),
        }
    }
}

/// What is chosen where nothing can be: the best token that the mask allows, banned or not.
fn last_resort(logits: &[f32], allowed: Allowed<'_>) -> TokenId {
    let Some(mask) = allowed.mask else {
        return scores::likeliest(logits).unwrap_or(0);
    };
    let mut masked = Vec::with_capacity(logits.len());
    extend_masked(&mut masked, logits, mask);
    let first = || (0..logits.len() as TokenId).find(|token| mask.allows(*token));
    scores::likeliest(&masked).or_else(first).unwrap_or(0)
}

/// Leaves the likeliest of sorted candidates that together have a share of `top_p` of the mass; says whether they
/// have it.
fn cut_nucleus(candidates: &mut Vec<Scored>, mass: f64, top_p: f32) -> bool {
    if 1.0 <= top_p {
        return true;
    }
    let wanted = mass * f64::from(top_p);
    let mut sum = 0.0;
    let reaches = |(_, weight): &Scored| {
        sum += f64::from(*weight);
        wanted <= sum
    };
    match candidates.iter().position(reaches) {
        Some(index) => {
            candidates.truncate(index + 1);
            true
        }
        None => false,
    }
}

/// The log probabilities of the likeliest tokens, best first.
fn best(logits: &[f32], count: usize, total: f32) -> Vec<Scored> {
    if count == 0 {
        return Vec::new();
    }
    let mut top = Vec::new();
    scores::top(logits, count, &mut top);
    for (_, score) in &mut top {
        *score -= total;
    }
    top
}
