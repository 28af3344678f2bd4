//! The scheduler: which tokens of which sequences the next step computes.
//!
//! There is no prefill and no decode phase: a sequence has tokens that are there and not yet computed, and each step
//! computes some of them, as many as its budget allows. The budget is spent in this order:
//!
//! 1. *Streams* ([`streams`]): running sequences that want their next token. They come first, so that no prompt ever
//!    stalls a stream. Drafts of speculation go with them.
//! 2. *Prompts* ([`prompts`]): running sequences with more to compute, then waiting ones, in line. Who wants more
//!    than half a step is *long*: long prompts together take at most half of a step while short ones want the rest,
//!    and get what short ones leave. So a short prompt behind a long one starts in the next step instead of
//!    thousands of tokens later, and no stream of short prompts keeps a long one from its half.
//! 3. A waiting sequence is held while a running one computes the block that it needs next: requests with one prompt,
//!    or a burst of requests with one system prompt, compute it once.
//!
//! The line is the order of arrival, or of priority and arrival. When blocks run out ([`room`]), the running sequence
//! that is last in line gives its blocks back and is computed again later; nobody new starts in such a step, and
//! nobody starts whose known tokens do not fit.
//!
//! A step may be decided before the step before it has been computed: the tokens that it will sample are `pending`
//! and known only to the device. Steps are computed in the order in which they were decided, so a block may be shared
//! or lent to somebody else as soon as the step that writes it, or reads it last, is decided.

mod plan;
mod prompts;
mod room;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::TokenId;
use crate::blocks::{BlockHash, BlockPool};
use crate::cache::{Cache, CacheEvent, Transfer};
use crate::sequence::{NewSequence, Rank, Sequence, SequenceId};
use crate::speculation::{Drafter, Speculation};

use plan::Plan;

/// Which of two sequences goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SchedulingPolicy {
    /// The one that came first.
    #[default]
    Arrival,
    /// The one with the lower priority number, then the one that came first.
    Priority,
}

/// How much the scheduler takes on, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Most tokens that a step computes.
    pub step_tokens_max: usize,
    /// Most sequences that run at once.
    pub sequences_max: usize,
    /// Most sequences that wait.
    pub waiting_max: usize,
    /// Most tokens of the prompts that wait.
    pub waiting_tokens_max: usize,
    /// Who goes first.
    pub policy: SchedulingPolicy,
    /// Drafts tokens, if at all. Steps must then be settled before the next one is decided.
    pub speculation: Option<Speculation>,
}

/// Why a sequence is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// Too many sequences wait already; later there will be room.
    #[error("{limit} requests wait already")]
    QueueFull {
        /// The limit on waiting sequences.
        limit: usize,
    },
    /// The prompts that wait are too long together; later there will be room.
    #[error("prompts of {limit} tokens wait already")]
    QueueTokens {
        /// The limit on the tokens of waiting prompts.
        limit: usize,
    },
    /// The sequence can never fit the cache.
    #[error("{length} tokens are more than the cache holds ({limit})")]
    TooLong {
        /// The length that the sequence may reach.
        length: usize,
        /// What the cache holds.
        limit: usize,
    },
    /// There is nothing to compute.
    #[error("the prompt is empty")]
    EmptyPrompt,
}

/// A run of one sequence's tokens that a step computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whose tokens.
    pub sequence: SequenceId,
    /// The first token's place in the sequence.
    pub start: usize,
    /// How many tokens, drafts included.
    pub length: usize,
    /// Of how many of the last tokens the logits are wanted: none, one where the next token can be sampled, more
    /// for drafts and for the log probabilities of a prompt.
    pub outputs: usize,
    /// Whether the row ends with the sequence's last token, so that the next one is sampled.
    pub samples: bool,
    /// The last tokens of the row, if they are only guesses.
    pub drafts: Vec<TokenId>,
}

/// What the next step computes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Copies between the device and the host, to be made first and in this order.
    pub transfers: Vec<Transfer>,
    /// The runs, at most one a sequence.
    pub rows: Vec<Row>,
    /// Sequences that gave their blocks back so that others could go on.
    pub preempted: Vec<SequenceId>,
}

impl Step {
    /// Tokens that the step computes.
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(|row| row.length).sum()
    }
}

/// All sequences of an engine and the cache they share.
#[derive(Debug)]
pub struct Scheduler {
    options: SchedulerOptions,
    cache: Cache,
    sequences: HashMap<SequenceId, Sequence>,
    /// In line; each sequence is in one of the two.
    waiting: BTreeMap<Rank, SequenceId>,
    running: BTreeMap<Rank, SequenceId>,
    /// Which running sequence computes a block that others may wait for.
    computing: HashMap<BlockHash, SequenceId>,
    drafters: HashMap<SequenceId, Drafter>,
    arrivals: u64,
    waiting_tokens: usize,
    /// Waiting sequences that the last step held for their prefix.
    deferred: usize,
}

impl Scheduler {
    /// A scheduler without sequences.
    pub fn new(options: SchedulerOptions, cache: Cache) -> Self {
        Self {
            options,
            cache,
            sequences: HashMap::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            computing: HashMap::new(),
            drafters: HashMap::new(),
            arrivals: 0,
            waiting_tokens: 0,
            deferred: 0,
        }
    }

