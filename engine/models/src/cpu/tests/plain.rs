//! A forward function as one would write it on paper: whole sequence, `f64`, no cache, no threads.

use engine_core::TokenId;

use crate::adapter::{Adapter, AdapterLayer, LowRank};
use crate::config::{Activation, ModelConfig, Positions, RopeStyle};
use crate::quant::dequantize;
use crate::weights::{Layer, Linear, Matrix, Model};

/// Logits behind each token.
pub(super) fn forward(model: &Model, tokens: &[TokenId]) -> Vec<Vec<f32>> {
    forward_with(model, tokens, None)
}

/// Logits behind each token, with an adapter.
pub(super) fn forward_with(
    model: &Model,
    tokens: &[TokenId],
    adapter: Option<&Adapter>,
) -> Vec<Vec<f32>> {
    let none = AdapterLayer::default();
    let config = &model.config;
    let scale = f64::from(config.embedding_scale);
    let embed = |token: &TokenId| {
        row(&model.embedding, *token as usize)
            .iter()
            .map(|value| value * scale)
            .collect()
    };
    let mut states: Vec<Vec<f64>> = tokens.iter().map(embed).collect();
    for (index, layer) in model.layers.iter().enumerate() {
        let changes = adapter.map_or(&none, |adapter| &adapter.layers[index]);
        let seen = attention(config, (layer, changes), index, &states);
        for (state, seen) in states.iter_mut().zip(seen) {
            add(
                state,
                &post_norm(
                    config,
                    changed(&layer.attention_output, &changes.attention_output, &seen),
                    layer.attention_post_norm.as_ref(),
                ),
            );
            let normed = norm(config, state, &layer.feed_forward_norm);
            let gate = changed(&layer.gate, &changes.gate, &normed)
                .into_iter()
                .map(|value| activate(config, value));
            let inner: Vec<f64> = gate
                .zip(changed(&layer.up, &changes.up, &normed))
                .map(|(gate, up)| gate * up)
                .collect();
            add(
                state,
                &post_norm(
                    config,
                    changed(&layer.down, &changes.down, &inner),
                    layer.feed_forward_post_norm.as_ref(),
                ),
            );
        }
    }
    let logits =
        |state: &Vec<f64>| multiply(&model.output, &norm(config, state, &model.output_norm));
    states
        .iter()
        .map(|state| {
            logits(state)
                .into_iter()
                .map(|value| value as f32)
                .collect()
        })
        .collect()
}

fn attention(
    config: &ModelConfig,
    layer: (&Layer, &AdapterLayer),
    index: usize,
    states: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let (layer, changes) = layer;
    let normed: Vec<_> = states
        .iter()
        .map(|state| norm(config, state, &layer.attention_norm))
        .collect();
    let window = config.window_of(index);
    let base = match config.positions_of(index) {
        Positions::Global => Some(config.rope_base),
        Positions::Local => config.window.map(|window| window.rope_base),
        Positions::None => None,
    };
    let heads = |(linear, change): (&Linear, &Option<LowRank>),
                 weight: Option<&Vec<f32>>,
                 is_turned: bool|
     -> Vec<Vec<Vec<f64>>> {
        let split = |(place, state): (usize, &Vec<f64>)| {
            let all = changed(linear, change, state);
            let head = |head: &[f64]| {
                let head =
                    weight.map_or_else(|| head.to_vec(), |weight| norm(config, head, weight));
                match base.filter(|_| is_turned) {
                    Some(base) => turn(config, head, place, base),
                    None => head,
                }
            };
            all.chunks(config.head_width).map(head).collect()
        };
        normed.iter().enumerate().map(split).collect()
    };
    let queries = heads(
        (&layer.query, &changes.query),
        layer.query_norm.as_ref(),
        true,
    );
    let keys = heads((&layer.key, &changes.key), layer.key_norm.as_ref(), true);
    let values = heads((&layer.value, &changes.value), None, false);
    let group = config.heads / config.key_value_heads;
    let see = |place: usize| -> Vec<f64> {
        let first = window.map_or(0, |window| (place + 1).saturating_sub(window.length));
        let head = |head: usize| {
            let score = |other: usize| {
                let key = &keys[other][head / group];
                let product: f64 = queries[place][head]
                    .iter()
                    .zip(key)
                    .map(|(query, key)| query * key)
                    .sum();
                (product * f64::from(config.attention_scale)).exp()
            };
            let scores: Vec<f64> = (first..=place).map(score).collect();
            let sum: f64 = scores.iter().sum();
            let mut out = vec![0.0; config.head_width];
            for (other, score) in (first..=place).zip(scores) {
                for (out, value) in out.iter_mut().zip(&values[other][head / group]) {
                    *out += score / sum * value;
                }
            }
            out
        };
        (0..config.heads).flat_map(head).collect()
    };
    (0..states.len()).map(see).collect()
}

