//! The cache of a fake engine: which beginnings of prompts it has read, as engines with paged key-value caches know them.

use std::collections::{HashMap, VecDeque};

/// Tokens in a block of the cache.
pub const BLOCK_TOKENS: usize = 16;

/// Blocks by the hash of their prefix; the one that was not used for longest makes room.
#[derive(Debug)]
pub struct BlockCache {
    capacity: usize,
    last_used: HashMap<u64, u64>,
    /// Uses in order; all but the last of a block are void.
    uses: VecDeque<(u64, u64)>,
    clock: u64,
}

impl BlockCache {
    /// An empty cache for so many tokens.
    pub fn new(tokens: usize) -> Self {
        Self {
            capacity: tokens / BLOCK_TOKENS,
            last_used: HashMap::new(),
            uses: VecDeque::new(),
            clock: 0,
        }
    }

    /// Blocks of the prompt's beginning that are there; afterwards all of it is.
    pub fn read(&mut self, prompt: &[u64]) -> usize {
        let cached = prompt
            .iter()
            .take_while(|block| self.last_used.contains_key(block));
        let cached = cached.count();
        // The end goes first: without the beginning it is of no use.
        for block in prompt.iter().rev() {
            self.clock += 1;
            self.last_used.insert(*block, self.clock);
            self.uses.push_back((*block, self.clock));
        }
        while self.capacity < self.last_used.len() {
            let Some((block, used)) = self.uses.pop_front() else {
                break;
            };
            if self.last_used.get(&block) == Some(&used) {
                self.last_used.remove(&block);
            }
        }
        cached
    }
}