    /// Queues a sequence under a name that was never used.
    ///
    /// # Errors
    /// [`Refused`]; nothing is queued then.
    pub fn add(&mut self, id: SequenceId, new: NewSequence) -> Result<(), Refused> {
        self.check(&new)?;
        let rank = Rank {
            priority: match self.options.policy {
                SchedulingPolicy::Arrival => 0,
                SchedulingPolicy::Priority => new.priority,
            },
            arrival: self.arrivals,
        };
        self.arrivals += 1;
        let sequence = Sequence::new(new, rank, self.cache.pool().block_tokens());
        self.waiting_tokens += sequence.prompt_length;
        self.waiting.insert(rank, id);
        self.sequences.insert(id, sequence);
        if self.options.speculation.is_some() {
            self.drafters.insert(id, Drafter::default());
        }
        Ok(())
    }

    /// Decides the next step and lends the blocks that it needs.
    pub fn schedule(&mut self) -> Step {
        let mut plan = Plan::new(self.options.step_tokens_max);
        self.plan_streams(&mut plan);
        self.plan_prompts(&mut plan);
        self.commit(plan)
    }

    /// Records what a row with `drafts` drafts has sampled: a token, and one more for each draft that was right.
    pub fn settle(&mut self, id: SequenceId, sampled: &[TokenId], drafts: usize) {
        let Some(sequence) = self.sequences.get_mut(&id) else {
            return;
        };
        sequence.pending = sequence.pending.saturating_sub(1);
        let wrong = (drafts + 1).saturating_sub(sampled.len());
        sequence.computed = sequence.computed.saturating_sub(wrong.min(drafts));
        for token in sampled {
            sequence.push(*token, self.cache.pool().block_tokens());
        }
        sequence.seal(&mut self.cache);
    }

    /// Ends a sequence, finished or not; its blocks are free at once. Says whether there was one.
    pub fn remove(&mut self, id: SequenceId) -> bool {
        let Some(mut sequence) = self.sequences.remove(&id) else {
            return false;
        };
        unclaim(&mut self.computing, id, sequence.hashes_ahead());
        sequence.release(&mut self.cache);
        self.running.remove(&sequence.rank);
        if self.waiting.remove(&sequence.rank).is_some() {
            self.waiting_tokens -= sequence.prompt_length;
        }
        self.drafters.remove(&id);
        true
    }

    /// Forgets all content of the cache; what runs keeps its blocks, and nothing else is found again.
    pub fn reset_cache(&mut self) {
        self.cache.reset();
    }

    /// Sends all running sequences back to the line and forgets all content of the cache, which is about to be lost.
    /// No step may be in flight.
    pub fn suspend(&mut self) {
        while let Some((_, id)) = self.running.pop_first() {
            self.send_back(id);
        }
        self.cache.reset();
    }

    /// Takes what has changed in the cache since the last call.
    pub fn take_events(&mut self) -> Vec<CacheEvent> {
        self.cache.take_events()
    }

    /// A sequence that waits or runs.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    /// Sequences that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences that waited in the last step only because another one computes their beginning.
    pub fn deferred(&self) -> usize {
        self.deferred.min(self.waiting.len())
    }

    /// The cache.
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The device's blocks.
    pub const fn pool(&self) -> &BlockPool {
        self.cache.pool()
    }

    fn check(&self, new: &NewSequence) -> Result<(), Refused> {
        let SchedulerOptions {
            waiting_max,
            waiting_tokens_max,
            ..
        } = self.options;
        if new.prompt.is_empty() {
            return Err(Refused::EmptyPrompt);
        }
        let length = new.length_max.max(new.prompt.len() + 1);
        let limit = self.pool().capacity_tokens();
        if limit < length {
            return Err(Refused::TooLong { length, limit });
        }
        if waiting_max <= self.waiting.len() {
            return Err(Refused::QueueFull { limit: waiting_max });
        }
        // A prompt that waits alone is never too long.
        if !self.waiting.is_empty() && waiting_tokens_max < self.waiting_tokens + new.prompt.len() {
            let limit = waiting_tokens_max;
            return Err(Refused::QueueTokens { limit });
        }
        Ok(())
    }

    /// Makes a plan a step: from now on its rows count as computed.
    fn commit(&mut self, plan: Plan) -> Step {
        let Plan {
            rows, preempted, ..
        } = plan;
        for row in &rows {
            let Some(sequence) = self.sequences.get_mut(&row.sequence) else {
                continue;
            };
            sequence.computed = row.start + row.length;
            sequence.prompt_seen = sequence.prompt_seen.max(sequence.computed);
            sequence.pending += usize::from(row.samples);
            let sealed = sequence.seal(&mut self.cache);
            unclaim(&mut self.computing, row.sequence, &sequence.hashes[sealed]);
        }
        Step {
            transfers: self.cache.take_transfers(),
            rows,
            preempted,
        }
    }
}

/// Notes which blocks a running sequence is about to compute, unless another one does already.
fn claim(computing: &mut HashMap<BlockHash, SequenceId>, id: SequenceId, hashes: &[BlockHash]) {
    for hash in hashes {
        computing.entry(*hash).or_insert(id);
    }
}

/// Nobody waits any longer for these blocks of a sequence.
fn unclaim(computing: &mut HashMap<BlockHash, SequenceId>, id: SequenceId, hashes: &[BlockHash]) {
    for hash in hashes {
        if computing.get(hash) == Some(&id) {
            computing.remove(hash);
        }
    }
}
