//! The choice of a kernel: a function that multiplies one stripe with up to 16 tokens.

use super::format::Format;
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::{BLOCK_TOKENS, Level, STRIPE_ROWS, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Bytes of one token's group in a block of activations: 32 integers, the scale, the scaled sum, and −128 times the
/// sums of both halves.
pub(super) const GROUP_BYTES: usize = 48;

/// A result for each row of a stripe, for each token of a block.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[f32; STRIPE_ROWS]; BLOCK_TOKENS]);

/// A stripe of integers and a block of activations. A group of the block holds, for each of its `width` tokens, the
/// integers, then the scales, the scaled sums, and −128 times the sums of the first and of the second 16 integers.
pub(super) struct IntegerStripe<'a> {
    pub(super) tiles: &'a [u8],
    pub(super) groups: usize,
    pub(super) block: &'a [u8],
    pub(super) width: usize,
    /// The first token of the block to multiply.
    pub(super) first: usize,
    /// How many tokens to multiply.
    pub(super) count: usize,
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
    Integers(unsafe fn(&IntegerStripe<'_>, &mut Sums)),
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
