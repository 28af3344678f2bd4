//! The definition of all kernels: what the wide instructions must compute, to the bit.

use std::array;

use half::f16;

use super::activations::Quantized;
use super::format::{BYTE_CODES, Format, NIBBLE_CODES, ROW_HALVES};
use super::kernels::{FloatStripe, GROUP_BYTES, IntegerStripes, Kernels, Number, Sums};
use super::{GROUP, STRIPE_ROWS};

/// Below this a group counts as zeros: its scale would not be a normal number.
const REACH_MIN: f32 = 1e-30;
/// How far the largest activation of a group may be above the second one, for 16 bits to hold it.
const WIDE_REACH: f32 = 256.0;

/// What becomes 127, of a group with these two largest sizes; none where it counts as zeros.
#[inline(always)]
pub(super) fn reach(largest: f32, second: f32) -> Option<f32> {
    let least = largest * (1.0 / WIDE_REACH);
    let reach = if second < least { least } else { second };
    (REACH_MIN <= reach).then_some(reach)
}

/// The largest activation, the first of several, becomes an integer from −127 · 256 to 127 · 256, the others become
/// integers from −127 to 127.
#[inline(always)]
pub(super) fn quantize(values: &[f32; GROUP]) -> Quantized {
    let sizes = values.map(f32::abs);
    let (mut wide, mut second) = (0, 0.0_f32);
    for (column, size) in sizes.iter().enumerate().skip(1) {
        if sizes[wide] < *size {
            (wide, second) = (column, sizes[wide]);
        } else {
            second = second.max(*size);
        }
    }
    let Some(reach) = reach(sizes[wide], second) else {
        return Quantized::default();
    };
    let inverse = 127.0 / reach;
    let codes = values.map(|value| (value * inverse).round_ties_even() as i16);
    let sum = |codes: &[i16]| codes.iter().map(|code| i32::from(*code)).sum();
    let mut quantized = Quantized {
        codes: codes.map(|code| code as i8),
        scale: reach * (1.0 / 127.0),
        sums: [sum(&codes[..GROUP / 2]), sum(&codes[GROUP / 2..])],
        wide_column: wide as u32,
        wide: codes[wide],
    };
    quantized.codes[wide] = 0;
    quantized
}

pub(super) fn kernels(format: Format) -> Kernels {
    match format {
        Format::Nibbles => Kernels::Integers(|stripe, sums| {
            integers::<{ NIBBLE_CODES + ROW_HALVES }>(stripe, sums, nibbles);
        }),
        Format::NibblesWithMinimum => Kernels::Integers(|stripe, sums| {
            integers::<{ NIBBLE_CODES + 2 * ROW_HALVES }>(stripe, sums, nibbles_with_minimum);
        }),
        Format::Bytes => Kernels::Integers(|stripe, sums| {
            integers::<{ BYTE_CODES + ROW_HALVES }>(stripe, sums, bytes);
        }),
        Format::BytesWithMinimum => Kernels::Integers(|stripe, sums| {
            integers::<{ BYTE_CODES + 2 * ROW_HALVES }>(stripe, sums, bytes_with_minimum);
        }),
        Format::BytesInHalves => Kernels::Integers(|stripe, sums| {
            integers::<{ BYTE_CODES + 2 * ROW_HALVES }>(stripe, sums, bytes_in_halves);
        }),
        Format::Half => Kernels::Floats(|stripe, sums| {
            floats(stripe, sums, |bytes: [u8; 2]| {
                f16::from_le_bytes(bytes).to_f32()
            });
        }),
        Format::Brain => Kernels::Floats(|stripe, sums| {
            floats(stripe, sums, |[low, high]: [u8; 2]| {
                f32::from_le_bytes([0, 0, low, high])
            });
        }),
        Format::Single => Kernels::Floats(|stripe, sums| floats(stripe, sums, f32::from_le_bytes)),
    }
}

/// One token's group in a block of activations.
struct Group<'a> {
    codes: &'a [u8],
    scale: f32,
    scaled_sum: f32,
    /// −128 times the sums of both halves.
    offsets: [i32; 2],
    wide_column: usize,
    wide: i32,
}

impl<'a> Group<'a> {
    fn read(stripe: &IntegerStripes<'a>, group: usize, token: usize) -> Self {
        let width = stripe.width;
        let bytes = &stripe.block[group * width * GROUP_BYTES..(group + 1) * width * GROUP_BYTES];
        let bytes_of = |number: Number| -> [u8; 4] {
            array::from_fn(|byte| bytes[number.place(width, token) + byte])
        };
        let float = |number| f32::from_ne_bytes(bytes_of(number));
        let integer = |number| i32::from_ne_bytes(bytes_of(number));
        Self {
            codes: &bytes[token * GROUP..(token + 1) * GROUP],
            scale: float(Number::Scale),
            scaled_sum: float(Number::ScaledSum),
            offsets: [Number::LowOffset, Number::HighOffset].map(integer),
            wide_column: integer(Number::WideColumn) as usize,
            wide: i32::from(integer(Number::Wide) as i16),
        }
    }

    /// The products of codes and some columns.
    fn dot(&self, columns: std::ops::Range<usize>, code: impl Fn(usize) -> i32) -> i32 {
        let activation = |column: usize| match column == self.wide_column {
            true => self.wide,
            false => i32::from(self.codes[column].cast_signed()),
        };
        columns
            .map(|column| code(column) * activation(column))
            .sum()
    }
}

