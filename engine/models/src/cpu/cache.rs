//! The paged cache of keys and values.
//!
//! A block's numbers lie together: layer by layer, head by head, keys before values. Keys are turned around in groups
//! of sixteen places, so that a vector holds one number of sixteen keys; values lie one behind the other, each filled
//! up to whole vectors. So a block is copied at once, and attention reads its memory in one direction.
#![expect(unsafe_code, reason = "several threads write to places of their own")]

use std::ops::Range;

use engine_core::BlockId;

use crate::backend::CacheShape;
use crate::config::ModelConfig;

use super::Arithmetic;
use super::parallel::Parts;
use super::simd::{LANES, Simd};

/// A number in the cache.
pub(crate) trait Element: Copy + Default + Send + Sync + 'static {
    fn load<S: Simd>(numbers: &[Self; LANES]) -> S::Vector;
    fn store<S: Simd>(vector: S::Vector, numbers: &mut [Self; LANES]);
    /// The highest finite number. Nothing else is written, because attention multiplies what it must not see by zero.
    const HIGHEST: f32;
}

impl Element for f32 {
    const HIGHEST: Self = Self::MAX;

    #[inline(always)]
    fn load<S: Simd>(numbers: &[Self; LANES]) -> S::Vector {
        S::load(numbers)
    }

    #[inline(always)]
    fn store<S: Simd>(vector: S::Vector, numbers: &mut [Self; LANES]) {
        S::store(vector, numbers);
    }
}

/// The bits of a 16-bit float.
impl Element for u16 {
    const HIGHEST: f32 = 65504.0;

    #[inline(always)]
    fn load<S: Simd>(numbers: &[Self; LANES]) -> S::Vector {
        S::load_half(numbers)
    }

    #[inline(always)]
    fn store<S: Simd>(vector: S::Vector, numbers: &mut [Self; LANES]) {
        S::store_half(vector, numbers);
    }
}

/// Where numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    blocks: usize,
    layers: usize,
    heads: usize,
    /// Tokens that a block holds.
    pub(crate) block_tokens: usize,
    /// Places of a block: tokens, filled up to whole groups of [`LANES`].
    pub(crate) slots: usize,
    /// Numbers of a key.
    pub(crate) width: usize,
    /// Numbers of a value, filled up to whole vectors.
    pub(crate) padded: usize,
}

impl Layout {
    pub(crate) const fn new(config: &ModelConfig, shape: CacheShape) -> Self {
        Self {
            blocks: shape.blocks,
            layers: config.layers,
            heads: config.key_value_heads,
            block_tokens: shape.block_tokens,
            slots: shape.block_tokens.next_multiple_of(LANES),
            width: config.head_width,
            padded: config.head_width.next_multiple_of(LANES),
        }
    }

    /// Numbers of a block.
    pub(crate) const fn block_length(&self) -> usize {
        self.layers * self.heads * self.head_length()
    }

    const fn head_length(&self) -> usize {
        self.slots * (self.width + self.padded)
    }

    /// Where the keys of one head in one layer of a block begin.
    const fn head_start(&self, block: BlockId, layer: usize, head: usize) -> usize {
        (block.index() * self.layers + layer) * self.heads * self.head_length()
            + head * self.head_length()
    }

    const fn keys_length(&self) -> usize {
        self.slots * self.width
    }
}

/// Keys and values of all layers.
#[derive(Debug)]
pub(crate) enum Cache {
    /// 32-bit floats.
    Single(Pages<f32>),
    /// 16-bit floats.
    Half(Pages<u16>),
}

/// The memory of a cache.
#[derive(Debug)]
pub(crate) struct Pages<E> {
    pub(crate) layout: Layout,
    numbers: Vec<E>,
}

/// One head of one layer in one block.
pub(crate) struct HeadBlock<'a, E> {
    /// For each group of sixteen slots: for each number of a key, those of the sixteen keys.
    pub(crate) keys: &'a [E],
    /// For each slot a value.
    pub(crate) values: &'a [E],
}

impl Cache {
    /// Reserves the memory. The system gives it when it is touched, because it is zeroed.
    pub(crate) fn new(layout: Layout, arithmetic: Arithmetic) -> Self {
        let length = layout.blocks * layout.block_length();
        match arithmetic {
            Arithmetic::F32 => Self::Single(Pages {
                layout,
                numbers: vec![0.0; length],
            }),
            Arithmetic::Int8 => Self::Half(Pages {
                layout,
                numbers: vec![0; length],
            }),
        }
    }