fn turn(config: &ModelConfig, mut head: Vec<f64>, place: usize, base: f32) -> Vec<f64> {
    let half = config.rope_width / 2;
    for pair in 0..half {
        let angle = place as f64 / f64::from(base).powf(pair as f64 / half as f64);
        let (first, second) = match config.rope_style {
            RopeStyle::Interleaved => (2 * pair, 2 * pair + 1),
            RopeStyle::Halves => (pair, pair + half),
        };
        let (x, y) = (head[first], head[second]);
        head[first] = x * angle.cos() - y * angle.sin();
        head[second] = x * angle.sin() + y * angle.cos();
    }
    head
}

fn activate(config: &ModelConfig, value: f64) -> f64 {
    match config.activation {
        Activation::Silu => value / (1.0 + (-value).exp()),
        Activation::Gelu => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (value + 0.044_715 * value.powi(3));
            0.5 * value * (1.0 + inner.tanh())
        }
    }
}

fn row(matrix: &Matrix, index: usize) -> Vec<f64> {
    let mut out = vec![0.0; matrix.columns()];
    dequantize(matrix.kind(), matrix.row_bytes(index..index + 1), &mut out);
    out.into_iter().map(f64::from).collect()
}

fn changed(linear: &Linear, change: &Option<LowRank>, input: &[f64]) -> Vec<f64> {
    let mut out = multiply(linear, input);
    let Some(LowRank { a, b, rank }) = change else {
        return out;
    };
    let product = |row: &[f32], vector: &[f64]| -> f64 {
        let products = row.iter().zip(vector);
        products.map(|(left, right)| f64::from(*left) * right).sum()
    };
    let inner: Vec<f64> = a
        .chunks(input.len())
        .map(|row| product(row, input))
        .collect();
    for (out, row) in out.iter_mut().zip(b.chunks(*rank)) {
        *out += product(row, &inner);
    }
    out
}

fn multiply(linear: &Linear, input: &[f64]) -> Vec<f64> {
    let output = |index: usize| {
        let sum: f64 = row(&linear.matrix, index)
            .iter()
            .zip(input)
            .map(|(weight, input)| weight * input)
            .sum();
        sum + linear
            .bias
            .as_ref()
            .map_or(0.0, |bias| f64::from(bias[index]))
    };
    (0..linear.matrix.rows()).map(output).collect()
}

fn norm(config: &ModelConfig, input: &[f64], weight: &[f32]) -> Vec<f64> {
    let mean = input.iter().map(|value| value * value).sum::<f64>() / input.len() as f64;
    let scale = 1.0 / (mean + f64::from(config.norm_epsilon)).sqrt();
    input
        .iter()
        .zip(weight)
        .map(|(value, weight)| value * scale * f64::from(*weight))
        .collect()
}

fn post_norm(config: &ModelConfig, added: Vec<f64>, weight: Option<&Vec<f32>>) -> Vec<f64> {
    match weight {
        Some(weight) => norm(config, &added, weight),
        None => added,
    }
}

fn add(state: &mut [f64], added: &[f64]) {
    for (state, added) in state.iter_mut().zip(added) {
        *state += added;
    }
}
