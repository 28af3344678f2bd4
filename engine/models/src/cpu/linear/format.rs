//! Tiles: how 16 rows × 32 columns of weights lie in memory.
//!
//! Integers come first, then the scales of the 16 rows as 16-bit floats, then what the format has besides. Integers
//! are in the order of `columns / 4, row, columns % 4`, so that 64 bytes hold 4 columns of all rows. A byte of 4-bit
//! integers holds column `c` in its low and column `c + 16` in its high half. A byte of 8-bit integers holds the
//! integer plus 128. Tiles of floats are in the order of `column, row`.

use super::{GROUP, STRIPE_ROWS};

/// Bytes of a tile's integers of 8 bits.
pub(super) const BYTE_CODES: usize = STRIPE_ROWS * GROUP;
/// Bytes of a tile's integers of 4 bits.
pub(super) const NIBBLE_CODES: usize = BYTE_CODES / 2;
/// Bytes of a 16-bit float for each row.
pub(super) const ROW_HALVES: usize = 2 * STRIPE_ROWS;

/// How a tile stores weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `scale · (0..=15 − 8)`.
    Nibbles,
    /// `scale · 0..=15 + minimum`.
    NibblesWithMinimum,
    /// `scale · −128..=127`.
    Bytes,
    /// `scale · −128..=127 + minimum`.
    BytesWithMinimum,
    /// `scale · −128..=127`, with a scale for the first 16 columns and one for the others.
    BytesInHalves,
    /// 16-bit floats.
    Half,
    /// The upper halves of 32-bit floats.
    Brain,
    /// 32-bit floats.
    Single,
}

impl Format {
    pub(super) const fn is_integer(self) -> bool {
        match self {
            Self::Nibbles
            | Self::NibblesWithMinimum
            | Self::Bytes
            | Self::BytesWithMinimum
            | Self::BytesInHalves => true,
            Self::Half | Self::Brain | Self::Single => false,
        }
    }

    pub(super) const fn is_nibbles(self) -> bool {
        matches!(self, Self::Nibbles | Self::NibblesWithMinimum)
    }

    pub(super) const fn tile_bytes(self) -> usize {
        match self {
            Self::Nibbles => NIBBLE_CODES + ROW_HALVES,
            Self::NibblesWithMinimum => NIBBLE_CODES + 2 * ROW_HALVES,
            Self::Bytes => BYTE_CODES + ROW_HALVES,
            Self::BytesWithMinimum | Self::BytesInHalves => BYTE_CODES + 2 * ROW_HALVES,
            Self::Half | Self::Brain => 2 * STRIPE_ROWS * GROUP,
            Self::Single => 4 * STRIPE_ROWS * GROUP,
        }
    }
}

// Formats as numbers: what kernels are compiled for.

pub(super) const NIBBLES: u8 = 0;
pub(super) const NIBBLES_WITH_MINIMUM: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const BYTES_WITH_MINIMUM: u8 = 3;
pub(super) const BYTES_IN_HALVES: u8 = 4;

pub(super) const HALF: u8 = 0;
pub(super) const BRAIN: u8 = 1;
pub(super) const SINGLE: u8 = 2;

pub(super) const fn tile_bytes(format: u8) -> usize {
    match format {
        NIBBLES => Format::Nibbles.tile_bytes(),
        NIBBLES_WITH_MINIMUM => Format::NibblesWithMinimum.tile_bytes(),
        BYTES => Format::Bytes.tile_bytes(),
        BYTES_WITH_MINIMUM => Format::BytesWithMinimum.tile_bytes(),
        _ => Format::BytesInHalves.tile_bytes(),
    }
}

pub(super) const fn is_nibbles(format: u8) -> bool {
    matches!(format, NIBBLES | NIBBLES_WITH_MINIMUM)
}

pub(super) const fn float_bytes(format: u8) -> usize {
    match format {
        HALF | BRAIN => 2,
        _ => 4,
    }
}
