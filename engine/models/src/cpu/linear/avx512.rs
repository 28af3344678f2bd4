//! Kernels with AVX-512 and its dot products of bytes: 16 rows in a register, an activation broadcast to all of them.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _MM_HINT_T0, _mm_cvtss_i32, _mm_prefetch, _mm_set_ss,
    _mm256_loadu_si256, _mm256_sad_epu8, _mm256_set_m128i, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_xor_si256, _mm512_abs_ps, _mm512_add_epi32, _mm512_add_ps,
    _mm512_and_si512, _mm512_castsi512_ps, _mm512_cmpeq_ps_mask, _mm512_cvtepi32_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_cvtps_epi32, _mm512_cvtss_f32,
    _mm512_dpbusd_epi32, _mm512_dpwssd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_maskz_cvtsepi32_epi8, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_permute_ps,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_f32x4, _mm512_slli_epi32, _mm512_srli_epi16, _mm512_srlv_epi32,
    _mm512_storeu_ps,
};

use super::activations::{Place, Quantized, write_groups};
use super::format::{
    BRAIN, BYTE_CODES, BYTES, BYTES_IN_HALVES, BYTES_WITH_MINIMUM, Format, HALF, NIBBLE_CODES,
    NIBBLES, NIBBLES_WITH_MINIMUM, ROW_HALVES, SINGLE, float_bytes, is_nibbles, tile_bytes,
};
use super::kernels::{
    FloatStripe, GROUP_BYTES, IntegerStripes, Kernels, Number, Sums, wide_line, wide_mask,
    wide_shift,
};
use super::portable::reach;
use super::{BLOCK_TOKENS, GROUP, Parts, STRIPE_ROWS};

/// How far ahead weights are fetched.
const AHEAD: usize = 8192;

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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
fn integers<const FORMAT: u8>(stripes: &IntegerStripes<'_>, sums: &mut [Sums]) {
    stripes.check(tile_bytes(FORMAT), sums);
    // SAFETY: the stripes' parts have the lengths that are checked above, and there are as many sums as stripes.
    unsafe {
        match sums {
            [] => {}
            [one] => all_tokens::<FORMAT, 1>(stripes, [one]),
            [one, two, ..] => all_tokens::<FORMAT, 2>(stripes, [one, two]),
        }
    }
}

/// Multiplies `S` stripes with all tokens.
///
/// # Safety
/// The stripes' parts are as long as their numbers say.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn all_tokens<const FORMAT: u8, const S: usize>(
    stripes: &IntegerStripes<'_>,
    sums: [&mut Sums; S],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match stripes.count {
            // Known counts have their results in registers.
            1 => tokens::<FORMAT, S, 1>(stripes, sums),
            2 => tokens::<FORMAT, S, 2>(stripes, sums),
            4 => tokens::<FORMAT, S, 4>(stripes, sums),
            _ => tokens::<FORMAT, S, BLOCK_TOKENS>(stripes, sums),
        }
    }
}

/// A group of 16 rows: codes in 8 registers of 4 columns each, and what comes behind them.
#[derive(Clone, Copy)]
struct Tile {
    codes: [__m512i; 8],
    scale: __m512,
    /// The minimum, or the scale of the second half.
    other: __m512,
}

