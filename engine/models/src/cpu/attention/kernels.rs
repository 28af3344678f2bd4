//! The inner loops of attention: scores, weights, weighted sums.
//!
//! Each score and each weighted sum is added up in one order, whatever is computed beside it; what is computed side
//! by side is chosen for the processor's registers.
#![expect(
    unsafe_code,
    reason = "a check for each of a dozen numbers takes longer than what is computed with them"
)]

use std::ops::Range;

use crate::cpu::cache::{Element, HeadBlock, Layout};
use crate::cpu::simd::{LANES, Simd, exponential, highest, sum};

/// Finds the keys and values of a block of the span.
type Head<'a, E> = dyn Fn(usize) -> HeadBlock<'a, E> + 'a;

/// Products of queries and keys.
pub(super) struct Score<'a, 'b, E> {
    pub(super) layout: &'a Layout,
    /// As [`gather`] leaves them.
    pub(super) queries: &'a [f32],
    /// Scores of a query.
    pub(super) row: usize,
    /// The lanes of the span to compute, extended to whole vectors.
    pub(super) lanes: Range<usize>,
    pub(super) head: &'a Head<'b, E>,
}

/// How many of the queries that are left are computed side by side.
#[inline(always)]
const fn side_by_side<S: Simd>(left: usize) -> usize {
    match left {
        12.. if S::HAS_MANY_REGISTERS => 12,
        8.. if S::HAS_MANY_REGISTERS => 8,
        4.. => 4,
        3 if S::HAS_MANY_REGISTERS => 3,
        2.. => 2,
        _ => 1,
    }
}

/// Writes queries scaled, and those that are computed side by side number by number: the first number of each, then
/// the second.
#[inline(always)]
pub(super) fn gather<'a, S: Simd>(
    queries: impl ExactSizeIterator<Item = &'a [f32]>,
    scale: f32,
    mut out: &mut [f32],
) {
    let (mut left, mut block, mut place) = (queries.len(), &mut [][..], 0);
    let mut step = 0;
    for query in queries {
        if place == step {
            step = side_by_side::<S>(left);
            (block, out) = out.split_at_mut(step * query.len());
            (left, place) = (left - step, 0);
        }
        for (numbers, number) in block.chunks_exact_mut(step).zip(query) {
            numbers[place] = number * scale;
        }
        place += 1;
    }
}

/// Computes scores: a row for each query, a lane for each place of the span.
#[inline(always)]
pub(super) fn score<S: Simd, E: Element>(work: &Score<'_, '_, E>, scores: &mut [f32]) {
    let groups = work.lanes.start / LANES..work.lanes.end.div_ceil(LANES);
    let count = work.queries.len() / work.layout.width;
    let mut query = 0;
    while query < count {
        let together = side_by_side::<S>(count - query);
        query += match (together, S::HAS_MANY_REGISTERS) {
            (12, true) => score_groups::<S, E, 12, 2>(work, query, groups.clone(), scores),
            (8, true) => score_groups::<S, E, 8, 2>(work, query, groups.clone(), scores),
            (4, true) => score_groups::<S, E, 4, 4>(work, query, groups.clone(), scores),
            (3, true) => score_groups::<S, E, 3, 4>(work, query, groups.clone(), scores),
            (2, true) => score_groups::<S, E, 2, 4>(work, query, groups.clone(), scores),
            (4, false) => score_groups::<S, E, 4, 1>(work, query, groups.clone(), scores),
            (2, false) => score_groups::<S, E, 2, 2>(work, query, groups.clone(), scores),
            _ => score_groups::<S, E, 1, 4>(work, query, groups.clone(), scores),
        };
    }
}

/// Computes Q rows of scores, K groups of lanes at a time, and returns Q.
#[inline(always)]
fn score_groups<S: Simd, E: Element, const Q: usize, const K: usize>(
    work: &Score<'_, '_, E>,
    query: usize,
    groups: Range<usize>,
    scores: &mut [f32],
) -> usize {
    let mut group = groups.start;
    while group + K <= groups.end {
        score_block::<S, E, Q, K>(work, query, group, scores);
        group += K;
    }
    for group in group..groups.end {
        score_block::<S, E, Q, 1>(work, query, group, scores);
    }
    Q
}

