//! Inner loops: products of weight rows and activations, norms, activations, weighted sums.
//!
//! Each function is written once and compiled twice: as it is, and with AVX2 and FMA where the processor has them.
//! A dot product has 16 partial sums that are added in one fixed order, so it does not depend on how many rows
//! or tokens are computed beside it.
#![expect(
    unsafe_code,
    reason = "calling functions compiled for wider instructions"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::ops::Range;

use crate::quant::dequantize;
use crate::weights::Matrix;

use super::parallel::{Parts, ThreadScratch};

const LANES: usize = 16;
/// Weight rows that are decoded together; 8 rows of a small model fit the first-level cache.
const TILE_ROWS: usize = 8;

/// The instructions to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// What every processor of the target has.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Level {
    /// The best level that this processor has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self::Avx2;
        }
        Self::Portable
    }
}

/// The product of some rows of a matrix with the activations of some tokens.
pub(crate) struct Product<'a> {
    pub(crate) matrix: &'a Matrix,
    pub(crate) bias: Option<&'a [f32]>,
    /// Activations, a vector a token.
    pub(crate) input: &'a [f32],
    pub(crate) tokens: usize,
    /// Results, a vector with a number for each row of the matrix a token.
    pub(crate) output: &'a Parts<'a, f32>,
}

/// Computes some rows of a product. No other chunk computes these rows.
pub(crate) fn multiply(
    level: Level,
    product: &Product<'_>,
    rows: Range<usize>,
    scratch: &mut ThreadScratch,
) {
    match level {
        Level::Portable => multiply_body::<Portable>(product, rows, scratch),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level is only made where the processor has AVX2 and FMA.
        Level::Avx2 => unsafe { avx2::multiply(product, rows, scratch) },
    }
}

/// Vectors that [`dot_each`] and [`add_scaled`] take at a time.
pub(crate) const VECTORS: usize = 4;

/// The dot product of a vector with each of some vectors of equal length.
pub(crate) fn dot_each(level: Level, vector: &[f32], others: [&[f32]; VECTORS]) -> [f32; VECTORS] {
    let sums = match level {
        Level::Portable => Portable::dots(others, [vector]),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level is only made where the processor has AVX2 and FMA.
        Level::Avx2 => unsafe { avx2::dot_each(vector, others) },
    };
    sums.map(|[sum]| sum)
}

/// Adds `factors[i] · vectors[i]` to `sums`, one after the other.
pub(crate) fn add_scaled(
    level: Level,
    sums: &mut [f32],
    factors: [f32; VECTORS],
    vectors: [&[f32]; VECTORS],
) {
    match level {
        Level::Portable => {
            for (factor, vector) in factors.iter().zip(vectors) {
                for (sum, value) in sums.iter_mut().zip(vector) {
                    *sum += factor * value;
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level is only made where the processor has AVX2 and FMA.
        Level::Avx2 => unsafe { avx2::add_scaled(sums, factors, vectors) },
    }
}

/// How dot products and weighted sums are computed; each implementation adds in the same order.
trait Arithmetic {
    /// Dot products of R vectors with T vectors, all of the same length.
    fn dots<const R: usize, const T: usize>(
        rows: [&[f32]; R],
        tokens: [&[f32]; T],
    ) -> [[f32; T]; R];
}

/// Decodes a tile of rows and multiplies it with all tokens, in blocks that keep the registers busy.
#[inline(always)]
fn multiply_body<A: Arithmetic>(
    product: &Product<'_>,
    rows: Range<usize>,
    scratch: &mut ThreadScratch,
) {
    let (columns, width) = (product.matrix.columns(), product.matrix.rows());
    scratch.resize(scratch.len().max(TILE_ROWS * columns), 0.0);
    let mut first = rows.start;
    while first < rows.end {
        let count = TILE_ROWS.min(rows.end - first);
        let tile = &mut scratch[..count * columns];
        dequantize(
            product.matrix.kind(),
            product.matrix.row_bytes(first..first + count),
            tile,
        );
        let weight = |row: usize| &tile[row * columns..(row + 1) * columns];
        let input = |token: usize| &product.input[token * columns..(token + 1) * columns];
        let store = |row: usize, token: usize, sum: f32| {
            let place = token * width + first + row;
            let bias = product.bias.map_or(0.0, |bias| bias[first + row]);
            // SAFETY: rows belong to one chunk each, so this number is written by this chunk alone.
            let part = unsafe { product.output.part(place..place + 1) };
            part[0] = sum + bias;
        };
        let mut token = 0;
        while token + 2 <= product.tokens {
            let inputs = [input(token), input(token + 1)];
            let mut row = 0;
            while row + 2 <= count {
                store_all(
                    &A::dots([weight(row), weight(row + 1)], inputs),
                    row,
                    token,
                    store,
                );
                row += 2;
            }
            if row < count {
                store_all(&A::dots([weight(row)], inputs), row, token, store);
            }
            token += 2;
        }
        for token in token..product.tokens {
            let mut row = 0;
            while row + 4 <= count {
                let weights = [
                    weight(row),
                    weight(row + 1),
                    weight(row + 2),
                    weight(row + 3),
                ];
                store_all(&A::dots(weights, [input(token)]), row, token, store);
                row += 4;
            }
            for row in row..count {
                store_all(&A::dots([weight(row)], [input(token)]), row, token, store);
            }
        }
        first += count;
    }
}

#[inline(always)]
fn store_all<const R: usize, const T: usize>(
    sums: &[[f32; T]; R],
    first_row: usize,
    first_token: usize,
    store: impl Fn(usize, usize, f32),
) {
    for (row, sums) in sums.iter().enumerate() {
        for (token, sum) in sums.iter().enumerate() {
            store(first_row + row, first_token + token, *sum);
        }
    }
}

/// What every processor can.
struct Portable;

impl Arithmetic for Portable {
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
fn add_lanes(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while 0 < half {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Divides a vector by its root mean square and multiplies it with `weight`.
pub(crate) fn normalize(input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
    let scale = inverse_root_mean_square(input, epsilon);
    for ((output, input), weight) in output.iter_mut().zip(input).zip(weight) {
        *output = input * scale * weight;
    }
}

/// As [`normalize`], in place.
pub(crate) fn normalize_in_place(values: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = inverse_root_mean_square(values, epsilon);
    for (value, weight) in values.iter_mut().zip(weight) {
        *value = *value * scale * weight;
    }
}

fn inverse_root_mean_square(values: &[f32], epsilon: f32) -> f32 {
    let squares: f64 = values
        .iter()
        .map(|value| f64::from(*value) * f64::from(*value))
        .sum();
    let mean = (squares / values.len() as f64) as f32;
    1.0 / (mean + epsilon).sqrt()
}

/// x·sigmoid(x).
pub(crate) fn silu(value: f32) -> f32 {
    value / (1.0 + (-value).exp())
}

/// The tanh approximation of x·Φ(x).
pub(crate) fn gelu(value: f32) -> f32 {
    const ROOT_OF_TWO_OVER_PI: f32 = 0.797_884_6;
    let inner = ROOT_OF_TWO_OVER_PI * (value + 0.044_715 * value * value * value);
    0.5 * value * (1.0 + inner.tanh())
}
