//! Integers of ggml's blocks, taken out unchanged and put into tiles.
//!
//! Scales of K-quants are products of a 16-bit float and an integer of 6 or 8 bits; they are rounded to 16-bit
//! floats, which changes a weight by 0.02 % on average.

use half::f16;

use super::super::format::{BYTE_CODES, NIBBLE_CODES, ROW_HALVES};
use super::super::{GROUP, STRIPE_ROWS};
use crate::quant::{scale_and_minimum, six_bit_codes};

/// 32 weights of a row. The codes are in the order of the columns; two 16-bit floats are what comes behind them.
pub(super) enum Group {
    /// Pairs: column `c` in the low half, column `c + 16` in the high half.
    Nibbles([u8; GROUP / 2], [f16; 2]),
    /// Integers plus 128.
    Bytes([u8; GROUP], [f16; 2]),
}

/// What a format has behind its scales.
const NONE: f16 = f16::ZERO;

/// Writes the groups of a row into the tiles of a stripe. `decode` yields the groups of one block; a second float that
/// the format has no room for is left out.
#[inline(always)]
pub(super) fn pack<'a, const BLOCK: usize, const GROUPS: usize>(
    bytes: &[u8],
    row: usize,
    mut tiles: impl Iterator<Item = &'a mut [u8]>,
    decode: impl Fn(&[u8; BLOCK]) -> [Group; GROUPS],
) {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    for block in blocks {
        for (group, tile) in decode(block).iter().zip(&mut tiles) {
            group.write(row, tile);
        }
    }
}

impl Group {
    /// Writes this group into a tile.
    #[inline(always)]
    pub(super) fn write(&self, row: usize, tile: &mut [u8]) {
        let (halves, start) = match self {
            Self::Nibbles(codes, halves) => {
                spread(codes, row, tile);
                (halves, NIBBLE_CODES)
            }
            Self::Bytes(codes, halves) => {
                spread(codes, row, tile);
                (halves, BYTE_CODES)
            }
        };
        let places = tile[start..].chunks_exact_mut(ROW_HALVES);
        for (half, place) in halves.iter().zip(places) {
            place[2 * row..2 * row + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
}

/// Puts each four bytes of a row beside those of the other rows.
#[inline(always)]
fn spread(codes: &[u8], row: usize, tile: &mut [u8]) {
    let (codes, _) = codes.as_chunks::<4>();
    let (places, _) = tile.as_chunks_mut::<{ 4 * STRIPE_ROWS }>();
    for (code, place) in codes.iter().zip(places) {
        place[4 * row..4 * row + 4].copy_from_slice(code);
    }
}

#[inline(always)]
fn half(block: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([block[at], block[at + 1]])
}

#[inline(always)]
fn part<const N: usize>(block: &[u8], start: usize) -> [u8; N] {
    std::array::from_fn(|index| block[start + index])
}

#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18]) -> [Group; 1] {
    [Group::Nibbles(part(block, 2), [half(block, 0), NONE])]
}

#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20]) -> [Group; 1] {
    [Group::Nibbles(
        part(block, 4),
        [half(block, 0), half(block, 2)],
    )]
}

#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22]) -> [Group; 1] {
    let codes = five_bits(part(block, 2), part(block, 6));
    [Group::Bytes(
        codes.map(|code| code + (128 - 16)),
        [half(block, 0), NONE],
    )]
}

#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24]) -> [Group; 1] {
    let codes = five_bits(part(block, 4), part(block, 8));
    [Group::Bytes(
        codes.map(|code| code + 128),
        [half(block, 0), half(block, 2)],
    )]
}

/// Codes of 5 bits, whose fifth bits lie apart.
#[inline(always)]
fn five_bits(high: [u8; 4], low: [u8; 16]) -> [u8; GROUP] {
    let high = u32::from_le_bytes(high);
    std::array::from_fn(|index| {
        let nibble = if index < 16 {
            low[index] & 15
        } else {
            low[index - 16] >> 4
        };
        nibble | (((high >> index) & 1) << 4) as u8
    })
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34]) -> [Group; 1] {
    let codes: [u8; GROUP] = part(block, 2);
    [Group::Bytes(
        codes.map(|code| code ^ 0x80),
        [half(block, 0), NONE],
    )]
}

/// The scale and the minimum of a group of a Q4_K or Q5_K block.
#[inline(always)]
fn scales(block: &[u8], group: usize) -> [f16; 2] {
    let (scale, minimum) = scale_and_minimum(block, group);
    [f16::from_f32(scale), f16::from_f32(-minimum)]
}

#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144]) -> [Group; 8] {
    std::array::from_fn(|group| {
        let codes: [u8; GROUP] = part(block, 16 + 32 * (group / 2));
        let shift = 4 * (group % 2);
        let code = |index: usize| (codes[index] >> shift) & 15;
        let pairs = std::array::from_fn(|index| code(index) | (code(index + 16) << 4));
        Group::Nibbles(pairs, scales(block, group))
    })
}

#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176]) -> [Group; 8] {
    let high: [u8; GROUP] = part(block, 16);
    std::array::from_fn(|group| {
        let codes: [u8; GROUP] = part(block, 48 + 32 * (group / 2));
        let shift = 4 * (group % 2);
        let code =
            |index: usize| ((codes[index] >> shift) & 15) | (((high[index] >> group) & 1) << 4);
        Group::Bytes(
            std::array::from_fn(|index| code(index) + 128),
            scales(block, group),
        )
    })
}

#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210]) -> [Group; 8] {
    let codes = six_bit_codes(block);
    let unit = half(block, 208).to_f32();
    std::array::from_fn(|group| {
        let scale = |side: usize| {
            let scale = block[192 + 2 * group + side].cast_signed();
            f16::from_f32(unit * f32::from(scale))
        };
        let codes: [u8; GROUP] = part(&codes, GROUP * group);
        Group::Bytes(codes.map(|code| code + (128 - 32)), [scale(0), scale(1)])
    })
}
