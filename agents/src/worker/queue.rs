//! Runs that wait, in turn by account: who starts a thousand runs delays nobody else by more than one.

use std::collections::{HashMap, VecDeque};

use crate::store::{Account, RunId};

/// Waiting runs.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    by_account: HashMap<Account, VecDeque<RunId>>,
    /// Accounts with waiting runs, the next one first.
    turns: VecDeque<Account>,
}

impl FairQueue {
    pub(super) fn push(&mut self, account: Account, run: RunId) {
        let waiting = self.by_account.entry(account.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(account);
        }
        waiting.push_back(run);
    }

    /// The next run; its account's next one waits for all other accounts.
    pub(super) fn pop(&mut self) -> Option<RunId> {
        let account = self.turns.pop_front()?;
        let waiting = self.by_account.get_mut(&account)?;
        let run = waiting.pop_front();
        if waiting.is_empty() {
            self.by_account.remove(&account);
        } else {
            self.turns.push_back(account);
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use super::FairQueue;
    use crate::store::{Account, RunId};

    #[test]
    fn accounts_take_turns_and_keep_their_order() {
        let mut queue = FairQueue::default();
        for (account, run) in [
            ("a", "a1"),
            ("a", "a2"),
            ("a", "a3"),
            ("b", "b1"),
            ("c", "c1"),
            ("c", "c2"),
        ] {
            queue.push(Account(account.to_owned()), RunId(run.to_owned()));
        }
        let order: Vec<String> = std::iter::from_fn(|| queue.pop())
            .map(|run| run.0)
            .collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "c2", "a3"]);
        assert!(queue.by_account.is_empty() && queue.turns.is_empty());
    }
}