#[inline(always)]
fn score_block<S: Simd, E: Element, const Q: usize, const K: usize>(
    work: &Score<'_, '_, E>,
    query: usize,
    group: usize,
    scores: &mut [f32],
) {
    let width = work.layout.width;
    let block_groups = work.layout.slots / LANES;
    let mut keys = [std::ptr::null::<[E; LANES]>(); K];
    for (offset, keys) in keys.iter_mut().enumerate() {
        let group = group + offset;
        let head = (work.head)(group / block_groups);
        let start = group % block_groups * LANES * width;
        *keys = head.keys[start..start + LANES * width].as_ptr().cast();
    }
    let queries = work.queries[query * width..(query + Q) * width].as_ptr();
    let mut sums = [[S::splat(0.0); K]; Q];
    for number in 0..width {
        let mut vectors = [S::splat(0.0); K];
        for (key, vector) in keys.iter().zip(&mut vectors) {
            // SAFETY: a group of keys has a vector for each of the `width` numbers of a key.
            *vector = E::load::<S>(unsafe { &*key.add(number) });
        }
        for (offset, sums) in sums.iter_mut().enumerate() {
            // SAFETY: Q queries of `width` numbers lie side by side.
            let query = S::splat(unsafe { *queries.add(number * Q + offset) });
            for (key, sum) in vectors.iter().zip(sums) {
                *sum = S::multiply_add(query, *key, *sum);
            }
        }
    }
    for (offset, sums) in sums.iter().enumerate() {
        let row = &mut scores[(query + offset) * work.row..][group * LANES..(group + K) * LANES];
        for (out, sum) in row.as_chunks_mut().0.iter_mut().zip(sums) {
            S::store(*sum, out);
        }
    }
}

/// Turns a query's scores in the lanes that it sees into weights relative to the highest score, and those in the other
/// lanes of `all` into zeros. Returns the highest score and the sum of the weights.
#[inline(always)]
pub(super) fn softmax<S: Simd>(
    layout: &Layout,
    scores: &mut [f32],
    all: Range<usize>,
    seen: Range<usize>,
) -> (f32, f32) {
    let groups = |lanes: &Range<usize>| lanes.start / LANES..lanes.end.div_ceil(LANES);
    let all = groups(&all);
    if seen.is_empty() {
        scores[all.start * LANES..all.end * LANES].fill(0.0);
        return (f32::NEG_INFINITY, 0.0);
    }
    let own = groups(&seen);
    scores[own.start * LANES..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..own.end * LANES].fill(f32::NEG_INFINITY);
    if layout.block_tokens < layout.slots {
        let blocks = scores[..own.end * LANES].chunks_mut(layout.slots);
        for block in blocks.skip(seen.start / layout.slots) {
            let end = block.len();
            block[layout.block_tokens.min(end)..].fill(f32::NEG_INFINITY);
        }
    }
    scores[all.start * LANES..own.start * LANES].fill(0.0);
    scores[own.end * LANES..all.end * LANES].fill(0.0);
    let vectors = scores[own.start * LANES..own.end * LANES]
        .as_chunks_mut::<LANES>()
        .0;
    let mut most = S::splat(f32::NEG_INFINITY);
    for vector in &*vectors {
        most = S::highest_of(S::load(vector), most);
    }
    let most = highest::<S>(most);
    let mut total = S::splat(0.0);
    for vector in vectors {
        let weight = exponential::<S>(S::subtract(S::load(vector), S::splat(most)));
        total = S::add(total, weight);
        S::store(weight, vector);
    }
    (most, sum::<S>(total))
}

/// Sums of weighted values.
pub(super) struct Weigh<'a, 'b, E> {
    pub(super) layout: &'a Layout,
    pub(super) weights: &'a [f32],
    /// Weights of a query.
    pub(super) row: usize,
    /// The lanes of the span to add up.
    pub(super) lanes: Range<usize>,
    pub(super) head: &'a Head<'b, E>,
}

