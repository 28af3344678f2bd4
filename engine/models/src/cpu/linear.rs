//! Matrix products: packed weights times the prepared activations of some tokens.
//!
//! A packed matrix is stored as stripes of 16 rows; a stripe is a run of tiles of 16 rows × 32 columns. Tiles lie in
//! memory in the order in which they are read: those of integers alternate between the two stripes of a pair. Integer
//! products are exact, and each result adds up its groups of 32 columns in one order with fused operations, so it is the
//! same number whatever the batch, the chunking, the number of threads or the instructions.
#![expect(
    unsafe_code,
    reason = "results and activations are written in place; kernels use wide instructions"
)]

mod activations;
mod arena;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dense;
mod format;
mod kernels;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::weights::Matrix;

use super::level::Level;
use super::parallel::Parts;

pub(crate) use activations::{Activations, Slots};
pub(crate) use pack::{Source, pack_all};

use arena::Section;
use format::Format;
use kernels::{FloatStripe, IntegerStripes, Kernels, Sums};

/// Rows of a stripe.
const STRIPE_ROWS: usize = 16;
/// Rows of a pair of stripes: chunks of a product begin at multiples of this number.
pub(crate) const PAIR_ROWS: usize = PAIR * STRIPE_ROWS;
/// Stripes of a pair, which a kernel takes at a time.
const PAIR: usize = 2;
/// Columns with one scale: gated products are computed in multiples of this number of rows.
pub(crate) const GROUP: usize = 32;
/// Tokens whose activations lie together: parallel loops that set [`Slots`] best take whole blocks.
pub(crate) const BLOCK_TOKENS: usize = 16;
/// Tokens that share the decoding of rows in a gated product.
const DECODED_TOKENS: usize = 128;

/// A matrix that is ready to multiply.
#[derive(Debug)]
pub(crate) struct Packed {
    rows: usize,
    columns: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Rows in the file, decoded at each use.
    InFile(Matrix),
    /// Tiles in memory.
    Tiles {
        format: Format,
        tiles: Section,
        /// Whether what rounding takes from the activations is multiplied, too.
        remainders: bool,
    },
}

/// What a matrix multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Forms {
    /// Activations as they are.
    pub(crate) floats: bool,
    /// Activations of 8 bits.
    pub(crate) integers: bool,
    /// What these leave over, as further integers.
    pub(crate) remainders: bool,
}

impl Forms {
    /// Integers that an activation becomes.
    const fn terms(self) -> usize {
        if self.remainders { 2 } else { 1 }
    }

    /// What several matrices together need of their common input.
    pub(crate) fn of<'a>(matrices: impl IntoIterator<Item = &'a Packed>) -> Self {
        let mut forms = Self::default();
        for matrix in matrices {
            let Self {
                floats,
                integers,
                remainders,
            } = matrix.forms();
            forms.floats |= floats;
            forms.integers |= integers;
            forms.remainders |= remainders;
        }
        forms
    }
}

impl Packed {
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    #[cfg(test)]
    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes that a product reads.
    pub(crate) fn bytes(&self) -> usize {
        match &self.body {
            Body::InFile(matrix) => matrix.row_bytes(0..self.rows).len(),
            Body::Tiles { tiles, .. } => tiles.bytes().len(),
        }
    }

    /// What this matrix multiplies.
    pub(crate) const fn forms(&self) -> Forms {
        let (integers, remainders) = match &self.body {
            Body::InFile(_) => (false, false),
            Body::Tiles {
                format, remainders, ..
            } => (format.is_integer(), *remainders),
        };
        Forms {
            floats: !integers,
            integers,
            remainders,
        }
    }
}

/// What happens to numbers that are in the output already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// They are replaced.
    Set,
    /// The product is added to them.
    Add,
}

/// The product of a matrix with the activations of some tokens.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) matrix: &'a Packed,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) input: &'a Activations,
    /// A vector with a number for each row of the matrix a token.
    pub(crate) output: &'a Parts<'a, f32>,
    pub(crate) mode: Output,
}

/// The element-wise combination of the products of two matrices, which becomes the input of a third one.
#[derive(Clone, Copy)]
pub(crate) struct Gated<'a> {
    pub(crate) gate: &'a Packed,
    pub(crate) up: &'a Packed,
    pub(crate) gate_bias: Option<&'a [f32]>,
    pub(crate) up_bias: Option<&'a [f32]>,
    pub(crate) input: &'a Activations,
    /// Puts `activation(gate) · up` in the place of `gate`; both are as long as a chunk has rows, or shorter.
    pub(crate) combine: &'a (dyn Fn(&mut [f32], &[f32]) + Sync),
    pub(crate) output: &'a Slots<'a>,
}

