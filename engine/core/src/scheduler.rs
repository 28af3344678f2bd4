//! The scheduler: which tokens of which sequences the next step computes.
//!
//! There is no prefill and no decode phase: a sequence has tokens that are known and not yet computed, and each
//! step computes some of them. Running sequences come first, so that a long prompt never stalls a stream; what
//! is left of the token budget goes to waiting ones, in order of arrival. When blocks run out, the sequence that
//! started last gives its blocks back and is computed again later.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use thiserror::Error;

use crate::TokenId;
use crate::blocks::{BlockPool, OutOfBlocks};
use crate::sequence::{Sequence, SequenceId};

/// How much the scheduler takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens that a step computes.
    pub step_tokens_max: usize,
    /// Most sequences that run at once.
    pub sequences_max: usize,
    /// Most sequences that wait.
    pub waiting_max: usize,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Whose tokens.
    pub sequence: SequenceId,
    /// The first token's place in the sequence.
    pub start: usize,
    /// How many tokens.
    pub length: usize,
    /// Of how many of the last tokens the logits are wanted: none, one where the next token can be sampled, more
    /// for drafts and for the log probabilities of a prompt.
    pub outputs: usize,
}

/// What the next step computes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
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
    limits: Limits,
    pool: BlockPool,
    sequences: HashMap<SequenceId, Sequence>,
    waiting: VecDeque<SequenceId>,
    running: Vec<SequenceId>,
}

impl Scheduler {
    /// A scheduler without sequences.
    pub fn new(limits: Limits, pool: BlockPool) -> Self {
        let (sequences, waiting, running) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self {
            limits,
            pool,
            sequences,
            waiting,
            running,
        }
    }

    /// Queues a prompt whose sequence may grow to `length_max` tokens.
    ///
    /// # Errors
    /// [`Refused`]; nothing is queued then.
    pub fn add(
        &mut self,
        id: SequenceId,
        prompt: Vec<TokenId>,
        length_max: usize,
    ) -> Result<(), Refused> {
        if prompt.is_empty() {
            return Err(Refused::EmptyPrompt);
        }
        let (length, limit) = (
            length_max.max(prompt.len() + 1),
            self.pool.capacity_tokens(),
        );
        if limit < length {
            return Err(Refused::TooLong { length, limit });
        }
        if self.limits.waiting_max <= self.waiting.len() {
            return Err(Refused::QueueFull {
                limit: self.limits.waiting_max,
            });
        }
        self.sequences
            .insert(id, Sequence::new(prompt, length, self.pool.block_tokens()));
        self.waiting.push_back(id);
        Ok(())
    }

    /// Decides the next step and lends the blocks that it needs.
    pub fn schedule(&mut self) -> Step {
        let mut step = Step::default();
        let mut budget = self.limits.step_tokens_max;
        self.schedule_running(&mut step, &mut budget);
        // Whoever was preempted in this step needs room before anybody new starts.
        if step.preempted.is_empty() {
            self.schedule_waiting(&mut step, &mut budget);
        }
        step
    }

    /// Records that the step was computed and which tokens were sampled.
    pub fn settle(&mut self, step: &Step, sampled: &[(SequenceId, TokenId)]) {
        for row in &step.rows {
            if let Some(sequence) = self.sequences.get_mut(&row.sequence) {
                sequence.computed = row.start + row.length;
                sequence.seal(&mut self.pool);
            }
        }
        for (id, token) in sampled {
            if let Some(sequence) = self.sequences.get_mut(id) {
                sequence.push(*token, self.pool.block_tokens());
            }
        }
    }

    /// Ends a sequence, finished or not; its blocks are free at once. Says whether there was one.
    pub fn remove(&mut self, id: SequenceId) -> bool {
        let Some(mut sequence) = self.sequences.remove(&id) else {
            return false;
        };
        sequence.release(&mut self.pool);
        self.running.retain(|running| *running != id);
        self.waiting.retain(|waiting| *waiting != id);
        true
    }

    /// A sequence that waits or runs.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    /// Sequences that run.
    pub const fn running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The cache.
    pub const fn pool(&self) -> &BlockPool {
        &self.pool
    }

    fn schedule_running(&mut self, step: &mut Step, budget: &mut usize) {
        let mut place = 0;
        while place < self.running.len() && 0 < *budget {
            let id = self.running[place];
            match self.extend(id, *budget) {
                Ok(Some(row)) => {
                    *budget -= row.length;
                    step.rows.push(row);
                    place += 1;
                }
                Ok(None) => place += 1,
                Err(OutOfBlocks { .. }) => self.preempt_last(step),
            }
        }
    }

    fn schedule_waiting(&mut self, step: &mut Step, budget: &mut usize) {
        while 0 < *budget && self.running.len() < self.limits.sequences_max {
            let Some(&id) = self.waiting.front() else {
                break;
            };
            let Ok(row) = self.start(id, *budget) else {
                break;
            };
            self.waiting.pop_front();
            self.running.push(id);
            if let Some(row) = row {
                *budget -= row.length;
                step.rows.push(row);
            }
        }
    }

    /// Lends a running sequence the blocks for its next tokens.
    fn extend(&mut self, id: SequenceId, budget: usize) -> Result<Option<Row>, OutOfBlocks> {
        let Some(sequence) = self.sequences.get_mut(&id) else {
            return Ok(None);
        };
        let length = sequence.wanted().min(budget);
        if length == 0 {
            return Ok(None);
        }
        let needed = self.pool.blocks_for(sequence.computed + length);
        let fresh = self
            .pool
            .lend(needed.saturating_sub(sequence.blocks.len()))?;
        sequence.blocks.extend(fresh);
        let start = sequence.computed;
        let outputs = usize::from(start + length == sequence.tokens.len());
        Ok(Some(Row {
            sequence: id,
            start,
            length,
            outputs,
        }))
    }

    /// Starts a waiting sequence behind what the prefix cache knows of it.
    fn start(&mut self, id: SequenceId, budget: usize) -> Result<Option<Row>, OutOfBlocks> {
        let Some(sequence) = self.sequences.get_mut(&id) else {
            return Ok(None);
        };
        let block_tokens = self.pool.block_tokens();
        let shared = self
            .pool
            .find_prefix(sequence.reusable_hashes(block_tokens));
        self.pool.share(&shared);
        sequence.computed = shared.len() * block_tokens;
        sequence.sealed = shared.len();
        sequence.blocks = shared;
        let started = self.extend(id, budget);
        if let Some(sequence) = self.sequences.get_mut(&id) {
            match started {
                Ok(_) => sequence.cached = sequence.cached.or(Some(sequence.sealed * block_tokens)),
                Err(_) => sequence.release(&mut self.pool),
            }
        }
        started
    }

    /// Sends the sequence that started last back to the head of the queue. It may be one that has a row already
    /// only if it is the last of all, and then it has none: rows are given in the order of `running`.
    fn preempt_last(&mut self, step: &mut Step) {
        let Some(id) = self.running.pop() else { return };
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.release(&mut self.pool);
        }
        self.waiting.push_front(id);
        step.preempted.push(id);
    }
}