/// Adds up weighted values, for each query behind the `header` of its part of the output.
#[inline(always)]
pub(super) fn weigh<S: Simd, E: Element>(
    work: &Weigh<'_, '_, E>,
    output: &mut [f32],
    header: usize,
) {
    let length = header + work.layout.padded;
    let count = output.len() / length;
    let mut query = 0;
    while query < count {
        let output = &mut output[query * length..];
        query += if S::HAS_MANY_REGISTERS {
            match count - query {
                12.. => weigh_queries::<S, E, 12, 2>(work, query, output, header),
                8.. => weigh_queries::<S, E, 8, 2>(work, query, output, header),
                4.. => weigh_queries::<S, E, 4, 4>(work, query, output, header),
                3 => weigh_queries::<S, E, 3, 4>(work, query, output, header),
                2 => weigh_queries::<S, E, 2, 4>(work, query, output, header),
                _ => weigh_queries::<S, E, 1, 4>(work, query, output, header),
            }
        } else {
            match count - query {
                2.. => weigh_queries::<S, E, 2, 2>(work, query, output, header),
                _ => weigh_queries::<S, E, 1, 4>(work, query, output, header),
            }
        };
    }
}

/// Adds up for Q queries, V vectors of the values at a time, and returns Q.
#[inline(always)]
fn weigh_queries<S: Simd, E: Element, const Q: usize, const V: usize>(
    work: &Weigh<'_, '_, E>,
    query: usize,
    output: &mut [f32],
    header: usize,
) -> usize {
    let vectors = work.layout.padded / LANES;
    let mut vector = 0;
    while vector + V <= vectors {
        weigh_vectors::<S, E, Q, V>(work, query, vector, (output, header));
        vector += V;
    }
    for vector in vector..vectors {
        weigh_vectors::<S, E, Q, 1>(work, query, vector, (output, header));
    }
    Q
}

#[inline(always)]
fn weigh_vectors<S: Simd, E: Element, const Q: usize, const V: usize>(
    work: &Weigh<'_, '_, E>,
    query: usize,
    vector: usize,
    output: (&mut [f32], usize),
) {
    let Layout {
        slots,
        block_tokens,
        padded,
        ..
    } = *work.layout;
    let (output, header) = output;
    assert!(
        (vector + V) * LANES <= padded,
        "vectors outside the values of a lane"
    );
    let mut sums = [[S::splat(0.0); V]; Q];
    for block in work.lanes.start / slots..work.lanes.end.div_ceil(slots) {
        let first = work.lanes.start.max(block * slots);
        let end = work.lanes.end.min(block * slots + block_tokens);
        let head = (work.head)(block);
        let lanes = first - block * slots..end - block * slots;
        let values = head.values[lanes.start * padded..lanes.end * padded].as_ptr();
        let mut weights = [std::ptr::null::<f32>(); Q];
        for (offset, weights) in weights.iter_mut().enumerate() {
            let row = &work.weights[(query + offset) * work.row..][first..end];
            *weights = row.as_ptr();
        }
        for lane in 0..lanes.len() {
            let mut vectors = [S::splat(0.0); V];
            for (offset, loaded) in vectors.iter_mut().enumerate() {
                // SAFETY: a lane has `padded` numbers, and the vectors up to `vector + V` are inside them.
                let place = unsafe { values.add(lane * padded + (vector + offset) * LANES) };
                // SAFETY: as above.
                *loaded = E::load::<S>(unsafe { &*place.cast::<[E; LANES]>() });
            }
            for (weights, sums) in weights.iter().zip(&mut sums) {
                // SAFETY: each row of weights has one for each lane.
                let weight = S::splat(unsafe { *weights.add(lane) });
                for (value, sum) in vectors.iter().zip(sums) {
                    *sum = S::multiply_add(weight, *value, *sum);
                }
            }
        }
    }
    for (output, sums) in output.chunks_exact_mut(header + padded).zip(&sums) {
        let out = output[header + vector * LANES..].as_chunks_mut().0;
        for (out, sum) in out.iter_mut().zip(sums) {
            S::store(*sum, out);
        }
    }
}
