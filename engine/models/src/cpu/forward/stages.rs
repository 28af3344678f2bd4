//! What happens to single tokens between matrix products, compiled for each level of instructions.
#![expect(unsafe_code, reason = "threads write to places of their own")]

use crate::config::ModelConfig;
use crate::cpu::attention::{Tile, attend, attend_part};
use crate::cpu::cache::{Element, Place, Slots};
use crate::cpu::level::Level;
use crate::cpu::linear;
use crate::cpu::parallel::{Parts, ThreadScratch};
use crate::cpu::rope::Angles;
use crate::cpu::simd::{Kernel, Simd};
use crate::cpu::vectors::{add, normalize};
use crate::weights::Layer;

/// Adds what the part of a layer before has computed, and normalizes the sum for the next one.
pub(super) struct Absorb<'a> {
    pub(super) level: Level,
    pub(super) epsilon: f32,
    pub(super) width: usize,
    pub(super) first: usize,
    /// The states of the tokens from `first` on.
    pub(super) state: &'a mut [f32],
    /// What is added to them, and its norm.
    pub(super) added: Option<(&'a mut [f32], &'a [f32])>,
    pub(super) norm: &'a [f32],
    pub(super) input: &'a linear::Slots<'a>,
    /// Where the normalized vectors are kept as they are.
    pub(super) kept: Option<&'a mut [f32]>,
    pub(super) scratch: &'a mut ThreadScratch,
}

impl Kernel for Absorb<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self {
            level,
            epsilon,
            width,
            first,
            state,
            mut added,
            norm,
            input,
            mut kept,
            scratch,
        } = self;
        if scratch.len() < width {
            scratch.resize(width, 0.0);
        }
        let normed = &mut scratch[..width];
        for (number, state) in state.chunks_exact_mut(width).enumerate() {
            if let Some((added, post_norm)) = &mut added {
                let added = &mut added[number * width..(number + 1) * width];
                normalize::<S>(added, post_norm, epsilon);
                add::<S>(state, added);
            }
            normed.copy_from_slice(state);
            normalize::<S>(normed, norm, epsilon);
            if let Some(kept) = &mut kept {
                kept[number * width..(number + 1) * width].copy_from_slice(normed);
            }
            // SAFETY: a token is in one chunk.
            unsafe { input.set(level, first + number, 0, normed) };
        }
    }
}

/// Normalizes and turns queries and keys of some tokens, and writes keys and values to the cache.
pub(super) struct PlaceKeys<'a, E> {
    pub(super) config: &'a ModelConfig,
    pub(super) layer: &'a Layer,
    pub(super) angles: Option<&'a Angles>,
    /// The place in the sequence and in the cache of each token.
    pub(super) places: &'a [(usize, Place)],
    pub(super) queries: &'a mut [f32],
    pub(super) keys: &'a mut [f32],
    pub(super) values: &'a [f32],
    pub(super) slots: &'a Slots<'a, E>,
}

impl<E: Element> Kernel for PlaceKeys<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self {
            config,
            layer,
            angles,
            places,
            queries,
            keys,
            values,
            slots,
        } = self;
        let width = config.head_width;
        let queries = queries.chunks_exact_mut(config.query_width());
        let keys = keys.chunks_exact_mut(config.key_value_width());
        let values = values.chunks_exact(config.key_value_width());
        for (((position, place), queries), (keys, values)) in
            places.iter().zip(queries).zip(keys.zip(values))
        {
            for (heads, norm) in [(queries, &layer.query_norm), (&mut *keys, &layer.key_norm)] {
                for head in heads.chunks_exact_mut(width) {
                    if let Some(norm) = norm {
                        normalize::<S>(head, norm, config.norm_epsilon);
                    }
                    if let Some(angles) = angles {
                        angles.turn::<S>(head, *position);
                    }
                }
            }
            let heads = keys.chunks_exact(width).zip(values.chunks_exact(width));
            for (head, (key, value)) in heads.enumerate() {
                // SAFETY: each token of a batch has a place of its own, and nobody reads while keys are placed.
                unsafe { slots.write::<S>(*place, head, key, value) };
            }
        }
    }
}

/// Computes what a tile sees, or what it sees of one span.
pub(super) struct Attend<'a, E> {
    pub(super) tile: Tile<'a, E>,
    pub(super) part: Option<(usize, &'a mut [f32])>,
    /// The first token of the tile in the output.
    pub(super) first: usize,
    pub(super) output: &'a Parts<'a, f32>,
    pub(super) scratch: &'a mut ThreadScratch,
}

impl<E: Element> Kernel for Attend<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Self {
            tile,
            part,
            first,
            output,
            scratch,
        } = self;
        if let Some((span, partial)) = part {
            attend_part::<S, E>(&tile, span, scratch, partial);
            return;
        }
        let width = tile.pages.layout.width;
        let stride = tile.queries.len() / tile.tokens;
        attend::<S, E>(&tile, scratch, |query, seen| {
            let head = tile.key_head * tile.group + query % tile.group;
            let start = (first + query / tile.group) * stride + head * width;
            // SAFETY: a token's head is in one chunk.
            unsafe { output.part(start..start + width) }.copy_from_slice(seen);
        });
    }
}
