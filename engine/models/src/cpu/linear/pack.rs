//! Packing: from the rows of a file to tiles. Integers of the file stay what they are; floats stay floats or are
//! quantized.

mod codes;
mod floats;

use std::io;
use std::ops::Range;

use crate::quant::TensorKind;
use crate::weights::Matrix;

use super::arena::Arena;
use super::format::Format;
use super::{Body, GROUP, PAIR, Packed, Parts, STRIPE_ROWS};
use crate::cpu::{Arithmetic, FloatWeights};

/// Stripes that one chunk of the parallel loop packs: whole pairs.
const CHUNK_STRIPES: usize = 16;

/// Runs a parallel loop: calls a function for each number below the first argument, on any thread.
pub(crate) type RunLoop<'a> = dyn FnMut(usize, &(dyn Fn(usize) + Sync)) + 'a;

/// A matrix to pack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) matrix: &'a Matrix,
    /// Whether its activations are rounded to 15 bits even if its weights have no more than 4: what rounding to 8
    /// leaves over costs as much as a second product.
    pub(crate) is_exact: bool,
}

/// How a matrix becomes tiles.
#[derive(Debug, Clone, Copy)]
struct Plan<'a> {
    matrix: &'a Matrix,
    format: Format,
    remainders: bool,
}

/// Makes matrices ready to multiply, all in one stretch of memory. The file's pages are given back.
///
/// # Errors
/// The system has no memory left.
pub(crate) fn pack_all(
    sources: &[Source<'_>],
    arithmetic: Arithmetic,
    float_weights: FloatWeights,
    run: &mut RunLoop<'_>,
) -> io::Result<Vec<Packed>> {
    let body = |matrix: &Matrix, body| Packed {
        rows: matrix.rows(),
        columns: matrix.columns(),
        body,
    };
    if arithmetic == Arithmetic::F32 {
        let in_file = |source: &Source<'_>| {
            let matrix = source.matrix;
            body(matrix, Body::InFile(matrix.clone()))
        };
        return Ok(sources.iter().map(in_file).collect());
    }
    let plans: Vec<Plan<'_>> = sources
        .iter()
        .map(|source| {
            let format = format_of(source.matrix.kind(), float_weights);
            Plan {
                matrix: source.matrix,
                format,
                remainders: format.is_integer() && (source.is_exact || !format.is_nibbles()),
            }
        })
        .collect();
    let sizes: Vec<usize> = plans
        .iter()
        .map(|plan| plan.stripes() * plan.stripe_bytes())
        .collect();
    let mut arena = Arena::new(&sizes)?;
    let (memory, ranges) = arena.parts();
    let memory = Parts::new(memory);
    let starts: Vec<usize> = ranges.iter().map(|range| range.start).collect();
    let chunks: Vec<(usize, usize)> = plans
        .iter()
        .enumerate()
        .flat_map(|(index, plan)| {
            (0..plan.stripes())
                .step_by(CHUNK_STRIPES)
                .map(move |first| (index, first))
        })
        .collect();
    run(chunks.len(), &|chunk| {
        let (index, first) = chunks[chunk];
        let (plan, bytes) = (&plans[index], plans[index].stripe_bytes());
        let end = (first + CHUNK_STRIPES).min(plan.stripes());
        for first in (first..end).step_by(PAIR) {
            let stripes = first..(first + PAIR).min(end);
            let start = starts[index] + first * bytes;
            // SAFETY: each pair belongs to one chunk.
            let part = unsafe { memory.part(start..start + stripes.len() * bytes) };
            plan.pack(stripes, part);
        }
    });
    plans.iter().for_each(|plan| plan.matrix.release());
    let tiles = arena.finish();
    Ok(plans
        .iter()
        .zip(tiles)
        .map(|(plan, tiles)| {
            let tiles = Body::Tiles {
                format: plan.format,
                tiles,
                remainders: plan.remainders,
            };
            body(plan.matrix, tiles)
        })
        .collect())
}

