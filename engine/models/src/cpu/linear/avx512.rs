//! Kernels with AVX-512 and its dot products of bytes: 16 rows in a register, an activation broadcast to all of them.

use std::arch::x86_64::{
    __m128i, __m256i, __m512, __m512i, _MM_HINT_T0, _mm_prefetch, _mm_storeu_si128,
    _mm256_loadu_si256, _mm512_abs_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_castsi512_ps, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_cvtph_ps,
    _mm512_cvtps_epi32, _mm512_cvtsepi32_epi8, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_epi32,
    _mm512_reduce_max_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi16, _mm512_storeu_ps,
};

use super::activations::{Place, Quantized, write_groups};
use super::format::{BYTE_CODES, Format, NIBBLE_CODES, ROW_HALVES};
use super::kernels::{FloatStripe, GROUP_BYTES, IntegerStripe, Kernels, Sums};
use super::portable::LARGEST_MIN;
use super::{GROUP, Parts, STRIPE_ROWS};

/// How far ahead weights are fetched.
const AHEAD: usize = 2048;

const NIBBLES: u8 = 0;
const NIBBLES_WITH_MINIMUM: u8 = 1;
const BYTES: u8 = 2;
const BYTES_WITH_MINIMUM: u8 = 3;
const BYTES_IN_HALVES: u8 = 4;

const HALF: u8 = 0;
const BRAIN: u8 = 1;
const SINGLE: u8 = 2;

pub(super) fn kernels(format: Format) -> Kernels {
    match format {
        Format::Nibbles => Kernels::Integers(integers::<NIBBLES>),
        Format::NibblesWithMinimum => Kernels::Integers(integers::<NIBBLES_WITH_MINIMUM>),
        Format::Bytes => Kernels::Integers(integers::<BYTES>),
        Format::BytesWithMinimum => Kernels::Integers(integers::<BYTES_WITH_MINIMUM>),
        Format::BytesInHalves => Kernels::Integers(integers::<BYTES_IN_HALVES>),
        Format::Half => Kernels::Floats(floats::<HALF>),
        Format::Brain => Kernels::Floats(floats::<BRAIN>),
        Format::Single => Kernels::Floats(floats::<SINGLE>),
    }
}

