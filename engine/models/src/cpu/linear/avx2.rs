//! Kernels with AVX2: half of a stripe's rows in a register, an activation broadcast to all of them; with AVX-VNNI, where
//! the processor has it, for dot products of bytes.

mod dense;

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_EQ_OQ, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch,
    _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps,
    _mm256_and_si256, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepi32_ps,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_dpbusd_avx_epi32,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_max_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_packs_epi16, _mm256_packs_epi32,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8,
    _mm256_slli_epi32, _mm256_srli_epi16, _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_sub_epi32, _mm256_xor_si256,
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
use super::{GROUP, Parts, STRIPE_ROWS};

pub(super) use dense::{dequantize_tile, multiply_decoded};

const WIDTH: usize = 8;
/// How far ahead weights are fetched.
const AHEAD: usize = 2048;

/// Kernels for processors with AVX2, FMA and F16C.
pub(super) fn kernels(format: Format) -> Kernels {
    match format {
        Format::Nibbles => Kernels::Integers(plain::<NIBBLES>),
        Format::NibblesWithMinimum => Kernels::Integers(plain::<NIBBLES_WITH_MINIMUM>),
        Format::Bytes => Kernels::Integers(plain::<BYTES>),
        Format::BytesWithMinimum => Kernels::Integers(plain::<BYTES_WITH_MINIMUM>),
        Format::BytesInHalves => Kernels::Integers(plain::<BYTES_IN_HALVES>),
        Format::Half => Kernels::Floats(floats::<HALF>),
        Format::Brain => Kernels::Floats(floats::<BRAIN>),
        Format::Single => Kernels::Floats(floats::<SINGLE>),
    }
}

