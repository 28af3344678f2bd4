//! Dot products of floats with AVX2 and FMA.

use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
};

use crate::quant::{TensorKind, dequantize};

use super::super::dense::{Decoded, Dots, LANES, add_lanes};

const WIDTH: usize = 8;

#[target_feature(enable = "avx2,fma")]
pub(in super::super) fn dequantize_tile(kind: TensorKind, bytes: &[u8], tile: &mut [f32]) {
    dequantize(kind, bytes, tile);
}

#[target_feature(enable = "avx2,fma")]
pub(in super::super) fn multiply_decoded(
    product: &Decoded<'_>,
    tile: &[f32],
    store: &mut impl FnMut(usize, usize, f32),
) {
    product.multiply::<Avx2>(tile, store);
}

/// AVX2 and FMA; only used inside functions that are compiled for them.
struct Avx2;

impl Dots for Avx2 {
    #[inline(always)]
    fn dots<const R: usize, const T: usize>(
        rows: [&[f32]; R],
        tokens: [&[f32]; T],
    ) -> [[f32; T]; R] {
        // SAFETY: this type is private to the module, and each function that uses it has the same features.
        unsafe { dots(rows, tokens) }
    }
}

/// Sixteen partial sums a dot product, in two registers, whatever R and T are.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn dots<const R: usize, const T: usize>(rows: [&[f32]; R], tokens: [&[f32]; T]) -> [[f32; T]; R] {
    let length = rows[0].len();
    assert!(
        rows.iter()
            .chain(&tokens)
            .all(|vector| vector.len() == length),
        "vectors of different lengths"
    );
    let mut partial = [[[_mm256_setzero_ps(); 2]; T]; R];
    let mut place = 0;
    while place + LANES <= length {
        for half in 0..2 {
            let at = place + half * WIDTH;
            // SAFETY: at + 8 is at most the length that all vectors have; the instruction takes any alignment.
            let inputs = tokens.map(|token| unsafe { _mm256_loadu_ps(token.as_ptr().add(at)) });
            for (row, partial) in rows.iter().zip(&mut partial) {
                // SAFETY: as above.
                let weights = unsafe { _mm256_loadu_ps(row.as_ptr().add(at)) };
                for (input, partial) in inputs.iter().zip(partial) {
                    partial[half] = _mm256_fmadd_ps(weights, *input, partial[half]);
                }
            }
        }
        place += LANES;
    }
    let mut sums = [[0.0; T]; R];
    for (row, sums) in sums.iter_mut().enumerate() {
        for (token, sum) in sums.iter_mut().enumerate() {
            let rest = rows[row][place..].iter().zip(&tokens[token][place..]);
            let rest = rest.fold(0.0, |sum: f32, (left, right)| left.mul_add(*right, sum));
            *sum = add_halves(partial[row][token]) + rest;
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_halves(halves: [__m256; 2]) -> f32 {
    let mut lanes = [0.0; LANES];
    // SAFETY: the eight lower lanes are inside the array. The upper ones stay zero, so the first halving changes
    // nothing.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(halves[0], halves[1])) };
    add_lanes(lanes)
}