    /// Bytes of a block.
    pub(crate) const fn block_bytes(layout: &Layout, arithmetic: Arithmetic) -> usize {
        let number = match arithmetic {
            Arithmetic::F32 => size_of::<f32>(),
            Arithmetic::Int8 => size_of::<u16>(),
        };
        layout.block_length() * number
    }

    /// Bytes that are reserved.
    pub(crate) const fn bytes(&self) -> usize {
        match self {
            Self::Single(pages) => size_of::<f32>() * pages.numbers.len(),
            Self::Half(pages) => size_of::<u16>() * pages.numbers.len(),
        }
    }

    /// Copies a block's numbers.
    pub(crate) fn read_block(&self, block: BlockId, bytes: &mut [u8]) {
        match self {
            Self::Single(pages) => {
                let numbers = bytes.as_chunks_mut().0.iter_mut();
                let block = &pages.numbers[pages.block(block)];
                numbers
                    .zip(block)
                    .for_each(|(bytes, number)| *bytes = number.to_ne_bytes());
            }
            Self::Half(pages) => {
                let numbers = bytes.as_chunks_mut().0.iter_mut();
                let block = &pages.numbers[pages.block(block)];
                numbers
                    .zip(block)
                    .for_each(|(bytes, number)| *bytes = number.to_ne_bytes());
            }
        }
    }

    /// Replaces a block's numbers.
    pub(crate) fn write_block(&mut self, block: BlockId, bytes: &[u8]) {
        match self {
            Self::Single(pages) => {
                let range = pages.block(block);
                let block = pages.numbers[range].iter_mut();
                block
                    .zip(bytes.as_chunks().0)
                    .for_each(|(number, bytes)| *number = f32::from_ne_bytes(*bytes));
            }
            Self::Half(pages) => {
                let range = pages.block(block);
                let block = pages.numbers[range].iter_mut();
                block
                    .zip(bytes.as_chunks().0)
                    .for_each(|(number, bytes)| *number = u16::from_ne_bytes(*bytes));
            }
        }
    }
}

impl<E: Element> Pages<E> {
    fn block(&self, block: BlockId) -> Range<usize> {
        let length = self.layout.block_length();
        block.index() * length..(block.index() + 1) * length
    }

    /// One head of one layer in a block.
    #[inline(always)]
    pub(crate) fn head(&self, block: BlockId, layer: usize, head: usize) -> HeadBlock<'_, E> {
        let start = self.layout.head_start(block, layer, head);
        let all = &self.numbers[start..start + self.layout.head_length()];
        let (keys, values) = all.split_at(self.layout.keys_length());
        HeadBlock { keys, values }
    }

    /// Places of keys and values to write, from several threads.
    pub(crate) fn slots(&mut self) -> Slots<'_, E> {
        Slots {
            layout: self.layout,
            numbers: Parts::new(&mut self.numbers),
        }
    }
}

/// Places of keys and values, which several threads write.
pub(crate) struct Slots<'a, E> {
    layout: Layout,
    numbers: Parts<'a, E>,
}

/// A token's place in the cache, in one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) block: BlockId,
    pub(crate) slot: usize,
    pub(crate) layer: usize,
}

impl<E: Element> Slots<'_, E> {
    /// Writes the key and the value of one head of a token.
    ///
    /// # Safety
    /// No other call writes or reads the same token at the same time.
    #[inline(always)]
    pub(crate) unsafe fn write<S: Simd>(
        &self,
        place: Place,
        head: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let Layout { width, padded, .. } = self.layout;
        let Place { block, slot, layer } = place;
        let start = self.layout.head_start(block, layer, head);
        let group = start + slot / LANES * LANES * width + slot % LANES;
        for (number, chunk) in key[..width].chunks(LANES).enumerate() {
            let numbers = rounded::<S, E>(chunk);
            for (offset, number_bits) in numbers.iter().enumerate().take(chunk.len()) {
                let at = group + (number * LANES + offset) * LANES;
                // SAFETY: the caller promises that nobody else accesses this token.
                let part = unsafe { self.numbers.part(at..at + 1) };
                part[0] = *number_bits;
            }
        }
        let at = start + self.layout.keys_length() + slot * padded;
        // SAFETY: as above.
        let part = unsafe { self.numbers.part(at..at + padded) };
        for (out, chunk) in part.as_chunks_mut().0.iter_mut().zip(value.chunks(LANES)) {
            *out = rounded::<S, E>(chunk);
        }
    }
}

