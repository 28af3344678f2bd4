//! Adapters at work: a token whose sequence has one gains `b · (a · input)` behind each matrix that it changes.
//!
//! Tokens are taken in the order of their adapters, so that an adapter's numbers are read once for many tokens. Each
//! token's sums have one order, whatever the batch.
#![expect(unsafe_code, reason = "chunks write to the output in place")]

use std::collections::HashMap;

use engine_core::AdapterId;

use crate::adapter::{Adapter, AdapterLayer, LowRank};

use super::parallel::Parts;
use super::products::Team;
use super::simd::{Kernel, LANES, Simd, run};
use super::vectors::dot;

/// Tokens of a chunk.
const CHUNK_TOKENS: usize = 8;

/// A change of one matrix, with `b` turned around: a row for each of its columns.
#[derive(Debug)]
pub(crate) struct Change {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
}

impl Change {
    fn new(change: &LowRank) -> Self {
        let LowRank { a, b, rank } = change;
        let rank = (*rank).max(1);
        let rows = b.len() / rank;
        let turned = (0..rank).flat_map(|column| (0..rows).map(move |row| b[row * rank + column]));
        Self {
            a: a.clone(),
            b: turned.collect(),
            rank,
        }
    }

    const fn bytes(&self) -> usize {
        (self.a.len() + self.b.len()) * size_of::<f32>()
    }
}

/// The changes of one layer.
#[derive(Debug)]
pub(crate) struct ChangedLayer {
    pub(crate) query: Option<Change>,
    pub(crate) key: Option<Change>,
    pub(crate) value: Option<Change>,
    pub(crate) attention_output: Option<Change>,
    pub(crate) gate: Option<Change>,
    pub(crate) up: Option<Change>,
    pub(crate) down: Option<Change>,
}

/// An adapter, ready to compute with.
#[derive(Debug)]
pub(crate) struct Changes {
    layers: Vec<ChangedLayer>,
}

impl Changes {
    pub(crate) fn new(adapter: &Adapter) -> Self {
        let layer = |layer: &AdapterLayer| {
            let change = |change: &Option<LowRank>| change.as_ref().map(Change::new);
            ChangedLayer {
                query: change(&layer.query),
                key: change(&layer.key),
                value: change(&layer.value),
                attention_output: change(&layer.attention_output),
                gate: change(&layer.gate),
                up: change(&layer.up),
                down: change(&layer.down),
            }
        };
        Self {
            layers: adapter.layers.iter().map(layer).collect(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let layer = |layer: &ChangedLayer| -> usize {
            let ChangedLayer {
                query,
                key,
                value,
                attention_output,
                gate,
                up,
                down,
            } = layer;
            [query, key, value, attention_output, gate, up, down]
                .into_iter()
                .flatten()
                .map(Change::bytes)
                .sum()
        };
        self.layers.iter().map(layer).sum()
    }
}

/// The adapters of a backend, and which tokens of the batch have one.
pub(crate) struct Selection<'a> {
    pub(crate) adapters: &'a HashMap<AdapterId, Changes>,
    /// Tokens by their number in the batch, in the order of their adapters.
    pub(crate) tokens: &'a [(AdapterId, usize)],
    pub(crate) layer: usize,
}

/// Which matrix of a layer.
pub(crate) type Which = fn(&ChangedLayer) -> Option<&Change>;

impl Selection<'_> {
    /// Adds what adapters change of one matrix' products. `input` and `output` hold a vector a token of the batch.
    pub(crate) fn apply(
        &self,
        team: &mut Team,
        which: Which,
        input: (&[f32], usize),
        output: (&mut [f32], usize),
    ) {
        let ((input, columns), (output, rows)) = (input, output);
        let output = Parts::new(output);
        let level = team.level;
        let chunk = |chunk: usize, scratch: &mut Vec<f32>| {
            let first = chunk * CHUNK_TOKENS;
            let end = (first + CHUNK_TOKENS).min(self.tokens.len());
            for (adapter, token) in &self.tokens[first..end] {
                let layer = self
                    .adapters
                    .get(adapter)
                    .and_then(|adapter| adapter.layers.get(self.layer));
                let Some(change) = layer.and_then(which) else {
                    continue;
                };
                let input = &input[token * columns..(token + 1) * columns];
                // SAFETY: a token is in one chunk.
                let output = unsafe { output.part(token * rows..(token + 1) * rows) };
                run(
                    level,
                    Apply {
                        change,
                        input,
                        output,
                        scratch,
                    },
                );
            }
        };
        team.workers
            .run(self.tokens.len().div_ceil(CHUNK_TOKENS), &chunk);
    }
}

struct Apply<'a> {
    change: &'a Change,
    input: &'a [f32],
    output: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self {
            change,
            input,
            output,
            scratch,
        } = self;
        scratch.clear();
        let rows = change.a.chunks_exact(input.len());
        scratch.extend(rows.map(|row| dot::<S>(row, input)));
        let inner = &scratch[..change.rank.min(scratch.len())];
        for (number, output) in output.chunks_mut(LANES).enumerate() {
            let first = number * LANES;
            let mut sum = S::splat(0.0);
            for (factor, row) in inner
                .iter()
                .zip(change.b.chunks_exact(change.b.len() / change.rank))
            {
                let mut lanes = [0.0; LANES];
                lanes[..output.len()].copy_from_slice(&row[first..first + output.len()]);
                sum = S::multiply_add(S::splat(*factor), S::load(&lanes), sum);
            }
            for (output, sum) in output.iter_mut().zip(S::lanes(sum)) {
                *output += sum;
            }
        }
    }
}
