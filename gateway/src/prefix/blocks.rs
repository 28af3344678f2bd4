//! Blocks: cuts a text that comes in pieces into blocks of one size and hashes each, copying only what a block's border
//! splits.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// Bytes in a block: about 64 tokens of English, four of an engine's usual blocks.
pub(super) const BLOCK_BYTES: usize = 256;
/// Blocks of one text that are hashed: 1 MiB, about 256k tokens.
pub(super) const BLOCKS_MAX: usize = (1 << 20) / BLOCK_BYTES;

/// The hashes of a text's blocks, each of its block alone.
#[derive(Debug)]
pub(super) struct Blocks {
    hashes: Vec<u64>,
    pending: [u8; BLOCK_BYTES],
    pending_length: usize,
    bytes: usize,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            hashes: Vec::new(),
            pending: [0; BLOCK_BYTES],
            pending_length: 0,
            bytes: 0,
        }
    }
}

impl Blocks {
    /// Adds a piece of the text; over the limit it is only counted.
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len();
        if self.hashes.len() == BLOCKS_MAX {
            return;
        }
        if 0 < self.pending_length {
            let taken = piece.len().min(BLOCK_BYTES - self.pending_length);
            let (head, rest) = piece.split_at(taken);
            self.pending[self.pending_length..][..taken].copy_from_slice(head);
            self.pending_length += taken;
            if self.pending_length < BLOCK_BYTES {
                return;
            }
            self.hashes.push(hash(&self.pending));
            self.pending_length = 0;
            piece = rest;
        }
        let (whole, rest) = piece.as_chunks::<BLOCK_BYTES>();
        let room = BLOCKS_MAX - self.hashes.len();
        let hashed = whole.iter().take(room).map(|block| hash(block));
        self.hashes.extend(hashed);
        if self.hashes.len() < BLOCKS_MAX {
            self.pending[..rest.len()].copy_from_slice(rest);
            self.pending_length = rest.len();
        }
    }

    /// The hashes of the whole blocks.
    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The hash of what is left after the last whole block, with its length.
    pub(super) fn rest_hash(&self) -> u64 {
        hash(&self.pending[..self.pending_length])
    }

    /// The text's length, beyond the limit too.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The hash of some bytes; their length is part of it.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(bytes);
    hasher.write_usize(bytes.len());
    hasher.finish()
}

/// The hash of a sequence that ends with `next`, from the hash of what is before it.
pub(super) fn fold(before: u64, next: u64) -> u64 {
    // Digits of e, so that zeros do not stay zeros.
    const LEFT: u64 = 0x2b7e_1516_28ae_d2a6;
    const RIGHT: u64 = 0xabf7_1588_09cf_4f3c;
    let product = u128::from(before ^ LEFT) * u128::from(next.rotate_left(29) ^ RIGHT);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::{BLOCK_BYTES, BLOCKS_MAX, Blocks, fold, hash};

    proptest! {
        #[test]
        fn where_a_text_is_split_does_not_matter(pieces in vec(vec(any::<u8>(), 0..700), 0..8)) {
            let mut split = Blocks::default();
            for piece in &pieces {
                split.push(piece);
            }
            let text = pieces.concat();
            let expected: Vec<u64> = text.as_chunks::<BLOCK_BYTES>().0.iter().map(|block| hash(block)).collect();
            assert_eq!(split.hashes(), expected);
            assert_eq!(split.bytes(), text.len());
            assert_eq!(split.rest_hash(), hash(&text[expected.len() * BLOCK_BYTES..]));
        }
    }

    #[test]
    fn no_more_than_the_limit_is_hashed() {
        let mut blocks = Blocks::default();
        for _ in 0..3 {
            blocks.push(&vec![b'x'; BLOCKS_MAX * BLOCK_BYTES / 2 + 1]);
        }
        assert_eq!(blocks.hashes().len(), BLOCKS_MAX);
        assert_eq!(blocks.bytes(), 3 * (BLOCKS_MAX * BLOCK_BYTES / 2 + 1));
    }

    #[test]
    fn the_order_of_a_sequence_is_part_of_its_hash() {
        assert_ne!(fold(fold(0, 1), 2), fold(fold(0, 2), 1));
        assert_ne!(fold(0, 0), 0);
        assert_ne!(hash(b""), hash(b"\0"));
    }
}
