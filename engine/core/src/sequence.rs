//! A sequence: the tokens of one request, how far they are computed, and the blocks that hold the result.

use crate::TokenId;
use crate::blocks::{BlockHash, BlockId, BlockPool};

/// Names a sequence for as long as the engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// The tokens of one request and the state of their computation.
///
/// Invariants: `computed < tokens.len()` while the sequence wants more; `blocks` hold at least `computed` tokens;
/// `hashes` names each full block of `tokens`.
#[derive(Debug, Clone)]
pub struct Sequence {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_length: usize,
    pub(crate) length_max: usize,
    pub(crate) computed: usize,
    pub(crate) cached: Option<usize>,
    pub(crate) blocks: Vec<BlockId>,
    pub(crate) hashes: Vec<BlockHash>,
    pub(crate) sealed: usize,
}

impl Sequence {
    pub(crate) fn new(prompt: Vec<TokenId>, length_max: usize, block_tokens: usize) -> Self {
        let mut sequence = Self {
            prompt_length: prompt.len(),
            tokens: prompt,
            length_max,
            computed: 0,
            cached: None,
            blocks: Vec::new(),
            hashes: Vec::new(),
            sealed: 0,
        };
        sequence.extend_hashes(block_tokens);
        sequence
    }

    /// All tokens: the prompt and what was generated.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Tokens of the prompt.
    pub const fn prompt_length(&self) -> usize {
        self.prompt_length
    }

    /// Tokens of the prompt that came from the prefix cache when the sequence first ran.
    pub fn cached_length(&self) -> usize {
        self.cached.unwrap_or(0)
    }

    /// The blocks that hold the sequence, in order.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    /// Tokens that are known and not yet computed; 0 once the sequence has all it may have.
    pub(crate) fn wanted(&self) -> usize {
        if self.length_max <= self.tokens.len() && self.prompt_length < self.tokens.len() {
            return 0;
        }
        self.tokens.len() - self.computed
    }

    pub(crate) fn push(&mut self, token: TokenId, block_tokens: usize) {
        self.tokens.push(token);
        self.extend_hashes(block_tokens);
    }

    /// Names to look for in the prefix cache: at least one token must be computed, or there are no logits.
    pub(crate) fn reusable_hashes(&self, block_tokens: usize) -> &[BlockHash] {
        let whole_blocks = (self.tokens.len() - 1) / block_tokens;
        &self.hashes[..whole_blocks.min(self.hashes.len())]
    }

    /// Tells the pool about blocks that have become full.
    pub(crate) fn seal(&mut self, pool: &mut BlockPool) {
        let full = self.computed / pool.block_tokens();
        for index in self.sealed..full {
            pool.seal(self.blocks[index], self.hashes[index]);
        }
        self.sealed = self.sealed.max(full);
    }

    /// Gives all blocks back: the sequence starts anew, as long as the prefix cache does not help.
    pub(crate) fn release(&mut self, pool: &mut BlockPool) {
        pool.release(&self.blocks);
        self.blocks.clear();
        self.computed = 0;
        self.sealed = 0;
    }

    fn extend_hashes(&mut self, block_tokens: usize) {
        while (self.hashes.len() + 1) * block_tokens <= self.tokens.len() {
            let start = self.hashes.len() * block_tokens;
            let tokens = &self.tokens[start..start + block_tokens];
            let hash = BlockHash::chain(self.hashes.last(), tokens);
            self.hashes.push(hash);
        }
    }
}