/// Kernels for processors that have AVX-VNNI besides.
pub(super) fn vnni_kernels(format: Format) -> Kernels {
    match format {
        Format::Nibbles => Kernels::Integers(vnni::<NIBBLES>),
        Format::NibblesWithMinimum => Kernels::Integers(vnni::<NIBBLES_WITH_MINIMUM>),
        Format::Bytes => Kernels::Integers(vnni::<BYTES>),
        Format::BytesWithMinimum => Kernels::Integers(vnni::<BYTES_WITH_MINIMUM>),
        Format::BytesInHalves => Kernels::Integers(vnni::<BYTES_IN_HALVES>),
        Format::Half | Format::Brain | Format::Single => kernels(format),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn plain<const FORMAT: u8>(stripes: &IntegerStripes<'_>, sums: &mut [Sums]) {
    // SAFETY: this function is compiled for AVX2.
    unsafe { integers::<false, FORMAT>(stripes, sums) };
}

#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn vnni<const FORMAT: u8>(stripes: &IntegerStripes<'_>, sums: &mut [Sums]) {
    // SAFETY: this function is compiled for AVX2 and AVX-VNNI.
    unsafe { integers::<true, FORMAT>(stripes, sums) };
}

/// # Safety
/// The caller is compiled for AVX2, FMA and F16C, and with `VNNI` for AVX-VNNI.
#[inline(always)]
unsafe fn integers<const VNNI: bool, const FORMAT: u8>(
    stripes: &IntegerStripes<'_>,
    sums: &mut [Sums],
) {
    stripes.check(tile_bytes(FORMAT), sums);
    let step = sums.len() * tile_bytes(FORMAT);
    for (stripe, sums) in sums.iter_mut().enumerate() {
        let tiles = (stripe * tile_bytes(FORMAT), step);
        let (mut done, count) = (0, stripes.count);
        while done < count {
            // SAFETY: the stripes' parts have the lengths that are checked above; the instructions are the caller's.
            done += unsafe {
                match count - done {
                    4.. => tokens::<VNNI, FORMAT, 4>(stripes, tiles, done, sums),
                    2.. => tokens::<VNNI, FORMAT, 2>(stripes, tiles, done, sums),
                    _ => tokens::<VNNI, FORMAT, 1>(stripes, tiles, done, sums),
                }
            };
        }
    }
}

/// Multiplies a stripe, whose tiles begin at `start` and each `step` bytes, with `T` tokens of a block, behind those
/// that are done.
///
/// # Safety
/// The stripe's parts are as long as its numbers say; the caller has the instructions.
#[inline(always)]
unsafe fn tokens<const VNNI: bool, const FORMAT: u8, const T: usize>(
    stripes: &IntegerStripes<'_>,
    (start, step): (usize, usize),
    done: usize,
    sums: &mut Sums,
) -> usize {
    // SAFETY: the loop stays inside the tiles, the block and the sums; fetching ahead reads nothing.
    unsafe {
        let mut results = [[_mm256_setzero_ps(); 2]; T];
        let (mut tile, mut block) = (
            stripes.tiles.as_ptr().wrapping_add(start),
            stripes.block.as_ptr(),
        );
        let width = stripes.width;
        for _ in 0..stripes.groups {
            for line in 0..tile_bytes(FORMAT).div_ceil(64) {
                _mm_prefetch::<_MM_HINT_T0>(tile.wrapping_add(AHEAD + 64 * line).cast());
            }
            let tokens = Tokens {
                block,
                width,
                first: stripes.first + done,
            };
            for side in 0..2 {
                let dots = dots::<VNNI, FORMAT, T>(tile.add(32 * side), &tokens);
                let behind = if is_nibbles(FORMAT) {
                    NIBBLE_CODES
                } else {
                    BYTE_CODES
                };
                let halves = |start: usize| {
                    let place = tile.add(start + STRIPE_ROWS * side);
                    _mm256_cvtph_ps(_mm_loadu_si128(place.cast::<__m128i>()))
                };
                let scale = halves(behind);
                let other = match FORMAT {
                    NIBBLES => _mm256_mul_ps(scale, _mm256_set1_ps(-8.0)),
                    BYTES => _mm256_setzero_ps(),
                    _ => halves(behind + ROW_HALVES),
                };
                for (token, results) in results.iter_mut().enumerate() {
                    let result = &mut results[side];
                    *result =
                        add::<FORMAT>(*result, dots[token], (scale, other), tokens.scales(token));
                }
            }
            tile = tile.wrapping_add(step);
            block = block.add(width * GROUP_BYTES);
        }
        for (results, sums) in results.iter().zip(&mut sums.0[done..]) {
            _mm256_storeu_ps(sums.as_mut_ptr(), results[0]);
            _mm256_storeu_ps(sums.as_mut_ptr().add(WIDTH), results[1]);
        }
    }
    T
}

/// A group of a block of activations, from a token on.
struct Tokens {
    block: *const u8,
    width: usize,
    first: usize,
}

impl Tokens {
    /// Four activations of a token.
    #[inline(always)]
    unsafe fn value(&self, token: usize, index: usize) -> i32 {
        let place = (self.first + token) * GROUP + 4 * index;
        // SAFETY: the caller promises that the token is in the block.
        unsafe { self.block.add(place).cast::<i32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn number(&self, token: usize, number: Number) -> i32 {
        let place = number.place(self.width, self.first + token);
        // SAFETY: as above.
        unsafe { self.block.add(place).cast::<i32>().read_unaligned() }
    }

    /// The scale and the scaled sum.
    #[inline(always)]
    unsafe fn scales(&self, token: usize) -> [f32; 2] {
        // SAFETY: as above.
        let numbers =
            [Number::Scale, Number::ScaledSum].map(|number| unsafe { self.number(token, number) });
        numbers.map(|number| f32::from_bits(number.cast_unsigned()))
    }
}

/// The dot products of a group's eight rows with `T` tokens, for the first and for the second half of the columns.
#[inline(always)]
unsafe fn dots<const VNNI: bool, const FORMAT: u8, const T: usize>(
    tile: *const u8,
    tokens: &Tokens,
) -> [[__m256i; 2]; T] {
    // SAFETY: the caller promises that a tile and a group lie here, and the instructions.
    unsafe {
        let mut dots = [[_mm256_setzero_si256(); 2]; T];
        if VNNI && !is_nibbles(FORMAT) {
            for (token, dots) in dots.iter_mut().enumerate() {
                *dots = [Number::LowOffset, Number::HighOffset]
                    .map(|number| _mm256_set1_epi32(tokens.number(token, number)));
            }
        }
        for index in 0..8 {
            let half = index / 4;
            let load =
                |index: usize| _mm256_loadu_si256(tile.add(2 * 32 * index).cast::<__m256i>());
            let code = if !is_nibbles(FORMAT) {
                load(index)
            } else if half == 0 {
                _mm256_and_si256(load(index), _mm256_set1_epi8(15))
            } else {
                _mm256_and_si256(
                    _mm256_srli_epi16::<4>(load(index - 4)),
                    _mm256_set1_epi8(15),
                )
            };
            // With AVX2 alone, pairs of products are summed in 16 bits: codes of 4 bits cannot overflow there, and of
            // 8 bits only a pair, as size times signed activation.
            let signed = _mm256_xor_si256(code, _mm256_set1_epi8(i8::MIN));
            let size = _mm256_abs_epi8(signed);
            for (token, dots) in dots.iter_mut().enumerate() {
                let value = _mm256_set1_epi32(tokens.value(token, index));
                dots[half] = if VNNI {
                    _mm256_dpbusd_avx_epi32(dots[half], code, value)
                } else if is_nibbles(FORMAT) {
                    _mm256_add_epi16(dots[half], _mm256_maddubs_epi16(code, value))
                } else {
                    let pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(value, signed));
                    _mm256_add_epi32(dots[half], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
                };
            }
        }
        if !VNNI && is_nibbles(FORMAT) {
            for dots in &mut dots {
                *dots = dots.map(|dot| _mm256_madd_epi16(dot, _mm256_set1_epi16(1)));
            }
        }
        for (token, dots) in dots.iter_mut().enumerate() {
            let column = tokens.number(token, Number::WideColumn) as usize % GROUP;
            let wide = _mm256_set1_epi32(tokens.number(token, Number::Wide));
            let line = tile.add(wide_line(is_nibbles(FORMAT), column));
            let shift = _mm256_set1_epi32(wide_shift(is_nibbles(FORMAT), column));
            let mask = _mm256_set1_epi32(wide_mask(is_nibbles(FORMAT)));
            let line = _mm256_srlv_epi32(_mm256_loadu_si256(line.cast::<__m256i>()), shift);
            let mut code = _mm256_and_si256(line, mask);
            if !VNNI && !is_nibbles(FORMAT) {
                code = _mm256_sub_epi32(code, _mm256_set1_epi32(128));
            }
            let dot = &mut dots[column / (GROUP / 2)];
            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(code, wide));
        }
        dots
    }
}

/// Adds a group's dot products to the result.
#[inline(always)]
unsafe fn add<const FORMAT: u8>(
    result: __m256,
    dots: [__m256i; 2],
    weights: (__m256, __m256),
    token: [f32; 2],
) -> __m256 {
    let ((scale, other), [token_scale, scaled_sum]) = (weights, token);
    // SAFETY: the caller has the instructions.
    unsafe {
        let token_scale = _mm256_set1_ps(token_scale);
        let factor = _mm256_mul_ps(scale, token_scale);
        if FORMAT == BYTES_IN_HALVES {
            let result = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[0]), factor, result);
            let factor = _mm256_mul_ps(other, token_scale);
            return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[1]), factor, result);
        }
        let dot = _mm256_cvtepi32_ps(_mm256_add_epi32(dots[0], dots[1]));
        let result = _mm256_fmadd_ps(dot, factor, result);
        if FORMAT == BYTES {
            result
        } else {
            _mm256_fmadd_ps(other, _mm256_set1_ps(scaled_sum), result)
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float_tokens<const FORMAT: u8, const T: usize>(
    stripe: &FloatStripe<'_>,
    first: usize,
    sums: &mut [[f32; STRIPE_ROWS]],
) -> usize {
    let columns = stripe.groups * GROUP;
    let side_bytes = WIDTH * float_bytes(FORMAT);
    // Even and odd columns, the first and the second eight rows.
    let mut results = [[[_mm256_setzero_ps(); 2]; 2]; T];
    let mut place = stripe.tiles.as_ptr();
    for column in 0..columns {
        for side in 0..2 {
            // SAFETY: the loop stays inside the tiles and the vectors.
            unsafe {
                let half = || _mm_loadu_si128(place.cast::<__m128i>());
                let weight = match FORMAT {
                    HALF => _mm256_cvtph_ps(half()),
                    BRAIN => {
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half())))
                    }
                    _ => _mm256_loadu_ps(place.cast()),
                };
                for (token, results) in results.iter_mut().enumerate() {
                    let value = stripe
                        .input
                        .as_ptr()
                        .add((first + token) * columns + column);
                    let result = &mut results[column % 2][side];
                    *result = _mm256_fmadd_ps(weight, _mm256_set1_ps(*value), *result);
                }
                place = place.add(side_bytes);
            }
        }
    }
    for ([even, odd], sums) in results.iter().zip(sums) {
        for side in 0..2 {
            // SAFETY: a row of results is 16 floats.
            unsafe {
                let place = sums.as_mut_ptr().add(WIDTH * side);
                _mm256_storeu_ps(place, _mm256_add_ps(even[side], odd[side]));
            }
        }
    }
    T
}

