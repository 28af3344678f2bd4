//! The choice of a kernel: a function that multiplies one or two stripes with up to 16 tokens.

use super::format::Format;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::{BLOCK_TOKENS, GROUP, Level, PAIR, STRIPE_ROWS, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Bytes of one token's group in a block of activations: 32 integers and six numbers.
pub(super) const GROUP_BYTES: usize = 56;

/// The numbers behind the integers of a block's group: for each, one of every token.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    /// Scales.
    Scale,
    /// Sums of the activations as they are after rounding.
    ScaledSum,
    /// −128 times the sums of the first 16 integers, the wide one included.
    LowOffset,
    /// −128 times the sums of the other 16 integers, the wide one included.
    HighOffset,
    /// Columns of the wide integers.
    WideColumn,
    /// Wide integers, as 16 bits with zeros above them.
    Wide,
}

impl Number {
    /// Where a token's number lies in the group of a block of `width` tokens.
    #[inline(always)]
    pub(super) const fn place(self, width: usize, token: usize) -> usize {
        width * (GROUP + 4 * self as usize) + 4 * token
    }
}

/// A result for each row of a stripe, for each token of a block.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[f32; STRIPE_ROWS]; BLOCK_TOKENS]);

/// A pair of stripes of integers, or the last stripe, and a block of activations. Tiles of a pair alternate. A group of the block holds the integers of each of its `width`
/// tokens, then their [`Number`]s.
pub(super) struct IntegerStripes<'a> {
    pub(super) tiles: &'a [u8],
    pub(super) groups: usize,
    pub(super) block: &'a [u8],
    pub(super) width: usize,
    /// The first token of the block to multiply.
    pub(super) first: usize,
    /// How many tokens to multiply.
    pub(super) count: usize,
}

impl IntegerStripes<'_> {
    /// # Panics
    /// If a part is shorter than the numbers say, or if there are too many stripes.
    #[inline(always)]
    pub(super) fn check(&self, tile_bytes: usize, sums: &[Sums]) {
        assert!(
            sums.len() <= PAIR
                && sums.len() * self.groups * tile_bytes <= self.tiles.len()
                && self.groups * self.width * GROUP_BYTES <= self.block.len()
                && self.first + self.count <= self.width
                && self.count <= BLOCK_TOKENS,
            "a stripe outside its memory"
        );
    }
}

/// Where the 64 bytes of a tile begin that hold a column of all rows.
#[inline(always)]
pub(super) const fn wide_line(is_nibbles: bool, column: usize) -> usize {
    let column = if is_nibbles { column % 16 } else { column };
    column / 4 * 4 * STRIPE_ROWS
}

/// The bits of a row's four bytes below those of a column.
#[inline(always)]
pub(super) const fn wide_shift(is_nibbles: bool, column: usize) -> i32 {
    let high = if is_nibbles { column / 16 * 4 } else { 0 };
    (column % 4 * 8 + high) as i32
}

/// The bits of a column's integer.
#[inline(always)]
pub(super) const fn wide_mask(is_nibbles: bool) -> i32 {
    if is_nibbles { 0x0f } else { 0xff }
}

/// A stripe of floats and vectors of activations, one behind the other, filled up to whole groups.
pub(super) struct FloatStripe<'a> {
    pub(super) tiles: &'a [u8],
    pub(super) groups: usize,
    pub(super) input: &'a [f32],
    pub(super) count: usize,
}

/// How to multiply a stripe: functions for processors that have a level's instructions.
#[derive(Clone, Copy)]
pub(super) enum Kernels {
    /// Sets the sums of as many stripes as there are.
    Integers(unsafe fn(&IntegerStripes<'_>, &mut [Sums])),
    Floats(unsafe fn(&FloatStripe<'_>, &mut Sums)),
}

impl Kernels {
    pub(super) fn of(level: Level, format: Format) -> Self {
        match level {
            Level::Portable => portable::kernels(format),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::kernels(format),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => avx2::vnni_kernels(format),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::kernels(format),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => neon::kernels(format),
        }
    }
}