fn integers<const TILE: usize>(
    stripes: &IntegerStripes<'_>,
    sums: &mut [Sums],
    add: impl Fn(&[u8; TILE], usize, &Group<'_>, f32) -> f32,
) {
    let (tiles, _) = stripes.tiles.as_chunks::<TILE>();
    let step = sums.len();
    for (stripe, sums) in sums.iter_mut().enumerate() {
        let tiles = || tiles.iter().skip(stripe).step_by(step);
        for (token, sums) in (stripes.first..stripes.first + stripes.count).zip(&mut sums.0) {
            *sums = [0.0; STRIPE_ROWS];
            for (group, tile) in tiles().take(stripes.groups).enumerate() {
                let group = Group::read(stripes, group, token);
                for (row, sum) in sums.iter_mut().enumerate() {
                    *sum = add(tile, row, &group, *sum);
                }
            }
        }
    }
}

/// The 16-bit float of a row behind the first `start` bytes of a tile.
fn half(tile: &[u8], start: usize, row: usize) -> f32 {
    f16::from_le_bytes([tile[start + 2 * row], tile[start + 2 * row + 1]]).to_f32()
}

/// The place of a column of a row among a tile's bytes.
const fn place(column: usize, row: usize) -> usize {
    column / 4 * 4 * STRIPE_ROWS + row * 4 + column % 4
}

fn nibble_dot(tile: &[u8], row: usize, group: &Group<'_>) -> i32 {
    group.dot(0..GROUP / 2, |column| {
        i32::from(tile[place(column, row)] & 15)
    }) + group.dot(GROUP / 2..GROUP, |column| {
        i32::from(tile[place(column - GROUP / 2, row)] >> 4)
    })
}

fn byte_dot(tile: &[u8], row: usize, group: &Group<'_>, half: usize) -> i32 {
    let columns = half * (GROUP / 2)..(half + 1) * (GROUP / 2);
    group.dot(columns, |column| i32::from(tile[place(column, row)])) + group.offsets[half]
}

fn nibbles(tile: &[u8; NIBBLE_CODES + ROW_HALVES], row: usize, group: &Group<'_>, sum: f32) -> f32 {
    let scale = half(tile, NIBBLE_CODES, row);
    let sum = (nibble_dot(tile, row, group) as f32).mul_add(scale * group.scale, sum);
    (scale * -8.0).mul_add(group.scaled_sum, sum)
}

fn nibbles_with_minimum(
    tile: &[u8; NIBBLE_CODES + 2 * ROW_HALVES],
    row: usize,
    group: &Group<'_>,
    sum: f32,
) -> f32 {
    let (scale, minimum) = (
        half(tile, NIBBLE_CODES, row),
        half(tile, NIBBLE_CODES + ROW_HALVES, row),
    );
    let sum = (nibble_dot(tile, row, group) as f32).mul_add(scale * group.scale, sum);
    minimum.mul_add(group.scaled_sum, sum)
}

fn bytes(tile: &[u8; BYTE_CODES + ROW_HALVES], row: usize, group: &Group<'_>, sum: f32) -> f32 {
    let dot = byte_dot(tile, row, group, 0) + byte_dot(tile, row, group, 1);
    (dot as f32).mul_add(half(tile, BYTE_CODES, row) * group.scale, sum)
}

fn bytes_with_minimum(
    tile: &[u8; BYTE_CODES + 2 * ROW_HALVES],
    row: usize,
    group: &Group<'_>,
    sum: f32,
) -> f32 {
    let dot = byte_dot(tile, row, group, 0) + byte_dot(tile, row, group, 1);
    let sum = (dot as f32).mul_add(half(tile, BYTE_CODES, row) * group.scale, sum);
    half(tile, BYTE_CODES + ROW_HALVES, row).mul_add(group.scaled_sum, sum)
}

fn bytes_in_halves(
    tile: &[u8; BYTE_CODES + 2 * ROW_HALVES],
    row: usize,
    group: &Group<'_>,
    sum: f32,
) -> f32 {
    (0..2).fold(sum, |sum, side| {
        let scale = half(tile, BYTE_CODES + side * ROW_HALVES, row);
        (byte_dot(tile, row, group, side) as f32).mul_add(scale * group.scale, sum)
    })
}

/// Even and odd columns have sums of their own, which are added at the end.
fn floats<const BYTES: usize>(
    stripe: &FloatStripe<'_>,
    sums: &mut Sums,
    decode: impl Fn([u8; BYTES]) -> f32,
) {
    let width = stripe.groups * GROUP;
    let (weights, _) = stripe.tiles.as_chunks::<BYTES>();
    for (input, sums) in stripe
        .input
        .chunks_exact(width)
        .take(stripe.count)
        .zip(&mut sums.0)
    {
        for (row, sum) in sums.iter_mut().enumerate() {
            let mut parts = [0.0_f32; 2];
            for (column, value) in input.iter().enumerate() {
                let weight = decode(weights[column * STRIPE_ROWS + row]);
                parts[column % 2] = weight.mul_add(*value, parts[column % 2]);
            }
            *sum = parts[0] + parts[1];
        }
    }
}
