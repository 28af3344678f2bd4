//! A sequence: the tokens of one request, how far they are computed, and the blocks that hold the result.

use std::ops::Range;

use crate::blocks::{BlockHash, BlockId};
use crate::cache::{Cache, Sealed};
use crate::{AdapterId, TokenId};

/// Names a sequence for as long as the engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// A sequence's place in line: lower ones are computed first and give their blocks back last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rank {
    pub(crate) priority: i32,
    pub(crate) arrival: u64,
}

/// A prompt to be answered.
#[derive(Debug, Clone, Default)]
pub struct NewSequence {
    /// Its tokens; not empty.
    pub prompt: Vec<TokenId>,
    /// Most tokens of the prompt and the answer.
    pub length_max: usize,
    /// Lower ones go first, if the scheduler looks at it.
    pub priority: i32,
    /// Only sequences with an equal salt share blocks.
    pub salt: Option<String>,
    /// The adapter that computes it; only sequences with the same one share blocks.
    pub adapter: Option<AdapterId>,
    /// Whether the logits of the whole prompt are wanted.
    pub wants_prompt_logits: bool,
}

/// Tokens of a prompt that did not have to be computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CachedTokens {
    /// Found on the device.
    pub device: usize,
    /// Copied back from the host.
    pub host: usize,
}

/// The tokens of one request and the state of their computation.
///
/// A step is decided before the step before it has said which tokens it sampled: `pending` tokens are sampled, or
/// will be, and are not in `tokens` yet. `computed` counts what all decided steps compute.
///
/// Invariants: `computed <= tokens.len() + pending`, drafts aside; `blocks` hold at least `computed` tokens; `hashes`
/// names each full block of `tokens`.
#[derive(Debug, Clone)]
pub struct Sequence {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_length: usize,
    pub(crate) length_max: usize,
    pub(crate) rank: Rank,
    pub(crate) adapter: Option<AdapterId>,
    pub(crate) pending: usize,
    pub(crate) computed: usize,
    /// Of how many tokens of the prompt the logits have been asked for; all, if they are not wanted.
    pub(crate) prompt_seen: usize,
    pub(crate) cached: Option<CachedTokens>,
    pub(crate) blocks: Vec<BlockId>,
    pub(crate) hashes: Vec<BlockHash>,
    root: Option<BlockHash>,
    sealed: usize,
    preemptions: usize,
}

impl Sequence {
    pub(crate) fn new(new: NewSequence, rank: Rank, block_tokens: usize) -> Self {
        let prompt_length = new.prompt.len();
        let mut sequence = Self {
            prompt_length,
            length_max: new.length_max.max(prompt_length + 1),
            tokens: new.prompt,
            rank,
            adapter: new.adapter,
            pending: 0,
            computed: 0,
            prompt_seen: if new.wants_prompt_logits {
                0
            } else {
                prompt_length
            },
            cached: None,
            blocks: Vec::new(),
            hashes: Vec::new(),
            root: BlockHash::root(new.salt.as_deref(), new.adapter),
            sealed: 0,
            preemptions: 0,
        };
        sequence.extend_hashes(block_tokens);
        sequence
    }

    /// All known tokens: the prompt and what was generated.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Tokens of the prompt.
    pub const fn prompt_length(&self) -> usize {
        self.prompt_length
    }

    /// Tokens of the prompt that were known to the cache when the sequence first ran.
    pub fn cached(&self) -> CachedTokens {
        self.cached.unwrap_or_default()
    }

    /// The blocks that hold the sequence, in order.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    /// The adapter that computes it.
    pub const fn adapter(&self) -> Option<AdapterId> {
        self.adapter
    }

    /// How often it gave its blocks back.
    pub const fn preemptions(&self) -> usize {
        self.preemptions
    }

    /// Tokens that are there to be computed: known ones, and those that steps in flight sample.
    pub(crate) const fn length(&self) -> usize {
        self.tokens.len() + self.pending
    }

    /// Tokens that are not yet computed; 0 once the sequence has all it may have.
    pub(crate) const fn wanted(&self) -> usize {
        let length = self.length();
        if self.length_max <= length && self.prompt_length < length {
            return 0;
        }
        length - self.computed
    }

    /// Names to look for in the prefix cache: at least one token must be computed, or there are no logits. Where the
    /// prompt's logits are wanted, only what has been seen of it counts.
    pub(crate) fn reusable_hashes(&self, block_tokens: usize) -> &[BlockHash] {
        let mut whole_blocks = (self.tokens.len() - 1) / block_tokens;
        if self.prompt_seen < self.prompt_length {
            whole_blocks = whole_blocks.min(self.prompt_seen / block_tokens);
        }
        &self.hashes[..whole_blocks.min(self.hashes.len())]
    }

    /// Begins behind a prefix that is there already.
    pub(crate) fn begin(
        &mut self,
        blocks: Vec<BlockId>,
        cached: CachedTokens,
        device_blocks: usize,
    ) {
        self.computed = cached.device + cached.host;
        // What came from the host is not known to the device's pool yet.
        self.sealed = device_blocks;
        self.blocks = blocks;
        self.cached.get_or_insert(cached);
    }

    /// Takes a token that a step has sampled.
    pub(crate) fn push(&mut self, token: TokenId, block_tokens: usize) {
        self.tokens.push(token);
        self.extend_hashes(block_tokens);
    }

    /// Makes the full blocks known that decided steps compute, and says which these are.
    pub(crate) fn seal(&mut self, cache: &mut Cache) -> Range<usize> {
        let full = self.computed.min(self.tokens.len()) / cache.pool().block_tokens();
        let fresh = self.sealed..full.max(self.sealed);
        if fresh.is_empty() {
            return fresh;
        }
        cache.seal(&Sealed {
            blocks: &self.blocks,
            hashes: &self.hashes,
            tokens: &self.tokens,
            adapter: self.adapter,
            range: fresh.clone(),
        });
        self.sealed = full;
        fresh
    }

    /// Gives all blocks back: the sequence starts anew, as long as the prefix cache does not help.
    pub(crate) fn release(&mut self, cache: &mut Cache) {
        cache.release(&self.blocks);
        self.blocks.clear();
        self.computed = 0;
        self.sealed = 0;
    }

    pub(crate) const fn note_preemption(&mut self) {
        self.preemptions += 1;
    }

    /// The full blocks that are not computed yet.
    pub(crate) fn hashes_ahead(&self) -> &[BlockHash] {
        &self.hashes[self.sealed.min(self.hashes.len())..]
    }

    fn extend_hashes(&mut self, block_tokens: usize) {
        while (self.hashes.len() + 1) * block_tokens <= self.tokens.len() {
            let start = self.hashes.len() * block_tokens;
            let tokens = &self.tokens[start..start + block_tokens];
            let previous = self.hashes.last().or(self.root.as_ref());
            let hash = BlockHash::chain(previous, tokens);
            self.hashes.push(hash);
        }
    }
}
