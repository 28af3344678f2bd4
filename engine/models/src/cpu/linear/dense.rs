//! Products of rows that stay in the file: decoded a few at a time and multiplied as floats.
//!
//! A dot product has 16 partial sums that are added in one fixed order, so it does not depend on how many rows or
//! tokens are computed beside it.

use std::ops::Range;

use crate::quant::dequantize;
use crate::weights::Matrix;

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{Activations, GROUP, Level};

pub(super) const LANES: usize = 16;
/// Weight rows that are decoded together; 8 rows of a small model fit the first-level cache.
const TILE_ROWS: usize = 8;

/// How many numbers of scratch memory a product needs.
pub(super) const fn scratch_length(columns: usize) -> usize {
    TILE_ROWS * columns
}

/// Computes some rows for some tokens and hands out each result: the row, the token, the sum.
pub(super) fn multiply(
    level: Level,
    matrix: &Matrix,
    input: &Activations,
    chunk: (Range<usize>, Range<usize>),
    scratch: &mut [f32],
    mut finish: impl FnMut(usize, usize, &mut [f32]),
) {
    let (rows, tokens) = chunk;
    let (columns, stride) = (matrix.columns(), input.groups() * GROUP);
    let vectors = input.float_vectors(tokens.clone());
    let product = Decoded {
        columns,
        stride,
        vectors,
        tokens: tokens.len(),
    };
    let mut first = rows.start;
    while first < rows.end {
        let count = TILE_ROWS.min(rows.end - first);
        let tile = &mut scratch[..count * columns];
        let mut store = |row: usize, token: usize, sum: f32| {
            finish(first + row, tokens.start + token, &mut [sum]);
        };
        let bytes = matrix.row_bytes(first..first + count);
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni | Level::Avx512 => {
                // SAFETY: these levels are only made where the processor has AVX2 and FMA.
                unsafe {
                    avx2::dequantize_tile(matrix.kind(), bytes, tile);
                    avx2::multiply_decoded(&product, tile, &mut store);
                }
            }
            Level::Portable => {
                dequantize(matrix.kind(), bytes, tile);
                product.multiply::<Portable>(tile, &mut store);
            }
            #[cfg(target_arch = "aarch64")]
            Level::Neon => {
                dequantize(matrix.kind(), bytes, tile);
                product.multiply::<Portable>(tile, &mut store);
            }
        }
        first += count;
    }
}

/// How dot products are computed; each implementation adds in the same order whatever R and T are.
pub(super) trait Dots {
    /// Dot products of R vectors with T vectors, all of the same length.
    fn dots<const R: usize, const T: usize>(
        rows: [&[f32]; R],
        tokens: [&[f32]; T],
    ) -> [[f32; T]; R];
}

/// Vectors to multiply with decoded rows.
pub(super) struct Decoded<'a> {
    columns: usize,
    stride: usize,
    vectors: &'a [f32],
    tokens: usize,
}

impl Decoded<'_> {
    /// Multiplies a tile of rows with all vectors, in blocks that keep the registers busy.
    #[inline(always)]
    pub(super) fn multiply<D: Dots>(
        &self,
        tile: &[f32],
        store: &mut impl FnMut(usize, usize, f32),
    ) {
        let (columns, count) = (self.columns, tile.len() / self.columns.max(1));
        let weight = |row: usize| &tile[row * columns..(row + 1) * columns];
        let input = |token: usize| &self.vectors[token * self.stride..][..columns];
        let mut token = 0;
        while token + 2 <= self.tokens {
            let inputs = [input(token), input(token + 1)];
            let mut row = 0;
            while row + 2 <= count {
                let sums = D::dots([weight(row), weight(row + 1)], inputs);
                store_all(&sums, row, token, store);
                row += 2;
            }
            if row < count {
                store_all(&D::dots([weight(row)], inputs), row, token, store);
            }
            token += 2;
        }
        for token in token..self.tokens {
            let mut row = 0;
            while row + 4 <= count {
                let weights = [
                    weight(row),
                    weight(row + 1),
                    weight(row + 2),
                    weight(row + 3),
                ];
                store_all(&D::dots(weights, [input(token)]), row, token, store);
                row += 4;
            }
            for row in row..count {
                store_all(&D::dots([weight(row)], [input(token)]), row, token, store);
            }
        }
    }
}

#[inline(always)]
fn store_all<const R: usize, const T: usize>(
    sums: &[[f32; T]; R],
    first_row: usize,
    first_token: usize,
    store: &mut impl FnMut(usize, usize, f32),
) {
    for (row, sums) in sums.iter().enumerate() {
        for (token, sum) in sums.iter().enumerate() {
            store(first_row + row, first_token + token, *sum);
        }
    }
}

/// What every processor can.
struct Portable;

impl Dots for Portable {
    #[inline(always)]
    fn dots<const R: usize, const T: usize>(
        rows: [&[f32]; R],
        tokens: [&[f32]; T],
    ) -> [[f32; T]; R] {
        rows.map(|row| tokens.map(|token| portable_dot(row, token)))
    }
}

#[inline(always)]
fn portable_dot(left: &[f32], right: &[f32]) -> f32 {
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest = left_rest
        .iter()
        .zip(right_rest)
        .fold(0.0, |sum, (left, right)| sum + left * right);
    add_lanes(sums) + rest
}

/// Adds the partial sums, halving their number each time.
#[inline(always)]
pub(super) fn add_lanes(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while 0 < half {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}
