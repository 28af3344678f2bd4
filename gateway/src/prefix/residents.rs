//! Residents: the blocks that a replica says that it holds, and which of our prefixes they are.
//!
//! Engines name blocks by hashes of tokens, and we name prefixes by hashes of bytes: without the model's tokenizer nobody
//! can tell one from the other. But when a prompt was answered, its number of tokens is known, and so is which block the
//! engine has stored at that depth since the prompt was sent. If there is exactly one, its ancestors are the prompt's
//! blocks, from the first to the last; from then on the engine's word that a block is gone is word of a prefix of ours.
//! Two prompts of one length at one time are told apart by nothing, and nothing is learned of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::blocks::BLOCK_BYTES;

/// Blocks of one replica that are known: two million tokens in blocks of sixteen.
const BLOCKS_MAX: usize = 1 << 17;
/// Blocks that were stored last and may still be found to belong to a prompt.
const RECENT_MAX: usize = 1 << 14;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// In the memory of the device that computes.
    Device,
    /// In the host's memory behind it.
    Host,
}

/// What a replica says has changed in its cache; blocks by their names, as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Blocks can be found from now on.
    Stored {
        /// Their names, in the order of the prompt.
        blocks: Vec<u64>,
        /// The name of the block before them; none at the beginning of a prompt.
        parent: Option<u64>,
        /// Tokens of a block.
        block_tokens: u32,
        /// Where they are.
        medium: Medium,
    },
    /// Blocks can no longer be found.
    Removed {
        /// Their names.
        blocks: Vec<u64>,
        /// Where they were.
        medium: Medium,
    },
    /// Nothing can be found any more.
    Cleared,
}

/// The blocks of one replica.
#[derive(Debug, Default)]
pub(super) struct Residents {
    /// Whether it has said anything, so that nobody else pays for looking.
    is_followed: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    block_tokens: u32,
    blocks: HashMap<u64, Block, RandomState>,
    /// When a block was stored, in order.
    recent: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct Block {
    parent: Option<u64>,
    /// Blocks up to this one.
    depth: u32,
    on_device: bool,
    on_host: bool,
    /// The hash of the prefix of ours that begins to be cut when this block goes.
    ours: Option<u64>,
}

impl Block {
    fn place(&mut self, medium: Medium) -> &mut bool {
        match medium {
            Medium::Device => &mut self.on_device,
            Medium::Host => &mut self.on_host,
        }
    }
}

/// A prompt that was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prompt<'a> {
    /// Its chain.
    pub(super) hashes: &'a [u64],
    /// Its length as we see it.
    pub(super) bytes: usize,
    /// Its length as the engine sees it.
    pub(super) tokens: u64,
    /// When it was sent.
    pub(super) sent: Instant,
}

impl Residents {
    /// Notes blocks that were stored. Those behind an unknown one are left out: how deep they are is not known.
    pub(super) fn store(
        &self,
        blocks: &[u64],
        parent: Option<u64>,
        (block_tokens, medium): (u32, Medium),
        now: Instant,
    ) {
        self.is_followed.store(true, Relaxed);
        let known = &mut *self.known.lock();
        known.block_tokens = block_tokens;
        let mut before = match parent {
            None => (None, 0),
            Some(parent) => match known.blocks.get(&parent) {
                Some(block) => (Some(parent), block.depth),
                None => return,
            },
        };
        for name in blocks {
            if BLOCKS_MAX <= known.blocks.len() && !known.blocks.contains_key(name) {
                return;
            }
            let (parent, depth) = before;
            let block = known.blocks.entry(*name).or_insert(Block {
                parent,
                depth: depth + 1,
                on_device: false,
                on_host: false,
                ours: None,
            });
            *block.place(medium) = true;
            before = (Some(*name), block.depth);
            if known.recent.len() == RECENT_MAX {
                known.recent.pop_front();
            }
            known.recent.push_back((now, *name));
        }
    }

    /// Notes blocks that were removed; the prefixes of ours that are gone with them.
    pub(super) fn remove(&self, blocks: &[u64], medium: Medium) -> Vec<u64> {
        let known = &mut *self.known.lock();
        let mut ours = Vec::new();
        for name in blocks {
            let Some(block) = known.blocks.get_mut(name) else {
                continue;
            };
            *block.place(medium) = false;
            if !block.on_device && !block.on_host {
                ours.extend(block.ours);
                known.blocks.remove(name);
            }
        }
        ours
    }

    /// Forgets all blocks: the replica has none, or nobody knows any more which.
    pub(super) fn clear(&self) {
        if self.is_followed.load(Relaxed) {
            *self.known.lock() = Known::default();
        }
    }

    /// Learns which blocks an answered prompt consists of, if there is no doubt.
    pub(super) fn learn(&self, prompt: Prompt<'_>) {
        if !self.is_followed.load(Relaxed) {
            return;
        }
        let known = &mut *self.known.lock();
        let Some(depth) = prompt.tokens.checked_div(known.block_tokens.into()) else {
            return;
        };
        let Some(mut last) = known.last_block(depth, prompt.sent) else {
            return;
        };
        // From the end to the beginning, where the parent is none.
        loop {
            let Some(block) = known.blocks.get_mut(&last) else {
                return;
            };
            let before = u64::from(block.depth - 1) * prompt.bytes as u64 / depth.max(1);
            let place = usize::try_from(before).unwrap_or(usize::MAX) / BLOCK_BYTES;
            block.ours = prompt.hashes.get(place).copied();
            match block.parent {
                Some(parent) => last = parent,
                None => return,
            }
        }
    }
}

impl Known {
    /// The only block of this depth that was stored since then.
    fn last_block(&self, depth: u64, since: Instant) -> Option<u64> {
        let stored = self.recent.iter().rev();
        let stored = stored.take_while(|(when, _)| since <= *when);
        let mut at_depth = stored.filter(|(_, name)| {
            let block = self.blocks.get(name);
            block.is_some_and(|block| u64::from(block.depth) == depth)
        });
        let (_, found) = at_depth.next()?;
        at_depth.all(|(_, name)| name == found).then_some(*found)
    }
}

#[cfg(test)]
mod tests;