/// Up to sixteen numbers as the cache stores them, filled up with zeros; what is not finite becomes the highest or
/// the lowest number.
#[inline(always)]
fn rounded<S: Simd, E: Element>(numbers: &[f32]) -> [E; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..numbers.len()].copy_from_slice(numbers);
    let vector = S::highest_of(S::load(&lanes), S::splat(-E::HIGHEST));
    let vector = S::lowest_of(vector, S::splat(E::HIGHEST));
    let mut out = [E::default(); LANES];
    E::store::<S>(vector, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use engine_core::BlockPool;

    use super::{Cache, Layout, Place};
    use crate::cpu::Arithmetic;
    use crate::cpu::level::Level;
    use crate::cpu::simd::{Kernel, Simd, run};

    const LAYOUT: Layout = Layout {
        blocks: 3,
        layers: 2,
        heads: 2,
        block_tokens: 20,
        slots: 32,
        width: 24,
        padded: 32,
    };

    struct Write<'a>(&'a mut Cache, Place, &'a [f32]);

    impl Kernel for Write<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            let Self(cache, place, key) = self;
            let value: Vec<f32> = key.iter().map(|number| -number).collect();
            match cache {
                // SAFETY: one thread writes.
                Cache::Single(pages) => unsafe { pages.slots().write::<S>(place, 1, key, &value) },
                // SAFETY: one thread writes.
                Cache::Half(pages) => unsafe { pages.slots().write::<S>(place, 1, key, &value) },
            }
        }
    }

    #[test]
    fn a_block_that_is_read_and_written_elsewhere_holds_the_same() {
        let blocks = BlockPool::new(3, NonZeroU32::new(20).unwrap())
            .lend(3)
            .unwrap();
        let key: Vec<f32> = (0..24).map(|number| number as f32 / 8.0).collect();
        for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
            let mut cache = Cache::new(LAYOUT, arithmetic);
            let place = Place {
                block: blocks[1],
                slot: 17,
                layer: 1,
            };
            run(Level::detect(), Write(&mut cache, place, &key));
            let mut bytes = vec![0; Cache::block_bytes(&LAYOUT, arithmetic)];
            cache.read_block(blocks[1], &mut bytes);
            assert!(bytes.iter().any(|byte| *byte != 0));
            let mut other = Cache::new(LAYOUT, arithmetic);
            other.write_block(blocks[2], &bytes);
            let mut again = vec![0; bytes.len()];
            other.read_block(blocks[2], &mut again);
            assert!(again == bytes);
            other.read_block(blocks[1], &mut again);
            assert!(again.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn keys_lie_number_by_number_and_values_place_by_place() {
        let blocks = BlockPool::new(3, NonZeroU32::new(20).unwrap())
            .lend(3)
            .unwrap();
        let mut key: Vec<f32> = (0..24).map(|number| number as f32 / 8.0).collect();
        key[3] = f32::INFINITY;
        key[4] = f32::NAN;
        let mut cache = Cache::new(LAYOUT, Arithmetic::Int8);
        let place = Place {
            block: blocks[2],
            slot: 17,
            layer: 1,
        };
        run(Level::detect(), Write(&mut cache, place, &key));
        let Cache::Half(pages) = &cache else {
            panic!("another kind of cache");
        };
        let head = pages.head(blocks[2], 1, 1);
        let number = |bits: u16| half::f16::from_bits(bits).to_f32();
        assert_eq!(number(head.keys[16 * 24 + 10 * 16 + 1]), key[10]);
        assert_eq!(number(head.keys[16 * 24 + 3 * 16 + 1]), 65504.0);
        assert_eq!(number(head.keys[16 * 24 + 4 * 16 + 1]), -65504.0);
        assert_eq!(number(head.values[17 * 32 + 23]), -key[23]);
        assert_eq!(number(head.values[17 * 32 + 24]), 0.0);
    }
}