/// Quantizes groups and writes them to their places.
///
/// # Safety
/// The groups' places are written by this call alone.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn quantize(groups: &[[f32; GROUP]], integers: &Parts<'_, u8>, place: Place) {
    // SAFETY: the caller promises that nobody else writes to these places.
    unsafe { write_groups(groups, integers, place, |group| quantize_group(group)) };
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize_group(values: &[f32; GROUP]) -> Quantized {
    // SAFETY: all quarters of the group are inside it, and 32 bytes are inside the codes.
    unsafe {
        let quarters =
            [0, 1, 2, 3].map(|index| _mm256_loadu_ps(values.as_ptr().add(WIDTH * index)));
        let sign_off = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
        let sizes = quarters.map(|quarter| _mm256_and_ps(quarter, sign_off));
        let largest = _mm256_max_ps(
            _mm256_max_ps(sizes[0], sizes[1]),
            _mm256_max_ps(sizes[2], sizes[3]),
        );
        let largest = highest(largest);
        let peak = _mm256_set1_ps(largest);
        let peaks = sizes.map(|size| {
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(size, peak)).cast_unsigned()
        });
        let peaks = peaks[0] | peaks[1] << 8 | peaks[2] << 16 | peaks[3] << 24;
        let wide = peaks.trailing_zeros() as usize % GROUP;
        let mut others = [0.0_f32; GROUP];
        for (index, size) in sizes.into_iter().enumerate() {
            _mm256_storeu_ps(others.as_mut_ptr().add(WIDTH * index), size);
        }
        others[wide] = 0.0;
        let others = [0, 1, 2, 3].map(|index| _mm256_loadu_ps(others.as_ptr().add(WIDTH * index)));
        let second = highest(_mm256_max_ps(
            _mm256_max_ps(others[0], others[1]),
            _mm256_max_ps(others[2], others[3]),
        ));
        let Some(reach) = reach(largest, second) else {
            return Quantized::default();
        };
        let inverse = 127.0 / reach;
        let mut quantized = Quantized {
            scale: reach * (1.0 / 127.0),
            wide_column: wide as u32,
            wide: (values[wide] * inverse).round_ties_even() as i16,
            ..Quantized::default()
        };
        let factor = _mm256_set1_ps(inverse);
        let codes = quarters.map(|quarter| _mm256_cvtps_epi32(_mm256_mul_ps(quarter, factor)));
        let pairs = [
            _mm256_packs_epi32(codes[0], codes[1]),
            _mm256_packs_epi32(codes[2], codes[3]),
        ];
        // Packing interleaves the halves of registers.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(pairs[0], pairs[1]), order);
        _mm256_storeu_si256(quantized.codes.as_mut_ptr().cast::<__m256i>(), bytes);
        quantized.codes[wide] = 0;
        for (index, sum) in quantized.sums.iter_mut().enumerate() {
            let mut lanes = [0_i32; WIDTH];
            let codes = _mm256_add_epi32(codes[2 * index], codes[2 * index + 1]);
            _mm256_storeu_si256(lanes.as_mut_ptr().cast::<__m256i>(), codes);
            *sum = lanes.iter().sum();
        }
        quantized
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn highest(vector: __m256) -> f32 {
    let mut lanes = [0.0_f32; WIDTH];
    // SAFETY: eight floats are inside the array.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), vector) };
    lanes
        .iter()
        .fold(0.0, |highest: f32, lane| highest.max(*lane))
}
