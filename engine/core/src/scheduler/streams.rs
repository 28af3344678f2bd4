//! Streams: running sequences that want their next token, and the drafts that go with them.

use crate::TokenId;
use crate::sequence::SequenceId;

use super::{Plan, Row, Scheduler};

impl Scheduler {
    pub(super) fn plan_streams(&mut self, plan: &mut Plan) {
        let is_stream = |id: &SequenceId| self.sequences[id].wanted() == 1;
        let streams: Vec<_> = self.running.values().copied().filter(is_stream).collect();
        let drafts_max = self.drafts_max(streams.len(), plan.budget);
        for id in streams {
            if plan.budget == 0 {
                break;
            }
            // Whoever was preempted for the sake of another stream has left the line already.
            if self
                .sequences
                .get(&id)
                .is_none_or(|sequence| !self.running.contains_key(&sequence.rank))
            {
                continue;
            }
            let drafts = self.draft(id, drafts_max.min(plan.budget - 1));
            self.plan_stream(id, drafts, plan);
        }
    }

    fn plan_stream(&mut self, id: SequenceId, drafts: Vec<TokenId>, plan: &mut Plan) {
        let start = self.sequences[&id].computed;
        let length = 1 + drafts.len();
        if !self.make_room(id, start + length, plan) {
            return;
        }
        plan.push(Row {
            sequence: id,
            start,
            length,
            outputs: length,
            samples: true,
            drafts,
        });
    }

    /// Most drafts of one stream: all streams get their next token first, and prompts that wait get half of the rest.
    fn drafts_max(&self, streams: usize, budget: usize) -> usize {
        let Some(speculation) = self.options.speculation else {
            return 0;
        };
        let mut spare = budget.saturating_sub(streams);
        if streams < self.running.len() || !self.waiting.is_empty() {
            spare /= 2;
        }
        speculation.drafts_max.min(spare / streams.max(1))
    }

    fn draft(&mut self, id: SequenceId, count: usize) -> Vec<TokenId> {
        let (Some(speculation), Some(drafter), Some(sequence)) = (
            self.options.speculation,
            self.drafters.get_mut(&id),
            self.sequences.get(&id),
        ) else {
            return Vec::new();
        };
        // The token behind the last right draft is sampled too.
        let room = sequence
            .length_max
            .saturating_sub(sequence.tokens.len() + 1);
        let count = count.min(room);
        if count == 0 || 0 < sequence.pending {
            return Vec::new();
        }
        drafter.propose(&sequence.tokens, &speculation, count)
    }
}
