//! Prompts: who computes more than a token, and who starts.

use crate::sequence::{CachedTokens, SequenceId};

use super::{Plan, Row, Scheduler, claim};

/// Most tokens of a row whose logits are all wanted: logits of a token take as much memory as its vocabulary.
const PROMPT_LOGITS_MAX: usize = 64;

/// How far the line is looked at for sequences that may start.
const LINE_MAX: usize = 64;

/// What became of a waiting sequence.
enum Start {
    /// It runs.
    Started,
    /// A running sequence computes the block that it needs next.
    Deferred,
    /// It is passed over in this step; those behind it may start.
    Held,
    /// It must come first, and there is no room.
    Blocked,
}

impl Scheduler {
    pub(super) fn plan_prompts(&mut self, plan: &mut Plan) {
        self.deferred = 0;
        plan.budget_long = plan.budget.min(self.options.step_tokens_max / 2);
        self.plan_running_prompts(plan);
        self.plan_waiting(plan);
        // What short prompts have left is for long ones.
        plan.budget_long = plan.budget;
        self.plan_running_prompts(plan);
        self.plan_waiting(plan);
    }

    fn plan_running_prompts(&mut self, plan: &mut Plan) {
        let wants = |id: &SequenceId| 1 < self.sequences[id].wanted();
        let prompts: Vec<_> = self.running.values().copied().filter(wants).collect();
        for id in prompts {
            if self.running.contains_key(&self.sequences[&id].rank) {
                self.plan_prompt(id, plan);
            }
        }
    }

    fn plan_waiting(&mut self, plan: &mut Plan) {
        if self.waiting.is_empty() || plan.budget == 0 {
            return;
        }
        let line: Vec<_> = self.waiting.values().copied().take(LINE_MAX).collect();
        let mut deferred = 0;
        for id in line {
            // Whoever was preempted in this step needs room before anybody new starts.
            let is_full = self.options.sequences_max <= self.running.len();
            if plan.budget == 0 || is_full || !plan.preempted.is_empty() {
                break;
            }
            match self.start(id, plan) {
                Start::Started => self.plan_prompt(id, plan),
                Start::Deferred => deferred += 1,
                Start::Held => {}
                Start::Blocked => break,
            }
        }
        self.deferred = self.deferred.max(deferred);
    }

    /// Gives a running sequence its share of the step, or more than it has.
    fn plan_prompt(&mut self, id: SequenceId, plan: &mut Plan) {
        let before = plan.withdraw(id).map_or(0, |row| row.length);
        let sequence = &self.sequences[&id];
        let (start, wanted) = (sequence.computed, sequence.wanted());
        let mut length = before + self.share(wanted, before, plan);
        if sequence.prompt_seen < sequence.prompt_length {
            length = length
                .min(PROMPT_LOGITS_MAX)
                .min(sequence.prompt_length - start);
        }
        if length == 0 || !self.make_room(id, start + length, plan) {
            return;
        }
        let sequence = &self.sequences[&id];
        let samples = start + length == sequence.length();
        let outputs = if sequence.prompt_seen < sequence.prompt_length {
            (start + length).saturating_sub(start.max(sequence.prompt_seen))
        } else {
            usize::from(samples)
        };
        if self.is_long(wanted) {
            plan.budget_long = plan.budget_long.saturating_sub(length - before);
        }
        plan.push(Row {
            sequence: id,
            start,
            length,
            outputs,
            samples,
            drafts: Vec::new(),
        });
    }

    /// How many tokens more a sequence gets that wants `wanted` and had `before`, whose row is withdrawn.
    fn share(&self, wanted: usize, before: usize, plan: &Plan) -> usize {
        let mut share = wanted.min(plan.budget) - before;
        if self.is_long(wanted) {
            share = share.min(plan.budget_long);
        }
        share
    }

    const fn is_long(&self, wanted: usize) -> bool {
        self.options.step_tokens_max / 2 < wanted
    }

    /// Starts a waiting sequence behind what the cache knows of it.
    fn start(&mut self, id: SequenceId, plan: &Plan) -> Start {
        let block_tokens = self.cache.pool().block_tokens();
        let sequence = &self.sequences[&id];
        // It was preempted while a step sampled its next token, which is not known yet.
        if 0 < sequence.pending {
            return Start::Held;
        }
        let hashes = sequence.reusable_hashes(block_tokens);
        let prefix = self.cache.find(hashes);
        let known = prefix.device.len() + prefix.host;
        if hashes
            .get(known)
            .is_some_and(|next| self.computing.contains_key(next))
        {
            return Start::Deferred;
        }
        let length = sequence.tokens.len();
        if self.share(length - known * block_tokens, 0, plan) == 0 {
            return Start::Held;
        }
        // Streams that run will want blocks soon.
        let fresh = self.cache.pool().blocks_for(length) - prefix.device.len();
        if !self.cache.fits(&prefix, fresh, self.running.len()) {
            return Start::Blocked;
        }
        let Ok(blocks) = self.cache.take(&prefix, hashes) else {
            return Start::Blocked;
        };
        let cached = CachedTokens {
            device: prefix.device.len() * block_tokens,
            host: prefix.host * block_tokens,
        };
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.begin(blocks, cached, prefix.device.len());
            claim(&mut self.computing, id, sequence.hashes_ahead());
            self.waiting.remove(&sequence.rank);
            self.waiting_tokens -= sequence.prompt_length;
            self.running.insert(sequence.rank, id);
        }
        Start::Started
    }
}