/// The format that holds a kind's numbers.
const fn format_of(kind: TensorKind, float_weights: FloatWeights) -> Format {
    match kind {
        TensorKind::Q4_0 => Format::Nibbles,
        TensorKind::Q4_1 | TensorKind::Q4_K => Format::NibblesWithMinimum,
        TensorKind::Q8_0 | TensorKind::Q5_0 => Format::Bytes,
        TensorKind::Q5_1 | TensorKind::Q5_K => Format::BytesWithMinimum,
        TensorKind::Q6_K => Format::BytesInHalves,
        TensorKind::F32 | TensorKind::F16 | TensorKind::BF16 => match (float_weights, kind) {
            (FloatWeights::Quantize8, _) => Format::Bytes,
            (FloatWeights::Quantize4, _) => Format::NibblesWithMinimum,
            (FloatWeights::Keep, TensorKind::F16) => Format::Half,
            (FloatWeights::Keep, TensorKind::BF16) => Format::Brain,
            (FloatWeights::Keep, _) => Format::Single,
        },
    }
}

impl Plan<'_> {
    fn stripes(&self) -> usize {
        self.matrix.rows().div_ceil(STRIPE_ROWS)
    }

    fn groups(&self) -> usize {
        self.matrix.columns().div_ceil(GROUP)
    }

    fn stripe_bytes(&self) -> usize {
        self.groups() * self.format.tile_bytes()
    }

    /// Packs the rows of a pair of stripes, or of the last stripe, into zeroed memory; rows that the matrix does not
    /// have stay zeros.
    fn pack(&self, stripes: Range<usize>, memory: &mut [u8]) {
        let pair = stripes.len();
        for (place, stripe) in stripes.enumerate() {
            let first = stripe * STRIPE_ROWS;
            let count = STRIPE_ROWS.min(self.matrix.rows() - first);
            for row in 0..count {
                let bytes = self.matrix.row_bytes(first + row..first + row + 1);
                let own = place * self.stripe_bytes();
                match self.format {
                    Format::Half | Format::Brain => {
                        floats::keep::<2>(bytes, row, &mut memory[own..]);
                    }
                    Format::Single => floats::keep::<4>(bytes, row, &mut memory[own..]),
                    Format::Nibbles
                    | Format::NibblesWithMinimum
                    | Format::Bytes
                    | Format::BytesWithMinimum
                    | Format::BytesInHalves => {
                        let tiles = memory.chunks_exact_mut(self.format.tile_bytes());
                        self.pack_integers(bytes, row, tiles.skip(place).step_by(pair));
                    }
                }
            }
        }
    }

    /// Packs a row into the tiles of its stripe.
    fn pack_integers<'a>(
        &self,
        bytes: &[u8],
        row: usize,
        tiles: impl Iterator<Item = &'a mut [u8]>,
    ) {
        match self.matrix.kind() {
            TensorKind::Q4_0 => codes::pack::<18, 1>(bytes, row, tiles, codes::q4_0),
            TensorKind::Q4_1 => codes::pack::<20, 1>(bytes, row, tiles, codes::q4_1),
            TensorKind::Q5_0 => codes::pack::<22, 1>(bytes, row, tiles, codes::q5_0),
            TensorKind::Q5_1 => codes::pack::<24, 1>(bytes, row, tiles, codes::q5_1),
            TensorKind::Q8_0 => codes::pack::<34, 1>(bytes, row, tiles, codes::q8_0),
            TensorKind::Q4_K => codes::pack::<144, 8>(bytes, row, tiles, codes::q4_k),
            TensorKind::Q5_K => codes::pack::<176, 8>(bytes, row, tiles, codes::q5_k),
            TensorKind::Q6_K => codes::pack::<210, 8>(bytes, row, tiles, codes::q6_k),
            kind @ (TensorKind::F32 | TensorKind::F16 | TensorKind::BF16) => {
                floats::quantize(kind, bytes, row, (tiles, self.format));
            }
        }
    }
}
