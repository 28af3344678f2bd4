//! Kernels with NEON and its dot products of bytes: four rows in a register.
//!
//! The dot product has no stable function in Rust's library and is written as an instruction.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, uint8x16_t, vaddq_s32, vandq_u8, vcvtq_f32_s32, vdupq_n_f32,
    vdupq_n_s32, vdupq_n_u8, veorq_u8, vfmaq_f32, vld1q_f32, vld1q_u8, vmulq_f32,
    vreinterpretq_s8_s32, vreinterpretq_s8_u8, vshrq_n_u8, vst1q_f32,
};
use std::arch::asm;

use half::f16;

use super::format::{BYTE_CODES, Format, NIBBLE_CODES, ROW_HALVES};
use super::kernels::{GROUP_BYTES, IntegerStripe, Kernels, Sums};
use super::{GROUP, STRIPE_ROWS, portable};

const WIDTH: usize = 4;
/// Registers for the rows of a stripe.
const QUARTERS: usize = STRIPE_ROWS / WIDTH;

const NIBBLES: u8 = 0;
const NIBBLES_WITH_MINIMUM: u8 = 1;
const BYTES: u8 = 2;
const BYTES_WITH_MINIMUM: u8 = 3;
const BYTES_IN_HALVES: u8 = 4;

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

const fn is_nibbles(format: u8) -> bool {
    matches!(format, NIBBLES | NIBBLES_WITH_MINIMUM)
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

#[target_feature(enable = "neon,dotprod")]
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
                4.. => tokens::<FORMAT, 4>(stripe, first + done, sums),
                2.. => tokens::<FORMAT, 2>(stripe, first + done, sums),
                _ => tokens::<FORMAT, 1>(stripe, first + done, sums),
            }
        };
    }
}

/// Multiplies a stripe with `T` tokens of a block, from `first` on.
///
/// # Safety
/// The stripe's parts are as long as its numbers say.
#[target_feature(enable = "neon,dotprod")]
unsafe fn tokens<const FORMAT: u8, const T: usize>(
    stripe: &IntegerStripe<'_>,
    first: usize,
    sums: &mut [[f32; STRIPE_ROWS]],
) -> usize {
    let mut results = [[vdupq_n_f32(0.0); QUARTERS]; T];
    let (mut tile, mut block) = (stripe.tiles.as_ptr(), stripe.block.as_ptr());
    let width = stripe.width;
    for _ in 0..stripe.groups {
        for quarter in 0..QUARTERS {
            // SAFETY: the loop stays inside the tiles and the block.
            unsafe {
                let values = block.add(first * GROUP);
                let dots = dots::<FORMAT, T>(tile.add(16 * quarter), values);
                let (scale, other) = weights::<FORMAT>(tile, quarter);
                for (token, results) in results.iter_mut().enumerate() {
                    let number = |index: usize| {
                        let place = width * (GROUP + 4 * index) + 4 * (first + token);
                        block.add(place).cast::<f32>().read_unaligned()
                    };
                    let result = &mut results[quarter];
                    *result =
                        add::<FORMAT>(*result, dots[token], (scale, other), [number(0), number(1)]);
                }
            }
        }
        // SAFETY: at most the end of the tiles and of the block.
        unsafe {
            tile = tile.add(tile_bytes(FORMAT));
            block = block.add(width * GROUP_BYTES);
        }
    }
    for (results, sums) in results.iter().zip(sums) {
        for (quarter, result) in results.iter().enumerate() {
            // SAFETY: a row of results is 16 floats.
            unsafe { vst1q_f32(sums.as_mut_ptr().add(WIDTH * quarter), *result) };
        }
    }
    T
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
    values: *const u8,
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
            let value = unsafe {
                values
                    .add(GROUP * token + 4 * index)
                    .cast::<i32>()
                    .read_unaligned()
            };
            let value = vreinterpretq_s8_s32(vdupq_n_s32(value));
            dots[half] = add_dot(dots[half], vreinterpretq_s8_u8(code), value);
        }
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
