//! Activations of some tokens, prepared once and multiplied by several matrices: as floats, and as integers with a
//! scale for each group of 32.
//!
//! The largest activation of a group is an integer of 16 bits, the others are integers of 8 bits. A few columns of
//! transformers are many times larger than the rest; the scale of a group must not grow with them, or the 31 others
//! lose the bits (the outliers of LLM.int8(), Dettmers et al. 2022). Where a matrix
//! wants remainders, what this rounding leaves over is rounded to integers of the same form: the sum of both is as
//! exact as an integer of 15 bits.

use std::fmt;

use super::kernels::{GROUP_BYTES, Number};
use super::{BLOCK_TOKENS, Forms, GROUP, Level, Parts, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// A cache line of a buffer.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// The input of matrix products.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    tokens: usize,
    columns: usize,
    forms: Forms,
    /// A vector a token, filled up to whole groups.
    floats: Vec<f32>,
    /// Blocks of [`BLOCK_TOKENS`] tokens, the last one with fewer; each is a run of groups. With remainders, a block
    /// is twice as wide: behind the tokens come their remainders, as if they were further tokens.
    integers: Vec<Line>,
}

/// A block of integer activations.
#[derive(Debug, Clone, Copy)]
pub(super) struct IntegerBlock<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) tokens: usize,
    /// The tokens, and their remainders if there are any.
    pub(super) width: usize,
}

impl Activations {
    /// Makes room for the input of matrices; what is in it means nothing until all of it is set.
    pub(crate) fn reset(&mut self, tokens: usize, columns: usize, forms: Forms) {
        (self.tokens, self.columns, self.forms) = (tokens, columns, forms);
        let groups = self.groups();
        if forms.floats {
            self.floats.resize(tokens * groups * GROUP, 0.0);
        }
        if forms.integers {
            let bytes = tokens * forms.terms() * groups * GROUP_BYTES;
            self.integers.resize(bytes.div_ceil(64), Line([0; 64]));
        }
    }

    /// Places to set, from several threads.
    pub(crate) fn slots(&mut self) -> Slots<'_> {
        let (tokens, columns, forms) = (self.tokens, self.columns, self.forms);
        Slots {
            tokens,
            columns,
            groups: columns.div_ceil(GROUP),
            terms: forms.terms(),
            floats: forms.floats.then(|| Parts::new(&mut self.floats)),
            integers: forms
                .integers
                .then(|| Parts::new(bytes_mut(&mut self.integers))),
        }
    }

    /// Takes vectors that lie one behind the other.
    #[cfg(test)]
    pub(crate) fn prepare(&mut self, level: Level, input: &[f32], columns: usize, forms: Forms) {
        self.reset(input.len() / columns.max(1), columns, forms);
        let slots = self.slots();
        for (token, values) in input.chunks_exact(columns.max(1)).enumerate() {
            // SAFETY: one thread sets each token once.
            unsafe { slots.set(level, token, 0, values) };
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.floats.capacity() * size_of::<f32>() + self.integers.capacity() * size_of::<Line>()
    }

    pub(crate) const fn tokens(&self) -> usize {
        self.tokens
    }

    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    pub(super) const fn groups(&self) -> usize {
        self.columns.div_ceil(GROUP)
    }

    /// Vectors of some tokens, each filled up to whole groups.
    pub(super) fn float_vectors(&self, tokens: std::ops::Range<usize>) -> &[f32] {
        assert!(self.forms.floats, "activations are not prepared as floats");
        let width = self.groups() * GROUP;
        &self.floats[tokens.start * width..tokens.end * width]
    }

    pub(super) fn integer_block(&self, block: usize) -> IntegerBlock<'_> {
        assert!(
            self.forms.integers,
            "activations are not prepared as integers"
        );
        let first = block * BLOCK_TOKENS;
        let tokens = BLOCK_TOKENS.min(self.tokens - first);
        let token_bytes = self.forms.terms() * self.groups() * GROUP_BYTES;
        let start = first * token_bytes;
        IntegerBlock {
            bytes: &bytes(&self.integers)[start..start + tokens * token_bytes],
            tokens,
            width: tokens * self.forms.terms(),
        }
    }
}

fn bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: a line is 64 bytes without padding, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines)) }
}

fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as above; every byte is valid in a line.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), size_of_val(lines)) }
}

/// Places of activations, which several threads set at the same time.
pub(crate) struct Slots<'a> {
    tokens: usize,
    columns: usize,
    groups: usize,
    /// Integers of a token: 2 with remainders.
    terms: usize,
    floats: Option<Parts<'a, f32>>,
    integers: Option<Parts<'a, u8>>,
}

impl fmt::Debug for Slots<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Slots")
            .field("tokens", &self.tokens)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

