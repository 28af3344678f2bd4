//! The forward function of BERT: each token sees all others, and a norm follows each part of a layer.
//!
//! Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2018).

use engine_core::TokenId;

use super::product::Dense;
use super::{Activation, EncoderConfig, Pooling};

/// A norm with its own mean.
#[derive(Debug)]
pub(super) struct LayerNorm {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(super) struct EncoderLayer {
    pub(super) query: Dense,
    pub(super) key: Dense,
    pub(super) value: Dense,
    pub(super) attention_output: Dense,
    pub(super) attention_norm: LayerNorm,
    pub(super) up: Dense,
    pub(super) down: Dense,
    pub(super) norm: LayerNorm,
}

/// The weights of an encoder.
#[derive(Debug)]
pub(super) struct EncoderWeights {
    pub(super) words: Vec<f32>,
    /// A vector for each place, with that of the only segment added.
    pub(super) places: Vec<f32>,
    pub(super) norm: LayerNorm,
    pub(super) layers: Vec<EncoderLayer>,
}

/// Computes the embedding of one text.
pub(super) fn embed(
    config: &EncoderConfig,
    weights: &EncoderWeights,
    tokens: &[TokenId],
) -> Vec<f32> {
    let width = config.width;
    let mut state = vec![0.0; tokens.len() * width];
    for (place, (token, state)) in tokens.iter().zip(state.chunks_exact_mut(width)).enumerate() {
        let token = (*token as usize).min(config.vocabulary - 1);
        let word = &weights.words[token * width..(token + 1) * width];
        let place = &weights.places[place * width..(place + 1) * width];
        for ((state, word), place) in state.iter_mut().zip(word).zip(place) {
            *state = word + place;
        }
    }
    weights.norm.apply(&mut state, config.norm_epsilon);
    for layer in &weights.layers {
        layer.apply(config, &mut state);
    }
    pool(config, &state)
}

impl EncoderLayer {
    fn apply(&self, config: &EncoderConfig, state: &mut [f32]) {
        let queries = self.query.apply(state);
        let keys = self.key.apply(state);
        let values = self.value.apply(state);
        let seen = attend(config, &queries, &keys, &values);
        add(state, &self.attention_output.apply(&seen));
        self.attention_norm.apply(state, config.norm_epsilon);
        let mut inner = self.up.apply(state);
        let activate = match config.activation {
            Activation::Exact => gelu,
            Activation::Tanh => crate::encoder::gelu_tanh,
        };
        inner.iter_mut().for_each(|value| *value = activate(*value));
        add(state, &self.down.apply(&inner));
        self.norm.apply(state, config.norm_epsilon);
    }
}

/// What each token sees of all tokens, head by head.
fn attend(config: &EncoderConfig, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
    let width = config.width;
    let head_width = width / config.heads;
    let count = queries.len() / width;
    let scale = 1.0 / (head_width as f32).sqrt();
    let mut seen = vec![0.0; queries.len()];
    // Keys and values of one head, keys column by column, so that inner loops run along memory.
    let mut columns = vec![0.0; head_width * count];
    let mut scores = vec![0.0; count];
    for head in 0..config.heads {
        let part = |token: usize| {
            token * width + head * head_width..token * width + (head + 1) * head_width
        };
        for token in 0..count {
            for (column, key) in keys[part(token)].iter().enumerate() {
                columns[column * count + token] = *key;
            }
        }
        for token in 0..count {
            scores.fill(0.0);
            for (query, column) in queries[part(token)].iter().zip(columns.chunks_exact(count)) {
                for (score, key) in scores.iter_mut().zip(column) {
                    *score += query * key;
                }
            }
            softmax(&mut scores, scale);
            let seen = &mut seen[part(token)];
            for (other, weight) in scores.iter().enumerate() {
                for (seen, value) in seen.iter_mut().zip(&values[part(other)]) {
                    *seen += weight * value;
                }
            }
        }
    }
    seen
}

fn softmax(scores: &mut [f32], scale: f32) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = ((*score - highest) * scale).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

fn add(state: &mut [f32], added: &[f32]) {
    for (state, added) in state.iter_mut().zip(added) {
        *state += added;
    }
}

impl LayerNorm {
    fn apply(&self, state: &mut [f32], epsilon: f32) {
        let width = self.weight.len();
        for vector in state.chunks_exact_mut(width) {
            let mean = vector.iter().sum::<f32>() / width as f32;
            let squares: f32 = vector
                .iter()
                .map(|value| (value - mean) * (value - mean))
                .sum();
            let scale = 1.0 / (squares / width as f32 + epsilon).sqrt();
            let weights = self.weight.iter().zip(&self.bias);
            for (value, (weight, bias)) in vector.iter_mut().zip(weights) {
                *value = (*value - mean) * scale * weight + bias;
            }
        }
    }
}

/// One vector for the text.
fn pool(config: &EncoderConfig, state: &[f32]) -> Vec<f32> {
    let width = config.width;
    let mut pooled = vec![0.0; width];
    match config.pooling {
        Pooling::First => pooled.copy_from_slice(&state[..width]),
        Pooling::Mean => {
            for vector in state.chunks_exact(width) {
                add(&mut pooled, vector);
            }
            let count = (state.len() / width) as f32;
            pooled.iter_mut().for_each(|value| *value /= count);
        }
    }
    if config.normalizes {
        let length = pooled.iter().map(|value| value * value).sum::<f32>().sqrt();
        let length = length.max(1e-12);
        pooled.iter_mut().for_each(|value| *value /= length);
    }
    pooled
}

/// x·Φ(x).
fn gelu(value: f32) -> f32 {
    let x = f64::from(value);
    (0.5 * x * (1.0 + error_function(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

/// The error function to 1.5e-7: Abramowitz and Stegun, 7.1.26.
fn error_function(x: f64) -> f64 {
    const FACTORS: [f64; 5] = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let sum = FACTORS.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    let magnitude = 1.0 - sum * (-x * x).exp();
    magnitude.copysign(x)
}
