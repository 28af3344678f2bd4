//! Kernels with NEON and its dot products of bytes: four rows in a register.
//!
//! The dot product has no stable function in Rust's library and is written as an instruction.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, uint8x16_t, vaddq_s32, vandq_u8, vandq_u32, vcvtq_f32_s32,
    vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, vdupq_n_u32, veorq_u8, vfmaq_f32, vld1q_f32, vld1q_u8,
    vld1q_u32, vmlaq_s32, vmulq_f32, vreinterpretq_s8_s32, vreinterpretq_s8_u8,
    vreinterpretq_s32_u32, vshlq_u32, vshrq_n_u8, vst1q_f32, vsubq_s32,
};
use std::arch::asm;

use half::f16;

use super::format::{
    BYTE_CODES, BYTES, BYTES_IN_HALVES, BYTES_WITH_MINIMUM, Format, NIBBLE_CODES, NIBBLES,
    NIBBLES_WITH_MINIMUM, ROW_HALVES, is_nibbles, tile_bytes,
};
use super::kernels::{
    GROUP_BYTES, IntegerStripes, Kernels, Number, Sums, wide_line, wide_mask, wide_shift,
};
use super::{GROUP, STRIPE_ROWS, portable};

const WIDTH: usize = 4;
/// Registers for the rows of a stripe.
const QUARTERS: usize = STRIPE_ROWS / WIDTH;

pub(super) fn kernels(format: Format) -> Kernels {
    match format {
        Format::Nibbles => Kernels::Integers(integers::<NIBBLES>),
        Format::NibblesWithMinimum => Kernels::Integers(integers::<NIBBLES_WITH_MINIMUM>),
        Format::Bytes => Kernels::Integers(integers::<BYTES>),
        Format::BytesWithMinimum => Kernels::Integers(integers::<BYTES_WITH_MINIMUM>),
        Format::BytesInHalves => Kernels::Integers(integers::<BYTES_IN_HALVES>),
        Format::Half | Format::Brain | Format::Single => portable::kernels(format),
    }
}

#[target_feature(enable = "neon,dotprod")]
fn integers<const FORMAT: u8>(stripes: &IntegerStripes<'_>, sums: &mut [Sums]) {
    stripes.check(tile_bytes(FORMAT), sums);
    let step = sums.len() * tile_bytes(FORMAT);
    for (stripe, sums) in sums.iter_mut().enumerate() {
        let tiles = (stripe * tile_bytes(FORMAT), step);
        let (mut done, count) = (0, stripes.count);
        while done < count {
            // SAFETY: the stripes' parts have the lengths that are checked above.
            done += unsafe {
                match count - done {
                    4.. => tokens::<FORMAT, 4>(stripes, tiles, done, sums),
                    2.. => tokens::<FORMAT, 2>(stripes, tiles, done, sums),
                    _ => tokens::<FORMAT, 1>(stripes, tiles, done, sums),
                }
            };
        }
    }
}