const fn tile_bytes(format: u8) -> usize {
    match format {
        NIBBLES => Format::Nibbles.tile_bytes(),
        NIBBLES_WITH_MINIMUM => Format::NibblesWithMinimum.tile_bytes(),
        BYTES => Format::Bytes.tile_bytes(),
        BYTES_WITH_MINIMUM => Format::BytesWithMinimum.tile_bytes(),
        _ => Format::BytesInHalves.tile_bytes(),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
fn integers<const FORMAT: u8>(stripe: &IntegerStripe<'_>, sums: &mut Sums) {
    let IntegerStripe {
        tiles,
        groups,
        block,
        width,
        first,
        count,
    } = *stripe;
    assert!(
        groups * tile_bytes(FORMAT) <= tiles.len()
            && groups * width * GROUP_BYTES <= block.len()
            && first + count <= width
            && count <= sums.0.len(),
        "a stripe outside its memory"
    );
    let mut done = 0;
    while done < count {
        let sums = &mut sums.0[done..];
        // SAFETY: the stripe's parts have the lengths that are asserted above.
        done += unsafe {
            match count - done {
                16.. => tokens::<FORMAT, 16>(stripe, first + done, sums),
                8.. => tokens::<FORMAT, 8>(stripe, first + done, sums),
                4.. => tokens::<FORMAT, 4>(stripe, first + done, sums),
                2.. => tokens::<FORMAT, 2>(stripe, first + done, sums),
                _ => tokens::<FORMAT, 1>(stripe, first + done, sums),
            }
        };
    }
}

/// A group of 16 rows: codes in 8 registers of 4 columns each, and what comes behind them.
struct Tile {
    codes: [__m512i; 8],
    scale: __m512,
    /// The minimum, or the scale of the second half.
    other: __m512,
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn read_tile<const FORMAT: u8>(tile: *const u8) -> Tile {
    let is_nibbles = FORMAT == NIBBLES || FORMAT == NIBBLES_WITH_MINIMUM;
    // SAFETY: the caller promises that a tile lies here; the instructions take any alignment.
    unsafe {
        let load = |index: usize| _mm512_loadu_si512(tile.add(64 * index).cast());
        let halves =
            |start: usize| _mm512_cvtph_ps(_mm256_loadu_si256(tile.add(start).cast::<__m256i>()));
        let start = if is_nibbles { NIBBLE_CODES } else { BYTE_CODES };
        let codes = if is_nibbles {
            let mask = _mm512_set1_epi8(15);
            let pairs = [load(0), load(1), load(2), load(3)];
            let low = pairs.map(|pair| _mm512_and_si512(pair, mask));
            let high = pairs.map(|pair| _mm512_and_si512(_mm512_srli_epi16::<4>(pair), mask));
            [
                low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3],
            ]
        } else {
            [
                load(0),
                load(1),
                load(2),
                load(3),
                load(4),
                load(5),
                load(6),
                load(7),
            ]
        };
        let scale = halves(start);
        let other = match FORMAT {
            NIBBLES => _mm512_mul_ps(scale, _mm512_set1_ps(-8.0)),
            BYTES => _mm512_setzero_ps(),
            _ => halves(start + ROW_HALVES),
        };
        Tile {
            codes,
            scale,
            other,
        }
    }
}

/// Multiplies a stripe with `T` tokens of a block, from `first` on.
///
/// # Safety
/// The stripe's parts are as long as its numbers say.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn tokens<const FORMAT: u8, const T: usize>(
    stripe: &IntegerStripe<'_>,
    first: usize,
    sums: &mut [[f32; STRIPE_ROWS]],
) -> usize {
    let mut results = [_mm512_setzero_ps(); T];
    let (mut tile, mut block) = (stripe.tiles.as_ptr(), stripe.block.as_ptr());
    let width = stripe.width;
    for _ in 0..stripe.groups {
        // SAFETY: the loop stays inside the tiles and the block; fetching ahead reads nothing.
        unsafe {
            for line in 0..tile_bytes(FORMAT).div_ceil(64) {
                _mm_prefetch::<_MM_HINT_T0>(tile.wrapping_add(AHEAD + 64 * line).cast());
            }
            let Tile {
                codes,
                scale,
                other,
            } = read_tile::<FORMAT>(tile);
            let values = block.add(first * GROUP).cast::<i32>();
            let numbers = block.add(width * GROUP + 4 * first);
            let scales = numbers.cast::<f32>();
            let scaled_sums = numbers.add(4 * width).cast::<f32>();
            let low_offsets = numbers.add(8 * width).cast::<i32>();
            let high_offsets = numbers.add(12 * width).cast::<i32>();
            for (token, result) in results.iter_mut().enumerate() {
                let value = |index: usize| {
                    _mm512_set1_epi32(values.add(8 * token + index).read_unaligned())
                };
                let is_nibbles = FORMAT == NIBBLES || FORMAT == NIBBLES_WITH_MINIMUM;
                let (mut low, mut high) = if is_nibbles {
                    (_mm512_setzero_si512(), _mm512_setzero_si512())
                } else {
                    (
                        _mm512_set1_epi32(low_offsets.add(token).read_unaligned()),
                        _mm512_set1_epi32(high_offsets.add(token).read_unaligned()),
                    )
                };
                for index in 0..4 {
                    low = _mm512_dpbusd_epi32(low, codes[index], value(index));
                    high = _mm512_dpbusd_epi32(high, codes[4 + index], value(4 + index));
                }
                let token_scale = _mm512_set1_ps(scales.add(token).read_unaligned());
                let factor = _mm512_mul_ps(scale, token_scale);
                if FORMAT == BYTES_IN_HALVES {
                    *result = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), factor, *result);
                    let factor = _mm512_mul_ps(other, token_scale);
                    *result = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), factor, *result);
                } else {
                    let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(low, high));
                    *result = _mm512_fmadd_ps(dot, factor, *result);
                    if FORMAT != BYTES {
                        let sum = _mm512_set1_ps(scaled_sums.add(token).read_unaligned());
                        *result = _mm512_fmadd_ps(other, sum, *result);
                    }
                }
            }
            tile = tile.add(tile_bytes(FORMAT));
            block = block.add(width * GROUP_BYTES);
        }
    }
    for (result, sums) in results.iter().zip(sums) {
        // SAFETY: a row of results is 16 floats.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *result) };
    }
    T
}

