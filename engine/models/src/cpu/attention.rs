//! Attention over the paged cache, for a tile of tokens and the query heads of one key head at a time.
//!
//! A token's keys are cut into spans at fixed places of its sequence. Within a span, a score is a sum over the numbers
//! of a key in their order, weights are relative to the span's highest score, and values are added in the order of
//! their places; the spans' results are joined in their order. So what a token sees has the same bits whether it is
//! computed alone or beside others, and whether a thread takes all spans or each span is a chunk of a parallel loop.

mod kernels;

use std::ops::Range;

use engine_core::BlockId;

use super::cache::{Element, Layout, Pages};
use super::simd::{Simd, exponential};

use kernels::{Score, Weigh, gather, score, softmax, weigh};

/// Tokens of a span, or of a block if that has more.
const SPAN_TOKENS: usize = 256;
/// Queries of a tile, unless a token alone has more.
const TILE_QUERIES: usize = 24;
/// Numbers in front of a query's sums in a partial result: the highest score and the sum of weights.
const HEADER: usize = 2;

/// Tokens that follow each other in a sequence, and what they see through one key head.
pub(crate) struct Tile<'a, E> {
    pub(crate) pages: &'a Pages<E>,
    pub(crate) layer: usize,
    pub(crate) key_head: usize,
    pub(crate) blocks: &'a [BlockId],
    /// The first token's place in its sequence.
    pub(crate) place: usize,
    pub(crate) tokens: usize,
    /// Query heads of the key head.
    pub(crate) group: usize,
    /// How many tokens a token sees, itself included.
    pub(crate) window: Option<usize>,
    /// Products of queries and keys are multiplied by this.
    pub(crate) scale: f32,
    /// The queries of the tile's tokens, all heads of a token together.
    pub(crate) queries: &'a [f32],
}

/// How many tokens with so many query heads a key head make a tile.
pub(crate) const fn tile_tokens(group: usize) -> usize {
    let tokens = TILE_QUERIES / group;
    if tokens == 0 { 1 } else { tokens }
}

/// Blocks of a span.
pub(crate) const fn span_blocks(layout: &Layout) -> usize {
    let blocks = SPAN_TOKENS / layout.block_tokens;
    if blocks == 0 { 1 } else { blocks }
}

/// The spans that lie before the end of `length` tokens.
pub(crate) const fn spans(layout: &Layout, length: usize) -> usize {
    length.div_ceil(span_blocks(layout) * layout.block_tokens)
}

/// Numbers of a partial result for so many queries.
pub(crate) const fn partial_length(layout: &Layout, queries: usize) -> usize {
    queries * (HEADER + layout.padded)
}

impl<E: Element> Tile<'_, E> {
    const fn count(&self) -> usize {
        self.tokens * self.group
    }

    /// The first place that the token at `place` sees.
    fn first_seen(&self, place: usize) -> usize {
        self.window
            .map_or(0, |window| (place + 1).saturating_sub(window))
    }

    /// The tile's queries, scaled, in the order in which scores are computed.
    #[inline(always)]
    fn gather<S: Simd>(&self, out: &mut [f32]) {
        let width = self.pages.layout.width;
        let stride = self.queries.len() / self.tokens;
        let queries = (0..self.count()).map(|query| {
            let head = self.key_head * self.group + query % self.group;
            &self.queries[query / self.group * stride + head * width..][..width]
        });
        gather::<S>(queries, self.scale, out);
    }

    /// The lanes of a span that a token sees; none if it sees nothing of the span.
    fn lanes(&self, span: usize, place: usize) -> Range<usize> {
        let layout = &self.pages.layout;
        let first_block = span * span_blocks(layout);
        let (start, end) = (
            first_block * layout.block_tokens,
            (first_block + span_blocks(layout)) * layout.block_tokens,
        );
        let (first, last) = (self.first_seen(place).max(start), place.min(end - 1));
        if last < first {
            return 0..0;
        }
        let lane = |place: usize| {
            let place = place - start;
            place / layout.block_tokens * layout.slots + place % layout.block_tokens
        };
        lane(first)..lane(last) + 1
    }
}

/// Memory for a tile.
struct Buffers<'a> {
    queries: &'a mut [f32],
    scores: &'a mut [f32],
    /// A partial result for each query: of one span, and of all spans so far.
    span: &'a mut [f32],
    total: &'a mut [f32],
}

impl<'a> Buffers<'a> {
    fn new(layout: &Layout, queries: usize, scratch: &'a mut Vec<f32>) -> Self {
        let lanes = span_blocks(layout) * layout.slots;
        let partial = partial_length(layout, queries);
        let lengths = [queries * layout.width, queries * lanes, partial, partial];
        let length = lengths.iter().sum();
        if scratch.len() < length {
            scratch.resize(length, 0.0);
        }
        let (queries, rest) = scratch.split_at_mut(lengths[0]);
        let (scores, rest) = rest.split_at_mut(lengths[1]);
        let (span, rest) = rest.split_at_mut(lengths[2]);
        Self {
            queries,
            scores,
            span,
            total: &mut rest[..partial],
        }
    }
}

