//! A step in the making.

use crate::sequence::SequenceId;

use super::Row;

/// The rows so far and what is left of the budget.
#[derive(Debug)]
pub(super) struct Plan {
    /// Tokens that may still be computed.
    pub(super) budget: usize,
    /// How many of them long prompts may still take.
    pub(super) budget_long: usize,
    pub(super) rows: Vec<Row>,
    pub(super) preempted: Vec<SequenceId>,
}

impl Plan {
    pub(super) const fn new(budget: usize) -> Self {
        Self {
            budget,
            budget_long: budget / 2,
            rows: Vec::new(),
            preempted: Vec::new(),
        }
    }

    /// Adds a row, which is within the budget.
    pub(super) fn push(&mut self, row: Row) {
        self.budget -= row.length;
        self.rows.push(row);
    }

    /// Takes a sequence's row back, if it has one.
    pub(super) fn withdraw(&mut self, id: SequenceId) -> Option<Row> {
        let place = self.rows.iter().position(|row| row.sequence == id)?;
        let row = self.rows.remove(place);
        self.budget += row.length;
        Some(row)
    }
}