impl Slots<'_> {
    /// Sets some columns of a token: those from `first` on, which is a multiple of [`GROUP`], up to a multiple of it
    /// or to the last column.
    ///
    /// # Safety
    /// No other call sets the same columns of the same token at the same time.
    pub(crate) unsafe fn set(&self, level: Level, token: usize, first: usize, values: &[f32]) {
        let end = first + values.len();
        assert!(
            token < self.tokens
                && end <= self.columns
                && first.is_multiple_of(GROUP)
                && (end.is_multiple_of(GROUP) || end == self.columns),
            "activations outside their place"
        );
        if let Some(floats) = &self.floats {
            let start = (token * self.groups) * GROUP + first;
            let length = values.len().next_multiple_of(GROUP);
            // SAFETY: the columns belong to this call, and those that fill the last group to nobody else.
            let part = unsafe { floats.part(start..start + length) };
            part[..values.len()].copy_from_slice(values);
            part[values.len()..].fill(0.0);
        }
        if let Some(integers) = &self.integers {
            let (groups, rest) = values.as_chunks::<GROUP>();
            let place = self.place(token, first / GROUP);
            // SAFETY: the groups belong to this call and are inside the buffer, as asserted above.
            unsafe { quantize(level, groups, integers, place) };
            if !rest.is_empty() {
                let mut last = [0.0; GROUP];
                last[..rest.len()].copy_from_slice(rest);
                let place = self.place(token, self.groups - 1);
                // SAFETY: as above.
                unsafe { quantize(level, &[last], integers, place) };
            }
        }
    }

    fn place(&self, token: usize, group: usize) -> Place {
        let block = token / BLOCK_TOKENS;
        let tokens = BLOCK_TOKENS.min(self.tokens - block * BLOCK_TOKENS);
        let width = tokens * self.terms;
        let start = block * BLOCK_TOKENS * self.terms * self.groups * GROUP_BYTES;
        let token = token % BLOCK_TOKENS;
        Place {
            start: start + group * width * GROUP_BYTES,
            width,
            token,
            remainder: (self.terms == 2).then_some(tokens + token),
        }
    }
}

/// Where a token's group lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The first byte of the block's group.
    start: usize,
    /// The width of the block.
    width: usize,
    /// The token's number in the block.
    token: usize,
    /// The number of its remainder.
    remainder: Option<usize>,
}

/// A group of activations as integers.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(32))]
pub(super) struct Quantized {
    /// The integers, with zero in the place of the wide one.
    pub(super) codes: [i8; GROUP],
    pub(super) scale: f32,
    /// The sums of the first and of the second 16 integers, the wide one included.
    pub(super) sums: [i32; 2],
    pub(super) wide_column: u32,
    pub(super) wide: i16,
}

/// Quantizes groups and writes them to their places, one group behind the other.
///
/// # Safety
/// The groups' places are written by this call alone.
unsafe fn quantize(level: Level, groups: &[[f32; GROUP]], integers: &Parts<'_, u8>, place: Place) {
    // SAFETY: the caller's promise; levels are only made where the processor has their instructions.
    unsafe {
        match level {
            Level::Portable => write_groups(groups, integers, place, portable::quantize),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::AvxVnni => avx2::quantize(groups, integers, place),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::quantize(groups, integers, place),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => write_groups(groups, integers, place, portable::quantize),
        }
    }
}

/// Writes groups as `quantize` makes them; inlined into functions that are compiled for wide instructions.
///
/// # Safety
/// The groups' places are written by this call alone.
#[inline(always)]
pub(super) unsafe fn write_groups(
    groups: &[[f32; GROUP]],
    integers: &Parts<'_, u8>,
    place: Place,
    quantize: impl Fn(&[f32; GROUP]) -> Quantized,
) {
    let Place {
        start,
        width,
        token,
        remainder,
    } = place;
    let group_bytes = width * GROUP_BYTES;
    let mut place = integers.place(start..start + groups.len() * group_bytes);
    for values in groups {
        let group = quantize(values);
        // SAFETY: all of it is inside the group, and the caller promises that nobody else writes a token's.
        unsafe {
            group.write(place, width, token);
            if let Some(token) = remainder {
                quantize(&group.remainder(values)).write(place, width, token);
            }
        }
        place = place.wrapping_add(group_bytes);
    }
}

impl Quantized {
    /// What rounding took from the numbers.
    #[inline(always)]
    fn remainder(&self, values: &[f32; GROUP]) -> [f32; GROUP] {
        let mut rest = *values;
        for (rest, code) in rest.iter_mut().zip(self.codes) {
            *rest -= self.scale * f32::from(code);
        }
        rest[self.wide_column as usize] -= self.scale * f32::from(self.wide);
        rest
    }

    /// Writes a token's part of a group in a block of `width` tokens.
    ///
    /// # Safety
    /// The group lies at `place`, and nobody else writes the token's part of it.
    #[inline(always)]
    unsafe fn write(&self, place: *mut u8, width: usize, token: usize) {
        let [low, high] = self.sums;
        let scaled = (low + high) as f32 * self.scale;
        let wide = u32::from(self.wide.cast_unsigned());
        let numbers = [
            (Number::Scale, self.scale.to_bits()),
            (Number::ScaledSum, scaled.to_bits()),
            (Number::LowOffset, (-128 * low).cast_unsigned()),
            (Number::HighOffset, (-128 * high).cast_unsigned()),
            (Number::WideColumn, self.wide_column),
            (Number::Wide, wide),
        ];
        // SAFETY: the caller's promise.
        unsafe {
            let codes: *mut [i8; GROUP] = place.add(token * GROUP).cast();
            codes.write_unaligned(self.codes);
            for (number, bits) in numbers {
                let number = place.add(number.place(width, token));
                number.cast::<u32>().write_unaligned(bits);
            }
        }
    }
}
