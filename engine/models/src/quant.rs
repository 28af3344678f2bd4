//! Tensor types: how ggml stores numbers in blocks, and how blocks become numbers.
//!
//! Source: the block layouts of ggml (`ggml-common.h`, `ggml-quants.c`). A block has a scale, often a minimum, and
//! small integers; K-quants have 256 numbers in a block with 8 or 16 small scales of their own.

mod blocks;
#[cfg(test)]
mod tests;

use std::hint;

pub(crate) use blocks::{scale_and_minimum, six_bit_codes};

/// How a tensor's numbers are stored.
#[expect(
    non_camel_case_types,
    reason = "the names of ggml, which everybody uses"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorKind {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    BF16,
    /// 4 bits and a scale for 32 numbers.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32 numbers.
    Q4_1,
    /// 5 bits and a scale for 32 numbers.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32 numbers.
    Q5_1,
    /// 8 bits and a scale for 32 numbers.
    Q8_0,
    /// 4 bits in blocks of 256, with scales and minima for each 32.
    Q4_K,
    /// 5 bits in blocks of 256, with scales and minima for each 32.
    Q5_K,
    /// 6 bits in blocks of 256, with scales for each 16.
    Q6_K,
}

impl TensorKind {
    /// The kind with a number in ggml, if we compute with it.
    pub const fn from_ggml(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// The kind's number in ggml.
    pub const fn to_ggml(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4_K => 12,
            Self::Q5_K => 13,
            Self::Q6_K => 14,
            Self::BF16 => 30,
        }
    }

    /// Numbers in a block.
    pub const fn block_length(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Bytes of a row of `columns` numbers, which are whole blocks.
    pub const fn row_bytes(self, columns: usize) -> usize {
        columns / self.block_length() * self.block_bytes()
    }
}

/// Turns whole blocks into numbers; what does not fit into either slice is left out.
#[inline(always)]
pub fn dequantize(kind: TensorKind, bytes: &[u8], out: &mut [f32]) {
    match kind {
        TensorKind::F32 => each::<4, 1>(bytes, out, blocks::f32),
        TensorKind::F16 => each::<2, 1>(bytes, out, blocks::f16),
        TensorKind::BF16 => each::<2, 1>(bytes, out, blocks::bf16),
        TensorKind::Q4_0 => each::<18, 32>(bytes, out, blocks::q4_0),
        TensorKind::Q4_1 => each::<20, 32>(bytes, out, blocks::q4_1),
        TensorKind::Q5_0 => each::<22, 32>(bytes, out, blocks::q5_0),
        TensorKind::Q5_1 => each::<24, 32>(bytes, out, blocks::q5_1),
        TensorKind::Q8_0 => each::<34, 32>(bytes, out, blocks::q8_0),
        TensorKind::Q4_K => each::<144, 256>(bytes, out, blocks::q4_k),
        TensorKind::Q5_K => each::<176, 256>(bytes, out, blocks::q5_k),
        TensorKind::Q6_K => each::<210, 256>(bytes, out, blocks::q6_k),
    }
}

/// Applies `decode` to each block. Inlined into callers that may use wide instructions, so that it is compiled
/// with them.
#[inline(always)]
fn each<const BYTES: usize, const LENGTH: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LENGTH]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (values, _) = out.as_chunks_mut::<LENGTH>();
    for (block, values) in blocks.iter().zip(values) {
        // Without the fence the compiler works on eight blocks at once and scatters their numbers, which takes four
        // times as long.
        decode(hint::black_box(block), values);
    }
}