/// Computes some rows of a product for all tokens. `rows` begins at a multiple of [`PAIR_ROWS`] and ends at one or
/// at the last row; no other chunk of the loop computes these rows. Bring the same `scratch` each time.
pub(crate) fn multiply(
    level: Level,
    product: &Product<'_>,
    rows: Range<usize>,
    scratch: &mut Vec<f32>,
) {
    let width = product.matrix.rows;
    let store = |first: usize, token: usize, sums: &[f32]| {
        let place = token * width + first;
        // SAFETY: rows belong to one chunk each, so these numbers are written by this chunk alone.
        let part = unsafe { product.output.part(place..place + sums.len()) };
        match product.mode {
            Output::Set => copy(part, sums),
            Output::Add => part
                .iter_mut()
                .zip(sums)
                .for_each(|(part, sum)| *part += sum),
        }
    };
    let mut sums = <[Sums; PAIR]>::default();
    let tokens = 0..product.input.tokens();
    let factors = Factors {
        matrix: product.matrix,
        bias: product.bias,
        input: product.input,
    };
    let memory = Memory {
        scratch: room(scratch, dense::scratch_length(factors.matrix.columns)),
        sums: &mut sums,
    };
    each_result(level, &factors, (rows, tokens), memory, store);
}

/// Computes some rows of a gated product for all tokens and sets them in the output. `rows` begins at a multiple of
/// [`GROUP`] and ends at one or at the last row; no other chunk of the loop computes these rows.
pub(crate) fn multiply_gated(
    level: Level,
    product: &Gated<'_>,
    rows: Range<usize>,
    scratch: &mut Vec<f32>,
) {
    let (count, columns) = (rows.len(), product.gate.columns);
    let step = match product.gate.body {
        Body::InFile(_) => DECODED_TOKENS,
        Body::Tiles { .. } => BLOCK_TOKENS,
    };
    let (gate, rest) =
        room(scratch, 2 * step * count + dense::scratch_length(columns)).split_at_mut(step * count);
    let (up, scratch) = rest.split_at_mut(step * count);
    let tokens = product.input.tokens();
    let mut sums = <[Sums; PAIR]>::default();
    for first in (0..tokens).step_by(step) {
        let block = first..(first + step).min(tokens);
        let sides = [
            (product.gate, product.gate_bias, &mut *gate),
            (product.up, product.up_bias, &mut *up),
        ];
        for (matrix, bias, results) in sides {
            let factors = Factors {
                matrix,
                bias,
                input: product.input,
            };
            let chunk = (rows.clone(), block.clone());
            let memory = Memory {
                scratch: &mut *scratch,
                sums: &mut sums,
            };
            each_result(level, &factors, chunk, memory, |row, token, sums| {
                let place = (token - block.start) * count + row - rows.start;
                copy(&mut results[place..place + sums.len()], sums);
            });
        }
        let vectors = gate.chunks_exact_mut(count).zip(up.chunks_exact(count));
        for (token, (gate, up)) in block.zip(vectors) {
            (product.combine)(gate, up);
            // SAFETY: rows belong to one chunk each, so these columns are set by this chunk alone.
            unsafe { product.output.set(level, token, rows.start, gate) };
        }
    }
}

/// The first numbers of a buffer that grows as needed.
fn room(scratch: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if scratch.len() < length {
        scratch.resize(length, 0.0);
    }
    &mut scratch[..length]
}

/// Copies the results of a stripe, which has nearly always all its rows.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    match (to.first_chunk_mut::<STRIPE_ROWS>(), from.first_chunk()) {
        (Some(to), Some(from)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// Memory that is used again and again.
struct Memory<'a> {
    scratch: &'a mut [f32],
    sums: &'a mut [Sums; PAIR],
}

/// What is multiplied.
struct Factors<'a> {
    matrix: &'a Packed,
    bias: Option<&'a [f32]>,
    input: &'a Activations,
}

