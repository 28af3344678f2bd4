//! Room in the cache: who gets blocks, and who gives them back.

use crate::sequence::SequenceId;

use super::{Plan, Scheduler, unclaim};

impl Scheduler {
    /// Lends a running sequence the blocks for its first `length` tokens, taking them from those behind it in line if
    /// need be. False if it had to give its own blocks back.
    pub(super) fn make_room(&mut self, id: SequenceId, length: usize, plan: &mut Plan) -> bool {
        loop {
            let Some(sequence) = self.sequences.get_mut(&id) else {
                return false;
            };
            let needed = self.cache.pool().blocks_for(length);
            let missing = needed.saturating_sub(sequence.blocks.len());
            if let Ok(fresh) = self.cache.lend(missing) {
                sequence.blocks.extend(fresh);
                return true;
            }
            let Some((_, victim)) = self.running.pop_last() else {
                return false;
            };
            plan.withdraw(victim);
            self.send_back(victim);
            plan.preempted.push(victim);
            if victim == id {
                return false;
            }
        }
    }

    /// Puts a sequence that is no longer running back in line, without blocks.
    pub(super) fn send_back(&mut self, id: SequenceId) {
        let Some(mut sequence) = self.sequences.remove(&id) else {
            return;
        };
        unclaim(&mut self.computing, id, sequence.hashes_ahead());
        sequence.release(&mut self.cache);
        sequence.note_preemption();
        self.waiting.insert(sequence.rank, id);
        self.waiting_tokens += sequence.prompt_length;
        self.sequences.insert(id, sequence);
    }
}