/// Computes what a tile's tokens see. `output` gets the vectors, query by query.
#[inline(always)]
pub(crate) fn attend<S: Simd, E: Element>(
    tile: &Tile<'_, E>,
    scratch: &mut Vec<f32>,
    mut output: impl FnMut(usize, &[f32]),
) {
    let layout = &tile.pages.layout;
    let Buffers {
        queries,
        scores,
        span,
        total,
    } = Buffers::new(layout, tile.count(), scratch);
    tile.gather::<S>(queries);
    let last = tile.place + tile.tokens - 1;
    let tokens = span_blocks(layout) * layout.block_tokens;
    for number in tile.first_seen(tile.place) / tokens..=last / tokens {
        attend_span::<S, E>(tile, number, (queries, scores), span);
        if number == tile.first_seen(tile.place) / tokens {
            total.copy_from_slice(span);
        } else {
            join::<S>(layout, total, span);
        }
    }
    finish::<S>(layout, total, |query, vector| output(query, vector));
}

/// Computes what a tile's tokens see of one span: a partial result.
#[inline(always)]
pub(crate) fn attend_part<S: Simd, E: Element>(
    tile: &Tile<'_, E>,
    span: usize,
    scratch: &mut Vec<f32>,
    partial: &mut [f32],
) {
    let buffers = Buffers::new(&tile.pages.layout, tile.count(), scratch);
    tile.gather::<S>(buffers.queries);
    attend_span::<S, E>(tile, span, (buffers.queries, buffers.scores), partial);
}

/// Joins the partial results of a tile's spans, which lie one behind the other; the first one is overwritten.
#[inline(always)]
pub(crate) fn join_parts<S: Simd>(
    layout: &Layout,
    partials: &mut [f32],
    queries: usize,
    output: impl FnMut(usize, &[f32]),
) {
    let (total, rest) = partials.split_at_mut(partial_length(layout, queries));
    for span in rest.chunks_exact(total.len()) {
        join::<S>(layout, total, span);
    }
    finish::<S>(layout, total, output);
}

#[inline(always)]
fn attend_span<S: Simd, E: Element>(
    tile: &Tile<'_, E>,
    span: usize,
    memory: (&[f32], &mut [f32]),
    partial: &mut [f32],
) {
    let (queries, scores) = memory;
    let layout = &tile.pages.layout;
    let row = span_blocks(layout) * layout.slots;
    let seen = |token: usize| tile.lanes(span, tile.place + token);
    let (mut start, mut end) = (row, 0);
    for token in 0..tile.tokens {
        let lanes = seen(token);
        if !lanes.is_empty() {
            (start, end) = (start.min(lanes.start), end.max(lanes.end));
        }
    }
    for partial in partial.chunks_exact_mut(HEADER + layout.padded) {
        partial[..HEADER].copy_from_slice(&[f32::NEG_INFINITY, 0.0]);
    }
    if end <= start {
        return;
    }
    let head = |block: usize| {
        let block = tile.blocks[span * span_blocks(layout) + block];
        tile.pages.head(block, tile.layer, tile.key_head)
    };
    score::<S, E>(
        &Score {
            layout,
            queries,
            row,
            lanes: start..end,
            head: &head,
        },
        scores,
    );
    let rows = scores.chunks_exact_mut(row);
    let partials = partial.chunks_exact_mut(HEADER + layout.padded);
    for (query, (scores, partial)) in rows.zip(partials).enumerate() {
        let lanes = seen(query / tile.group);
        let (highest, sum) = softmax::<S>(layout, scores, start..end, lanes);
        partial[..HEADER].copy_from_slice(&[highest, sum]);
    }
    weigh::<S, E>(
        &Weigh {
            layout,
            weights: scores,
            row,
            lanes: start..end,
            head: &head,
        },
        partial,
        HEADER,
    );
}

/// Adds the results of a span to those of the spans before it.
#[inline(always)]
fn join<S: Simd>(layout: &Layout, total: &mut [f32], span: &[f32]) {
    let length = HEADER + layout.padded;
    let queries = total
        .chunks_exact_mut(length)
        .zip(span.chunks_exact(length));
    for (total, span) in queries {
        if span[1] == 0.0 {
            continue;
        }
        if total[1] == 0.0 {
            total.copy_from_slice(span);
            continue;
        }
        let highest = total[0].max(span[0]);
        let factor = |score: f32| exponential::<S>(S::splat(score - highest));
        let (old, new) = (factor(total[0]), factor(span[0]));
        let (old_factor, new_factor) = (S::lanes(old)[0], S::lanes(new)[0]);
        total[1] = total[1].mul_add(old_factor, span[1] * new_factor);
        total[0] = highest;
        let vectors = total[HEADER..].as_chunks_mut().0.iter_mut();
        for (total, span) in vectors.zip(span[HEADER..].as_chunks().0) {
            let added = S::multiply(S::load(span), new);
            S::store(S::multiply_add(S::load(total), old, added), total);
        }
    }
}

/// Divides the sums of values by the sums of weights.
#[inline(always)]
fn finish<S: Simd>(layout: &Layout, total: &mut [f32], mut output: impl FnMut(usize, &[f32])) {
    for (query, total) in total.chunks_exact_mut(HEADER + layout.padded).enumerate() {
        let factor = S::splat(1.0 / total[1]);
        for vector in total[HEADER..].as_chunks_mut().0 {
            S::store(S::multiply(S::load(vector), factor), vector);
        }
        output(query, &total[HEADER..HEADER + layout.width]);
    }
}
