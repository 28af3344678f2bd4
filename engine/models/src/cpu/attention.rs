//! Attention over a paged cache: each token looks at the keys of its own sequence, block by block.

use std::ops::Range;

use engine_core::BlockId;

use crate::backend::CacheShape;
use crate::config::ModelConfig;

use super::kernel::{Level, VECTORS, add_scaled, dot_each};
use super::parallel::ThreadScratch;

/// Keys and values of all layers.
#[derive(Debug)]
pub(crate) struct Cache {
    block_tokens: usize,
    blocks: usize,
    layers: Vec<LayerCache>,
}

/// Keys and values of one layer: a vector for each slot, a slot for each token of each block.
#[derive(Debug)]
pub(crate) struct LayerCache {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

impl Cache {
    pub(crate) fn new(config: &ModelConfig, shape: CacheShape) -> Self {
        let length = shape.blocks * shape.block_tokens * config.key_value_width();
        // Zeroed memory is only taken from the system when it is touched.
        let layer = |_| LayerCache {
            keys: vec![0.0; length],
            values: vec![0.0; length],
        };
        Self {
            block_tokens: shape.block_tokens,
            blocks: shape.blocks,
            layers: (0..config.layers).map(layer).collect(),
        }
    }

    pub(crate) fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }

    pub(crate) fn layer_mut(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// Copies a block's numbers, layer by layer, keys before values.
    pub(crate) fn read_block(&self, block: BlockId, bytes: &mut [u8]) {
        let (numbers, _) = bytes.as_chunks_mut::<4>();
        let values = self.layers.iter().flat_map(|layer| {
            let range = self.block_range(block, layer.keys.len());
            layer.keys[range.clone()].iter().chain(&layer.values[range])
        });
        for (bytes, value) in numbers.iter_mut().zip(values) {
            *bytes = value.to_ne_bytes();
        }
    }

    /// Replaces a block's numbers.
    pub(crate) fn write_block(&mut self, block: BlockId, bytes: &[u8]) {
        let (numbers, _) = bytes.as_chunks::<4>();
        let mut numbers = numbers.iter();
        for index in 0..self.layers.len() {
            let range = self.block_range(block, self.layers[index].keys.len());
            let layer = &mut self.layers[index];
            let values = layer.keys[range.clone()]
                .iter_mut()
                .chain(&mut layer.values[range]);
            for (value, bytes) in values.zip(&mut numbers) {
                *value = f32::from_ne_bytes(*bytes);
            }
        }
    }

    fn block_range(&self, block: BlockId, length: usize) -> Range<usize> {
        let numbers = length / self.blocks.max(1);
        block.index() * numbers..(block.index() + 1) * numbers
    }

    /// The slot of a place in a sequence.
    pub(crate) fn slot(&self, blocks: &[BlockId], place: usize) -> usize {
        blocks[place / self.block_tokens].index() * self.block_tokens + place % self.block_tokens
    }
}

/// One token's view of its sequence.
pub(crate) struct View<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) layer: usize,
    pub(crate) blocks: &'a [BlockId],
    /// The token's place in its sequence.
    pub(crate) place: usize,
    /// The first place that it sees.
    pub(crate) first: usize,
}

/// Computes what one token's query heads see through one key head. `queries` and `output` hold these heads.
///
/// Places are taken a few at a time; the last few are filled up with the last place, whose surplus scores are dropped
/// and whose surplus weights are zero.
pub(crate) fn attend(
    level: Level,
    config: &ModelConfig,
    view: &View<'_>,
    key_head: usize,
    heads: (&[f32], &mut [f32]),
    scratch: &mut ThreadScratch,
) {
    let (queries, output) = heads;
    let (width, stride) = (config.head_width, config.key_value_width());
    let layer = view.cache.layer(view.layer);
    let count = view.place + 1 - view.first;
    let last = count - 1;
    let vectors = |index: usize| -> [Range<usize>; VECTORS] {
        std::array::from_fn(|offset| {
            let place = view.first + (index + offset).min(last);
            let start = view.cache.slot(view.blocks, place) * stride + key_head * width;
            start..start + width
        })
    };
    for (query, output) in queries
        .chunks_exact(width)
        .zip(output.chunks_exact_mut(width))
    {
        scratch.clear();
        for index in (0..count).step_by(VECTORS) {
            let keys = vectors(index).map(|range| &layer.keys[range]);
            scratch.extend(
                dot_each(level, query, keys).map(|product| product * config.attention_scale),
            );
        }
        softmax(&mut scratch[..count]);
        scratch[count..].fill(0.0);
        output.fill(0.0);
        for (index, weights) in (0..count).step_by(VECTORS).zip(scratch.as_chunks().0) {
            add_scaled(
                level,
                output,
                *weights,
                vectors(index).map(|range| &layer.values[range]),
            );
        }
    }
}

/// Turns scores into weights that add up to 1.
fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - highest).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}