impl Tile {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
    fn zero() -> Self {
        Self {
            codes: [_mm512_setzero_si512(); 8],
            scale: _mm512_setzero_ps(),
            other: _mm512_setzero_ps(),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn read_tile<const FORMAT: u8>(tile: *const u8) -> Tile {
    let is_nibbles = is_nibbles(FORMAT);
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

/// As [`all_tokens`] for `T` tokens, or for as many as there are if `T` is a block.
///
/// # Safety
/// As above.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn tokens<const FORMAT: u8, const S: usize, const T: usize>(
    stripes: &IntegerStripes<'_>,
    mut sums: [&mut Sums; S],
) {
    let count = if T == BLOCK_TOKENS { stripes.count } else { T };
    let mut results = [[_mm512_setzero_ps(); S]; T];
    let (mut start, mut block) = (stripes.tiles.as_ptr(), stripes.block.as_ptr());
    let (width, first) = (stripes.width, stripes.first);
    for _ in 0..stripes.groups {
        // SAFETY: the loop stays inside the tiles and the block; fetching ahead reads nothing.
        unsafe {
            let mut places = [start; S];
            let mut tiles = [Tile::zero(); S];
            for (stripe, (place, tile)) in places.iter_mut().zip(&mut tiles).enumerate() {
                *place = start.add(stripe * tile_bytes(FORMAT));
                for line in 0..tile_bytes(FORMAT).div_ceil(64) {
                    _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(AHEAD + 64 * line).cast());
                }
                *tile = read_tile::<FORMAT>(*place);
            }
            for (token, results) in results[..count].iter_mut().enumerate() {
                let token = Token {
                    codes: block.add((first + token) * GROUP).cast(),
                    numbers: block.add(Number::Scale.place(width, first + token)),
                    width,
                };
                add_group::<FORMAT, S>(&tiles, &places, &token, results);
            }
            start = start.add(S * tile_bytes(FORMAT));
            block = block.add(width * GROUP_BYTES);
        }
    }
    for (token, results) in results[..count].iter().enumerate() {
        for (result, sums) in results.iter().zip(&mut sums) {
            // SAFETY: a row of results is 16 floats.
            unsafe { _mm512_storeu_ps(sums.0[token].as_mut_ptr(), *result) };
        }
    }
}

/// A token's group in a block of activations.
struct Token {
    codes: *const i32,
    numbers: *const u8,
    width: usize,
}

impl Token {
    #[inline(always)]
    unsafe fn number(&self, number: Number) -> i32 {
        // SAFETY: the caller promises that a token's numbers lie here.
        unsafe {
            let place = self.numbers.add(4 * number as usize * self.width);
            place.cast::<i32>().read_unaligned()
        }
    }

    #[inline(always)]
    unsafe fn float(&self, number: Number) -> f32 {
        // SAFETY: as above.
        f32::from_bits(unsafe { self.number(number) }.cast_unsigned())
    }
}

/// Adds the products of a group of `S` stripes with a token's activations to its results.
///
/// # Safety
/// Tiles lie in the places, and a token's group is where the token says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
unsafe fn add_group<const FORMAT: u8, const S: usize>(
    tiles: &[Tile; S],
    places: &[*const u8; S],
    token: &Token,
    results: &mut [__m512; S],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut dots = [[_mm512_setzero_si512(); 2]; S];
        if !is_nibbles(FORMAT) {
            let low = _mm512_set1_epi32(token.number(Number::LowOffset));
            let high = _mm512_set1_epi32(token.number(Number::HighOffset));
            dots = [[low, high]; S];
        }
        for index in 0..8 {
            let value = _mm512_set1_epi32(token.codes.add(index).read_unaligned());
            for (tile, dots) in tiles.iter().zip(&mut dots) {
                let dot = &mut dots[index / 4];
                *dot = _mm512_dpbusd_epi32(*dot, tile.codes[index], value);
            }
        }
        let column = token.number(Number::WideColumn) as usize % GROUP;
        let wide = token.number(Number::Wide);
        // Where both halves have a scale of their own, the wide integer belongs to one of them.
        let is_high = -((column / (GROUP / 2)) as i32);
        let sides = [
            _mm512_set1_epi32(wide & !is_high),
            _mm512_set1_epi32(wide & is_high),
        ];
        let wide = _mm512_set1_epi32(wide);
        let shift = _mm512_set1_epi32(wide_shift(is_nibbles(FORMAT), column));
        let token_scale = _mm512_set1_ps(token.float(Number::Scale));
        for (stripe, result) in results.iter_mut().enumerate() {
            let [low, high] = dots[stripe];
            let Tile { scale, other, .. } = tiles[stripe];
            let place = places[stripe].add(wide_line(is_nibbles(FORMAT), column));
            let line = _mm512_srlv_epi32(_mm512_loadu_si512(place.cast()), shift);
            let code = _mm512_and_si512(line, _mm512_set1_epi32(wide_mask(is_nibbles(FORMAT))));
            let factor = _mm512_mul_ps(scale, token_scale);
            if FORMAT == BYTES_IN_HALVES {
                let low = _mm512_cvtepi32_ps(_mm512_dpwssd_epi32(low, code, sides[0]));
                *result = _mm512_fmadd_ps(low, factor, *result);
                let high = _mm512_cvtepi32_ps(_mm512_dpwssd_epi32(high, code, sides[1]));
                *result = _mm512_fmadd_ps(high, _mm512_mul_ps(other, token_scale), *result);
                continue;
            }
            let dot = _mm512_add_epi32(_mm512_dpwssd_epi32(low, code, wide), high);
            *result = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), factor, *result);
            if FORMAT != BYTES {
                let sum = _mm512_set1_ps(token.float(Number::ScaledSum));
                *result = _mm512_fmadd_ps(other, sum, *result);
            }
        }
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
    // SAFETY: both halves of the group and of the codes are inside them.
    unsafe {
        let halves = [
            _mm512_loadu_ps(values.as_ptr()),
            _mm512_loadu_ps(values.as_ptr().add(STRIPE_ROWS)),
        ];
        let sizes = [_mm512_abs_ps(halves[0]), _mm512_abs_ps(halves[1])];
        let (peak, second) = two_largest(sizes);
        let peaks = u32::from(_mm512_cmpeq_ps_mask(sizes[0], peak))
            | u32::from(_mm512_cmpeq_ps_mask(sizes[1], peak)) << 16;
        let wide_column = peaks.trailing_zeros() % GROUP as u32;
        let others = !(1_u32 << wide_column);
        let keep = [others as u16, (others >> 16) as u16];
        let (largest, second) = (_mm512_cvtss_f32(peak), _mm512_cvtss_f32(second));
        let Some(reach) = reach(largest, second) else {
            return Quantized::default();
        };
        let inverse = 127.0 / reach;
        let factor = _mm512_set1_ps(inverse);
        let wide = _mm_cvtss_i32(_mm_set_ss(values[wide_column as usize] * inverse));
        let low = _mm512_cvtps_epi32(_mm512_mul_ps(halves[0], factor));
        let high = _mm512_cvtps_epi32(_mm512_mul_ps(halves[1], factor));
        let codes = _mm256_set_m128i(
            _mm512_maskz_cvtsepi32_epi8(keep[1], high),
            _mm512_maskz_cvtsepi32_epi8(keep[0], low),
        );
        // Sums of bytes are sums of unsigned ones: each is 128 more than what it stands for.
        let offset = _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN));
        let quarters = _mm256_sad_epu8(offset, _mm256_setzero_si256());
        let mut lanes = [0_u64; 4];
        _mm256_storeu_si256(lanes.as_mut_ptr().cast::<__m256i>(), quarters);
        let half = (GROUP / 2) as i32;
        let sum = |half_sum: u64| half_sum as i32 - 128 * half;
        let mut sums = [sum(lanes[0] + lanes[1]), sum(lanes[2] + lanes[3])];
        sums[wide_column as usize / (GROUP / 2)] += wide;
        let mut quantized = Quantized {
            codes: [0; GROUP],
            scale: reach * (1.0 / 127.0),
            sums,
            wide_column,
            wide: wide as i16,
        };
        _mm256_storeu_si256(quantized.codes.as_mut_ptr().cast::<__m256i>(), codes);
        quantized
    }
}

/// The largest number and the second largest one, which may be equal, in all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c")]
fn two_largest([left, right]: [__m512; 2]) -> (__m512, __m512) {
    let mut largest = _mm512_max_ps(left, right);
    let mut second = _mm512_min_ps(left, right);
    macro_rules! halve {
        ($shuffle:expr) => {
            let (other_largest, other_second) = ($shuffle(largest), $shuffle(second));
            let smaller = _mm512_min_ps(largest, other_largest);
            second = _mm512_max_ps(smaller, _mm512_max_ps(second, other_second));
            largest = _mm512_max_ps(largest, other_largest);
        };
    }
    halve!(|vector| _mm512_shuffle_f32x4::<0b01_00_11_10>(vector, vector));
    halve!(|vector| _mm512_shuffle_f32x4::<0b10_11_00_01>(vector, vector));
    halve!(|vector| _mm512_permute_ps::<0b01_00_11_10>(vector));
    halve!(|vector| _mm512_permute_ps::<0b10_11_00_01>(vector));
    (largest, second)
}
