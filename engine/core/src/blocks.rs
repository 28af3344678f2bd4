//! Key-value cache blocks: pages of the cache, lent to sequences and shared between equal prefixes.
//!
//! A block is either owned (by one sequence, or by several that share a prefix) or free. A free block keeps its
//! content and its hash until it is lent again, so the prefix cache costs nothing; the block that was freed first
//! is lent first.

mod hash;
#[cfg(test)]
mod tests;

pub use hash::BlockHash;

use std::collections::HashMap;
use std::num::NonZeroU32;

use thiserror::Error;

/// A page of the key-value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u32);

impl BlockId {
    /// The block's place in the cache.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The pool has fewer free blocks than were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{wanted} blocks are wanted and {free} are free")]
pub struct OutOfBlocks {
    /// How many blocks were asked for.
    pub wanted: usize,
    /// How many blocks were free.
    pub free: usize,
}

#[derive(Debug, Clone, Default)]
struct Block {
    owners: u32,
    hash: Option<BlockHash>,
    /// The neighbours in the list of free blocks; meaningless while the block is owned.
    older: Option<BlockId>,
    newer: Option<BlockId>,
}

/// All blocks of a cache, the list of free ones and the index of known content.
///
/// Invariants: a block is in the free list if and only if it has no owner; `cached` maps a hash to a block that
/// carries this hash.
#[derive(Debug)]
pub struct BlockPool {
    block_tokens: NonZeroU32,
    blocks: Vec<Block>,
    cached: HashMap<BlockHash, BlockId>,
    oldest: Option<BlockId>,
    newest: Option<BlockId>,
    free: usize,
    /// Content that was forgotten because its block was lent.
    evicted: Vec<(BlockId, BlockHash)>,
}

impl BlockPool {
    /// A pool of free blocks that hold `block_tokens` tokens each.
    pub fn new(blocks: u32, block_tokens: NonZeroU32) -> Self {
        let mut pool = Self {
            block_tokens,
            blocks: vec![Block::default(); blocks as usize],
            cached: HashMap::new(),
            oldest: None,
            newest: None,
            free: 0,
            evicted: Vec::new(),
        };
        for index in 0..blocks {
            pool.push_free(BlockId(index));
        }
        pool
    }

    /// Tokens that a block holds.
    pub const fn block_tokens(&self) -> usize {
        self.block_tokens.get() as usize
    }

    /// As [`Self::block_tokens`], as the number that it was made with.
    pub const fn block_tokens_nonzero(&self) -> NonZeroU32 {
        self.block_tokens
    }

    /// Tokens that the whole pool holds.
    pub const fn capacity_tokens(&self) -> usize {
        self.blocks.len() * self.block_tokens()
    }

    /// Blocks without an owner.
    pub const fn free(&self) -> usize {
        self.free
    }

    /// The share of blocks that have an owner, 0 to 1.
    pub fn usage(&self) -> f64 {
        if self.blocks.is_empty() {
            return 0.0;
        }
        (self.blocks.len() - self.free) as f64 / self.blocks.len() as f64
    }

    /// Blocks that `tokens` tokens need.
    pub const fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens())
    }

    /// Blocks, free or not.
    pub const fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are no blocks at all.
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The block that holds what `hash` names.
    pub fn find(&self, hash: &BlockHash) -> Option<BlockId> {
        self.cached.get(hash).copied()
    }

    /// The blocks that hold the longest known prefix of `hashes`.
    pub fn find_prefix(&self, hashes: &[BlockHash]) -> Vec<BlockId> {
        hashes.iter().map_while(|hash| self.find(hash)).collect()
    }

    /// How many of these blocks have no owner.
    pub fn count_free(&self, blocks: &[BlockId]) -> usize {
        let is_free = |id: &&BlockId| self.blocks[id.index()].owners == 0;
        blocks.iter().filter(is_free).count()
    }

    /// Adds an owner to each block, taking it off the free list if it had none.
    pub fn share(&mut self, blocks: &[BlockId]) {
        for &id in blocks {
            if self.blocks[id.index()].owners == 0 {
                self.remove_free(id);
            }
            self.blocks[id.index()].owners += 1;
        }
    }

    /// Lends `count` blocks with one owner each, oldest-freed first; their old content is forgotten.
    ///
    /// # Errors
    /// [`OutOfBlocks`]; the pool is unchanged then.
    pub fn lend(&mut self, count: usize) -> Result<Vec<BlockId>, OutOfBlocks> {
        if self.free < count {
            return Err(OutOfBlocks {
                wanted: count,
                free: self.free,
            });
        }
        let mut lent = Vec::with_capacity(count);
        while lent.len() < count {
            let Some(id) = self.oldest else { break };
            self.remove_free(id);
            let block = &mut self.blocks[id.index()];
            block.owners = 1;
            if let Some(hash) = block.hash.take()
                && self.cached.get(&hash) == Some(&id)
            {
                self.cached.remove(&hash);
                self.evicted.push((id, hash));
            }
            lent.push(id);
        }
        Ok(lent)
    }

    /// Says that an owned block is full and holds what `hash` names. A full block is never written again, so a
    /// second name for it means nothing; of several blocks with one content the first is the one that is found.
    /// Whether this one is, is what comes back.
    pub fn seal(&mut self, id: BlockId, hash: BlockHash) -> bool {
        let block = &mut self.blocks[id.index()];
        if block.hash.is_some() {
            return false;
        }
        block.hash = Some(hash);
        *self.cached.entry(hash).or_insert(id) == id
    }

    /// Takes what was forgotten since the last call.
    pub fn take_evicted(&mut self) -> Vec<(BlockId, BlockHash)> {
        std::mem::take(&mut self.evicted)
    }

    /// Forgets all content; blocks keep their owners.
    pub fn forget_all(&mut self) {
        self.cached.clear();
        self.evicted.clear();
        for block in &mut self.blocks {
            block.hash = None;
        }
    }

    /// Takes one owner off each block. The end of a sequence is freed before its beginning, because a prefix is
    /// worth more than what follows it.
    pub fn release(&mut self, blocks: &[BlockId]) {
        for &id in blocks.iter().rev() {
            let block = &mut self.blocks[id.index()];
            block.owners = block.owners.saturating_sub(1);
            if block.owners == 0 {
                self.push_free(id);
            }
        }
    }

    /// How many owners a block has.
    #[cfg(test)]
    pub(crate) fn owners(&self, id: BlockId) -> u32 {
        self.blocks[id.index()].owners
    }

    fn push_free(&mut self, id: BlockId) {
        let older = self.newest.replace(id);
        match older {
            Some(older) => self.blocks[older.index()].newer = Some(id),
            None => self.oldest = Some(id),
        }
        let block = &mut self.blocks[id.index()];
        block.older = older;
        block.newer = None;
        self.free += 1;
    }

    fn remove_free(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.index()];
        let (older, newer) = (block.older.take(), block.newer.take());
        match older {
            Some(older) => self.blocks[older.index()].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.blocks[newer.index()].older = older,
            None => self.newest = older,
        }
        self.free -= 1;
    }
}