/// Multiplies a stripe, whose tiles begin at `start` and each `step` bytes, with `T` tokens of a block, behind those
/// that are done.
///
/// # Safety
/// The stripe's parts are as long as its numbers say.
#[target_feature(enable = "neon,dotprod")]
unsafe fn tokens<const FORMAT: u8, const T: usize>(
    stripes: &IntegerStripes<'_>,
    (start, step): (usize, usize),
    done: usize,
    sums: &mut Sums,
) -> usize {
    let mut results = [[vdupq_n_f32(0.0); QUARTERS]; T];
    let (mut tile, mut block) = (
        stripes.tiles.as_ptr().wrapping_add(start),
        stripes.block.as_ptr(),
    );
    let width = stripes.width;
    for _ in 0..stripes.groups {
        for quarter in 0..QUARTERS {
            // SAFETY: the loop stays inside the tiles and the block.
            unsafe {
                let tokens = Tokens {
                    block,
                    width,
                    first: stripes.first + done,
                };
                let dots = dots::<FORMAT, T>(tile.add(16 * quarter), &tokens);
                let (scale, other) = weights::<FORMAT>(tile, quarter);
                for (token, results) in results.iter_mut().enumerate() {
                    let numbers = [Number::Scale, Number::ScaledSum]
                        .map(|number| f32::from_bits(tokens.number(token, number).cast_unsigned()));
                    let result = &mut results[quarter];
                    *result = add::<FORMAT>(*result, dots[token], (scale, other), numbers);
                }
            }
        }
        // SAFETY: at most the end of the tiles and of the block.
        unsafe {
            tile = tile.wrapping_add(step);
            block = block.add(width * GROUP_BYTES);
        }
    }
    for (results, sums) in results.iter().zip(&mut sums.0[done..]) {
        for (quarter, result) in results.iter().enumerate() {
            // SAFETY: a row of results is 16 floats.
            unsafe { vst1q_f32(sums.as_mut_ptr().add(WIDTH * quarter), *result) };
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
}

/// The scales of four rows, and the minima or the scales of the second half.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn weights<const FORMAT: u8>(tile: *const u8, quarter: usize) -> (float32x4_t, float32x4_t) {
    let halves = |start: usize| {
        let numbers: [f32; WIDTH] = std::array::from_fn(|row| {
            // SAFETY: the caller promises that a tile lies here.
            let bytes = unsafe {
                tile.add(start + 2 * (WIDTH * quarter + row))
                    .cast::<[u8; 2]>()
                    .read()
            };
            f16::from_le_bytes(bytes).to_f32()
        });
        // SAFETY: four floats are four floats.
        unsafe { vld1q_f32(numbers.as_ptr()) }
    };
    let start = if is_nibbles(FORMAT) {
        NIBBLE_CODES
    } else {
        BYTE_CODES
    };
    let scale = halves(start);
    let other = match FORMAT {
        NIBBLES => vmulq_f32(scale, vdupq_n_f32(-8.0)),
        BYTES => vdupq_n_f32(0.0),
        _ => halves(start + ROW_HALVES),
    };
    (scale, other)
}

/// The dot products of a group's four rows with `T` tokens, for the first and for the second half of the columns.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn dots<const FORMAT: u8, const T: usize>(
    tile: *const u8,
    tokens: &Tokens,
) -> [[int32x4_t; 2]; T] {
    let mut dots = [[vdupq_n_s32(0); 2]; T];
    for index in 0..8 {
        let half = index / 4;
        // SAFETY: the caller promises that a tile lies here.
        let load = |index: usize| unsafe { vld1q_u8(tile.add(4 * STRIPE_ROWS * index)) };
        let code: uint8x16_t = if !is_nibbles(FORMAT) {
            veorq_u8(load(index), vdupq_n_u8(0x80))
        } else if half == 0 {
            vandq_u8(load(index), vdupq_n_u8(15))
        } else {
            vshrq_n_u8::<4>(load(index - 4))
        };
        for (token, dots) in dots.iter_mut().enumerate() {
            // SAFETY: the caller promises that a group of so many tokens lies here.
            let value = unsafe { tokens.value(token, index) };
            let value = vreinterpretq_s8_s32(vdupq_n_s32(value));
            dots[half] = add_dot(dots[half], vreinterpretq_s8_u8(code), value);
        }
    }
    for (token, dots) in dots.iter_mut().enumerate() {
        // SAFETY: the caller promises that a tile and a group of so many tokens lie here.
        let (column, wide, line) = unsafe {
            let column = tokens.number(token, Number::WideColumn) as usize % GROUP;
            let line = tile.add(wide_line(is_nibbles(FORMAT), column));
            (
                column,
                tokens.number(token, Number::Wide) as i16,
                vld1q_u32(line.cast()),
            )
        };
        let shift = vdupq_n_s32(-wide_shift(is_nibbles(FORMAT), column));
        let mask = vdupq_n_u32(wide_mask(is_nibbles(FORMAT)).cast_unsigned());
        let mut code = vreinterpretq_s32_u32(vandq_u32(vshlq_u32(line, shift), mask));
        if !is_nibbles(FORMAT) {
            code = vsubq_s32(code, vdupq_n_s32(128));
        }
        let dot = &mut dots[column / (GROUP / 2)];
        *dot = vmlaq_s32(*dot, code, vdupq_n_s32(i32::from(wide)));
    }
    dots
}

/// Adds the dot products of each four bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_dot(mut sum: int32x4_t, left: int8x16_t, right: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes these registers only.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {left:v}.16b, {right:v}.16b",
            sum = inout(vreg) sum,
            left = in(vreg) left,
            right = in(vreg) right,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Adds a group's dot products to the result.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add<const FORMAT: u8>(
    result: float32x4_t,
    dots: [int32x4_t; 2],
    weights: (float32x4_t, float32x4_t),
    token: [f32; 2],
) -> float32x4_t {
    let ((scale, other), [token_scale, scaled_sum]) = (weights, token);
    let token_scale = vdupq_n_f32(token_scale);
    let factor = vmulq_f32(scale, token_scale);
    if FORMAT == BYTES_IN_HALVES {
        let result = vfmaq_f32(result, vcvtq_f32_s32(dots[0]), factor);
        return vfmaq_f32(
            result,
            vcvtq_f32_s32(dots[1]),
            vmulq_f32(other, token_scale),
        );
    }
    let dot = vcvtq_f32_s32(vaddq_s32(dots[0], dots[1]));
    let result = vfmaq_f32(result, dot, factor);
    if FORMAT == BYTES {
        result
    } else {
        vfmaq_f32(result, other, vdupq_n_f32(scaled_sum))
    }
}
