//! The forward function: embeddings, layers, logits.

use engine_core::BlockId;

use crate::backend::{BatchRow, Logits};
use crate::config::{Activation, ModelConfig};
use crate::quant::dequantize;
use crate::weights::{Layer, Linear, Model};

use super::attention::{Cache, View, attend};
use super::kernel::{Level, Product, gelu, multiply, normalize, normalize_in_place, silu};
use super::parallel::{Parts, Workers};
use super::rope::{Angles, frequencies};

/// Rows of a matrix that a thread computes at a time.
const CHUNK_ROWS: usize = 32;

/// Memory that is kept from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    state: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    added: Vec<f32>,
    angles: Angles,
    window_angles: Angles,
}

/// One token of the batch.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    blocks: &'a [BlockId],
    place: usize,
}

/// One computation of a batch.
pub(crate) struct Pass<'a> {
    pub(crate) model: &'a Model,
    pub(crate) cache: &'a mut Cache,
    pub(crate) workers: &'a mut Workers,
    pub(crate) level: Level,
    pub(crate) scratch: &'a mut Scratch,
}

impl Pass<'_> {
    /// Computes the batch.
    pub(crate) fn run(&mut self, rows: &[BatchRow<'_>]) -> Logits {
        let tokens: Vec<Token<'_>> = rows.iter().flat_map(tokens_of).collect();
        self.embed(rows);
        self.compute_angles(&tokens);
        for index in 0..self.model.layers.len() {
            self.attention(index, &tokens);
            self.feed_forward(index, tokens.len());
        }
        self.logits(rows)
    }

    fn embed(&mut self, rows: &[BatchRow<'_>]) {
        let (config, embedding) = (&self.model.config, &self.model.embedding);
        let ids: Vec<usize> = rows
            .iter()
            .flat_map(|row| row.tokens)
            .map(|id| *id as usize)
            .collect();
        let state = resized(&mut self.scratch.state, ids.len() * config.width);
        for (id, state) in ids.iter().zip(state.chunks_exact_mut(config.width)) {
            let id = (*id).min(embedding.rows() - 1);
            dequantize(embedding.kind(), embedding.row_bytes(id..id + 1), state);
            state
                .iter_mut()
                .for_each(|value| *value *= config.embedding_scale);
        }
    }

    fn compute_angles(&mut self, tokens: &[Token<'_>]) {
        let config = &self.model.config;
        let positions: Vec<usize> = tokens.iter().map(|token| token.place).collect();
        let divisors = self.model.rope_divisors.as_deref();
        let global = frequencies(config, config.rope_base, config.rope_scale, divisors);
        self.scratch.angles.fill(&positions, &global);
        if let Some(window) = config.window {
            let local = frequencies(config, window.rope_base, 1.0, None);
            self.scratch.window_angles.fill(&positions, &local);
        }
    }

    fn attention(&mut self, index: usize, tokens: &[Token<'_>]) {
        let (config, layer) = (&self.model.config, &self.model.layers[index]);
        let scratch = &mut *self.scratch;
        normalize_all(
            config,
            &scratch.state,
            &layer.attention_norm,
            &mut scratch.normed,
        );
        let outputs = [
            (&layer.query, &mut scratch.queries),
            (&layer.key, &mut scratch.keys),
            (&layer.value, &mut scratch.values),
        ];
        project(
            self.workers,
            self.level,
            &scratch.normed,
            tokens.len(),
            outputs,
        );
        self.place_keys(index, tokens);
        self.attend_all(index, tokens);
        let scratch = &mut *self.scratch;
        let outputs = [(&layer.attention_output, &mut scratch.added)];
        project(
            self.workers,
            self.level,
            &scratch.attended,
            tokens.len(),
            outputs,
        );
        add_to_state(config, scratch, layer.attention_post_norm.as_deref());
    }

    /// Normalizes and turns queries and keys, and writes keys and values to the cache.
    fn place_keys(&mut self, index: usize, tokens: &[Token<'_>]) {
        let (config, layer) = (&self.model.config, &self.model.layers[index]);
        let scratch = &mut *self.scratch;
        let angles = if config.window_of(index).is_some() {
            &scratch.window_angles
        } else {
            &scratch.angles
        };
        let turn = |vector: &mut [f32], norm: Option<&[f32]>, token: usize| {
            for head in vector.chunks_exact_mut(config.head_width) {
                if let Some(norm) = norm {
                    normalize_in_place(head, norm, config.norm_epsilon);
                }
                angles.turn(head, token, config.rope_style);
            }
        };
        let width = config.key_value_width();
        let queries = scratch.queries.chunks_exact_mut(config.query_width());
        let keys = scratch
            .keys
            .chunks_exact_mut(width)
            .zip(scratch.values.chunks_exact(width));
        for (number, ((token, query), (key, value))) in
            tokens.iter().zip(queries).zip(keys).enumerate()
        {
            turn(query, layer.query_norm.as_deref(), number);
            turn(key, layer.key_norm.as_deref(), number);
            let slot = self.cache.slot(token.blocks, token.place) * width;
            let cache = self.cache.layer_mut(index);
            cache.keys[slot..slot + width].copy_from_slice(key);
            cache.values[slot..slot + width].copy_from_slice(value);
        }
    }

    fn attend_all(&mut self, index: usize, tokens: &[Token<'_>]) {
        let (config, cache, level) = (&self.model.config, &*self.cache, self.level);
        let (query_width, queries) = (config.query_width(), &self.scratch.queries);
        let group = query_width / config.key_value_heads;
        let output = Parts::new(resized(
            &mut self.scratch.attended,
            tokens.len() * query_width,
        ));
        let window = config.window_of(index);
        self.workers
            .run(tokens.len() * config.key_value_heads, &|chunk, scratch| {
                let (token, key_head) = (
                    &tokens[chunk / config.key_value_heads],
                    chunk % config.key_value_heads,
                );
                let first =
                    window.map_or(0, |window| (token.place + 1).saturating_sub(window.length));
                let view = View {
                    cache,
                    layer: index,
                    blocks: token.blocks,
                    place: token.place,
                    first,
                };
                let part = chunk * group..(chunk + 1) * group;
                #[expect(unsafe_code, reason = "chunks write to the output in place")]
                // SAFETY: the parts of different chunks do not overlap.
                let seen = unsafe { output.part(part.clone()) };
                attend(
                    level,
                    config,
                    &view,
                    key_head,
                    (&queries[part], seen),
                    scratch,
                );
            });
    }

    fn feed_forward(&mut self, index: usize, tokens: usize) {
        let (config, layer): (_, &Layer) = (&self.model.config, &self.model.layers[index]);
        let scratch = &mut *self.scratch;
        normalize_all(
            config,
            &scratch.state,
            &layer.feed_forward_norm,
            &mut scratch.normed,
        );
        let outputs = [
            (&layer.gate, &mut scratch.gate),
            (&layer.up, &mut scratch.up),
        ];
        project(self.workers, self.level, &scratch.normed, tokens, outputs);
        let activate = match config.activation {
            Activation::Silu => silu,
            Activation::Gelu => gelu,
        };
        for (gate, up) in scratch.gate.iter_mut().zip(&scratch.up) {
            *gate = activate(*gate) * up;
        }
        let outputs = [(&layer.down, &mut scratch.added)];
        project(self.workers, self.level, &scratch.gate, tokens, outputs);
        add_to_state(config, scratch, layer.feed_forward_post_norm.as_deref());
    }

    fn logits(&mut self, rows: &[BatchRow<'_>]) -> Logits {
        let config = &self.model.config;
        let scratch = &mut *self.scratch;
        scratch.normed.clear();
        let (mut end, mut wanted) = (0, 0);
        for row in rows {
            end += row.tokens.len();
            for place in end - row.outputs.min(row.tokens.len())..end {
                let state = &scratch.state[place * config.width..(place + 1) * config.width];
                let start = scratch.normed.len();
                scratch.normed.resize(start + config.width, 0.0);
                normalize(
                    state,
                    &self.model.output_norm,
                    config.norm_epsilon,
                    &mut scratch.normed[start..],
                );
                wanted += 1;
            }
        }
        let mut logits = Vec::new();
        let outputs = [(&self.model.output, &mut logits)];
        project(self.workers, self.level, &scratch.normed, wanted, outputs);
        Logits::new(logits, config.vocabulary)
    }
}

fn tokens_of<'a>(row: &BatchRow<'a>) -> impl Iterator<Item = Token<'a>> + use<'a> {
    let BatchRow {
        tokens,
        start,
        blocks,
        outputs: _,
        adapter: _,
    } = *row;
    (start..start + tokens.len()).map(move |place| Token { blocks, place })
}

fn resized(vector: &mut Vec<f32>, length: usize) -> &mut [f32] {
    vector.resize(length, 0.0);
    vector
}

fn normalize_all(config: &ModelConfig, input: &[f32], weight: &[f32], output: &mut Vec<f32>) {
    let output = resized(output, input.len());
    let vectors = input
        .chunks_exact(config.width)
        .zip(output.chunks_exact_mut(config.width));
    for (input, output) in vectors {
        normalize(input, weight, config.norm_epsilon, output);
    }
}

/// Adds what a part of a layer has computed to the state, normalized if the architecture says so.
fn add_to_state(config: &ModelConfig, scratch: &mut Scratch, post_norm: Option<&[f32]>) {
    if let Some(norm) = post_norm {
        for vector in scratch.added.chunks_exact_mut(config.width) {
            normalize_in_place(vector, norm, config.norm_epsilon);
        }
    }
    for (state, added) in scratch.state.iter_mut().zip(&scratch.added) {
        *state += added;
    }
}

/// Multiplies several matrices with the same activations in one parallel loop.
fn project<const N: usize>(
    workers: &mut Workers,
    level: Level,
    input: &[f32],
    tokens: usize,
    outputs: [(&Linear, &mut Vec<f32>); N],
) {
    let outputs = outputs.map(|(linear, output)| {
        let rows = linear.matrix.rows();
        (
            linear,
            Parts::new(resized(output, tokens * rows)),
            rows.div_ceil(CHUNK_ROWS),
        )
    });
    let chunks = outputs.iter().map(|(_, _, chunks)| chunks).sum();
    workers.run(chunks, &|chunk, scratch| {
        let mut chunk = chunk;
        for (linear, output, chunks) in &outputs {
            if chunk < *chunks {
                let first = chunk * CHUNK_ROWS;
                let rows = first..(first + CHUNK_ROWS).min(linear.matrix.rows());
                let bias = linear.bias.as_deref();
                let product = Product {
                    matrix: &linear.matrix,
                    bias,
                    input,
                    tokens,
                    output,
                };
                multiply(level, &product, rows, scratch);
                return;
            }
            chunk -= chunks;
        }
    });
}