/// Computes some rows for some tokens and hands out the results, up to 16 rows of a token at a time: the first row,
/// the token, the sums.
fn each_result(
    level: Level,
    factors: &Factors<'_>,
    chunk: (Range<usize>, Range<usize>),
    memory: Memory<'_>,
    mut store: impl FnMut(usize, usize, &[f32]),
) {
    let Factors {
        matrix,
        bias,
        input,
    } = *factors;
    assert_eq!(
        matrix.columns,
        input.columns(),
        "a matrix and activations of different widths"
    );
    let (rows, tokens) = chunk;
    let Memory { scratch, sums } = memory;
    let mut finish = |row: usize, token: usize, sums: &mut [f32]| {
        if let Some(bias) = bias {
            let bias = &bias[row..row + sums.len()];
            sums.iter_mut()
                .zip(bias)
                .for_each(|(sum, bias)| *sum += bias);
        }
        store(row, token, sums);
    };
    match &matrix.body {
        Body::InFile(matrix) => {
            dense::multiply(level, matrix, input, (rows, tokens), scratch, finish);
        }
        Body::Tiles {
            format,
            tiles,
            remainders,
        } => {
            let stripes = Stripes {
                kernels: Kernels::of(level, *format),
                remainders: *remainders,
                tiles: tiles.bytes(),
                bytes: matrix.columns.div_ceil(GROUP) * format.tile_bytes(),
                input,
            };
            for block in blocks(tokens) {
                for first in rows.clone().step_by(PAIR_ROWS) {
                    let count = (rows.end - first).div_ceil(STRIPE_ROWS).min(PAIR);
                    let sums = &mut sums[..count];
                    stripes.multiply(first / STRIPE_ROWS, block.clone(), sums);
                    for (stripe, sums) in sums.iter_mut().enumerate() {
                        let first = first + stripe * STRIPE_ROWS;
                        let count = STRIPE_ROWS.min(rows.end - first);
                        for (token, sums) in block.clone().zip(&mut sums.0) {
                            finish(first, token, &mut sums[..count]);
                        }
                    }
                }
            }
        }
    }
}

/// Cuts a range of tokens where blocks of activations end.
fn blocks(tokens: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut next = tokens.start;
    std::iter::from_fn(move || {
        let first = next;
        next = (first / BLOCK_TOKENS * BLOCK_TOKENS + BLOCK_TOKENS).min(tokens.end);
        (first < tokens.end).then_some(first..next)
    })
}

/// The stripes of a matrix and what they are multiplied with.
struct Stripes<'a> {
    kernels: Kernels,
    /// Whether the remainders of activations are multiplied, too.
    remainders: bool,
    tiles: &'a [u8],
    /// Bytes of a stripe.
    bytes: usize,
    input: &'a Activations,
}

impl Stripes<'_> {
    /// The products of one or two stripes with some tokens of one block, in the first places of the sums.
    fn multiply(&self, first: usize, tokens: Range<usize>, sums: &mut [Sums]) {
        let Self {
            kernels,
            remainders,
            tiles,
            bytes,
            input,
        } = *self;
        let tiles = &tiles[first * bytes..(first + sums.len()) * bytes];
        match kernels {
            Kernels::Integers(kernel) => {
                let block = input.integer_block(tokens.start / BLOCK_TOKENS);
                let (first, count) = (tokens.start % BLOCK_TOKENS, tokens.len());
                let multiply = |first: usize, count: usize, sums: &mut [Sums]| {
                    let stripes = IntegerStripes {
                        tiles,
                        groups: input.groups(),
                        block: block.bytes,
                        width: block.width,
                        first,
                        count,
                    };
                    // SAFETY: levels are only made where the processor has their instructions.
                    unsafe { kernel(&stripes, sums) };
                };
                if !remainders {
                    multiply(first, count, sums);
                } else if count == block.tokens && 2 * count <= BLOCK_TOKENS {
                    multiply(0, 2 * count, sums);
                    for sums in sums {
                        let (sums, rest) = sums.0.split_at_mut(count);
                        add(sums, rest);
                    }
                } else {
                    multiply(first, count, sums);
                    let mut rests = <[Sums; PAIR]>::default();
                    let rests = &mut rests[..sums.len()];
                    multiply(block.tokens + first, count, rests);
                    for (sums, rest) in sums.iter_mut().zip(rests) {
                        add(&mut sums.0[..count], &rest.0);
                    }
                }
            }
            Kernels::Floats(kernel) => {
                for (tiles, sums) in tiles.chunks_exact(bytes).zip(sums) {
                    let stripe = FloatStripe {
                        tiles,
                        groups: input.groups(),
                        input: input.float_vectors(tokens.clone()),
                        count: tokens.len(),
                    };
                    // SAFETY: levels are only made where the processor has their instructions.
                    unsafe { kernel(&stripe, sums) };
                }
            }
        }
    }
}

/// Adds the products of remainders to those of their tokens.
fn add(sums: &mut [[f32; STRIPE_ROWS]], rests: &[[f32; STRIPE_ROWS]]) {
    for (sums, rests) in sums.iter_mut().zip(rests) {
        sums.iter_mut()
            .zip(rests)
            .for_each(|(sum, rest)| *sum += rest);
    }
}