const fn float_bytes(format: u8) -> usize {
    match format {
        HALF | BRAIN => 2,
        _ => 4,
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
fn floats<const FORMAT: u8>(stripe: &FloatStripe<'_>, sums: &mut Sums) {
    let FloatStripe {
        tiles,
        groups,
        input,
        count,
    } = *stripe;
    assert!(
        groups * GROUP * STRIPE_ROWS * float_bytes(FORMAT) <= tiles.len()
            && count * groups * GROUP <= input.len()
            && count <= sums.0.len(),
        "a stripe outside its memory"
    );
    let mut done = 0;
    while done < count {
        let sums = &mut sums.0[done..];
        // SAFETY: the stripe's parts have the lengths that are asserted above.
        done += unsafe {
            match count - done {
                8.. => float_tokens::<FORMAT, 8>(stripe, done, sums),
                4.. => float_tokens::<FORMAT, 4>(stripe, done, sums),
                2.. => float_tokens::<FORMAT, 2>(stripe, done, sums),
                _ => float_tokens::<FORMAT, 1>(stripe, done, sums),
            }
        };
    }
}

/// Multiplies a stripe of floats with `T` tokens, from `first` on.
///
/// # Safety
/// The stripe's parts are as long as its numbers say.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn float_tokens<const FORMAT: u8, const T: usize>(
    stripe: &FloatStripe<'_>,
    first: usize,
    sums: &mut [[f32; STRIPE_ROWS]],
) -> usize {
    let columns = stripe.groups * GROUP;
    let column_bytes = STRIPE_ROWS * float_bytes(FORMAT);
    let mut results = [[_mm512_setzero_ps(); 2]; T];
    let mut weights = stripe.tiles.as_ptr();
    for column in (0..columns).step_by(2) {
        // SAFETY: the loop stays inside the tiles and the vectors; fetching ahead reads nothing.
        unsafe {
            for line in 0..2 * column_bytes / 64 {
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + 64 * line).cast());
            }
            for side in 0..2 {
                let place = weights.add(side * column_bytes);
                let half = || _mm256_loadu_si256(place.cast::<__m256i>());
                let weight = match FORMAT {
                    HALF => _mm512_cvtph_ps(half()),
                    BRAIN => {
                        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half())))
                    }
                    _ => _mm512_loadu_ps(place.cast()),
                };
                for (token, results) in results.iter_mut().enumerate() {
                    let value = stripe
                        .input
                        .as_ptr()
                        .add((first + token) * columns + column + side);
                    results[side] = _mm512_fmadd_ps(weight, _mm512_set1_ps(*value), results[side]);
                }
            }
            weights = weights.add(2 * column_bytes);
        }
    }
    for (result, sums) in results.iter().zip(sums) {
        // SAFETY: a row of results is 16 floats.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_add_ps(result[0], result[1])) };
    }
    T
}

/// Quantizes groups and writes them to their places.
///
/// # Safety
/// The groups' places are written by this call alone.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
pub(super) unsafe fn quantize(groups: &[[f32; GROUP]], integers: &Parts<'_, u8>, place: Place) {
    // SAFETY: the caller promises that nobody else writes to these places.
    unsafe { write_groups(groups, integers, place, |group| quantize_group(group)) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
fn quantize_group(values: &[f32; GROUP]) -> Quantized {
    let mut quantized = Quantized::default();
    // SAFETY: both halves of the group and of the codes are inside them.
    unsafe {
        let halves = [
            _mm512_loadu_ps(values.as_ptr()),
            _mm512_loadu_ps(values.as_ptr().add(STRIPE_ROWS)),
        ];
        let largest = _mm512_max_ps(_mm512_abs_ps(halves[0]), _mm512_abs_ps(halves[1]));
        let largest = _mm512_reduce_max_ps(largest);
        if LARGEST_MIN <= largest {
            quantized.scale = largest / 127.0;
            let inverse = _mm512_set1_ps(127.0 / largest);
            for (index, half) in halves.into_iter().enumerate() {
                let codes = _mm512_cvtps_epi32(_mm512_mul_ps(half, inverse));
                let place = quantized.codes.as_mut_ptr().add(STRIPE_ROWS * index);
                _mm_storeu_si128(place.cast::<__m128i>(), _mm512_cvtsepi32_epi8(codes));
                quantized.sums[index] = _mm512_reduce_add_epi32(codes);
            }
        }
    }
    quantized
}
