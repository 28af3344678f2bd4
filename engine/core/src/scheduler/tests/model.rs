//! A device that computes in steps behind the scheduler's back, and whose next token depends on every token before.
//!
//! It reads them from the cache that the scheduler's blocks describe, so a wrong block, a lost token, a stale prefix or
//! one of somebody else's salt changes the answer. Rows of a step are computed in reverse, so that none may rely on
//! another one.

use std::collections::HashMap;

use super::super::{Row, Scheduler, Step};
use crate::TokenId;
use crate::blocks::BlockId;
use crate::cache::{HostSlot, Transfer};
use crate::sequence::SequenceId;

/// A token and whose it is.
type Cell = (TokenId, u32);

const BLOCK_TOKENS: usize = 4;

#[derive(Default)]
pub(super) struct Device {
    cells: HashMap<(BlockId, usize), Cell>,
    host: HashMap<HostSlot, Vec<Option<Cell>>>,
    last: HashMap<SequenceId, TokenId>,
}

/// A row with all that the device needs, taken when the step was decided.
#[derive(Debug, Clone)]
pub(super) struct Work {
    row: Row,
    known: Vec<TokenId>,
    blocks: Vec<BlockId>,
    owner: u32,
}

/// What a row has sampled, and how many drafts it had.
pub(super) type Outcome = (SequenceId, Vec<TokenId>, usize);

/// A decided step.
pub(super) struct Job {
    transfers: Vec<Transfer>,
    work: Vec<Work>,
}

impl Job {
    /// `owner_of` says whose prefixes a sequence may share.
    pub(super) fn new(
        step: &Step,
        scheduler: &Scheduler,
        owner_of: impl Fn(SequenceId) -> u32,
    ) -> Self {
        let work = step.rows.iter().map(|row| {
            let sequence = scheduler.sequence(row.sequence).unwrap();
            let end = (row.start + row.length - row.drafts.len()).min(sequence.tokens().len());
            Work {
                row: row.clone(),
                known: sequence.tokens()[row.start..end].to_vec(),
                blocks: sequence.blocks().to_vec(),
                owner: owner_of(row.sequence),
            }
        });
        Self {
            transfers: step.transfers.clone(),
            work: work.collect(),
        }
    }
}

impl Device {
    pub(super) fn compute(&mut self, job: &Job) -> Vec<Outcome> {
        for transfer in &job.transfers {
            self.transfer(*transfer);
        }
        job.work
            .iter()
            .rev()
            .filter_map(|work| self.run(work))
            .collect()
    }

    fn transfer(&mut self, transfer: Transfer) {
        match transfer {
            Transfer::Save { block, slot } => {
                let cell = |place| self.cells.get(&(block, place)).copied();
                self.host
                    .insert(slot, (0..BLOCK_TOKENS).map(cell).collect());
            }
            Transfer::Load { slot, block } => {
                for (place, cell) in self.host[&slot].iter().enumerate() {
                    self.cells
                        .insert((block, place), cell.expect("a full block was saved"));
                }
            }
        }
    }

    fn run(&mut self, work: &Work) -> Option<Outcome> {
        let Work {
            row,
            known,
            blocks,
            owner,
        } = work;
        let mut tokens = known.clone();
        if tokens.len() + row.drafts.len() < row.length {
            tokens.push(self.last[&row.sequence]);
        }
        tokens.extend(&row.drafts);
        assert_eq!(tokens.len(), row.length, "the row's tokens");
        let slot = |place: usize| (blocks[place / BLOCK_TOKENS], place % BLOCK_TOKENS);
        for (place, token) in (row.start..).zip(&tokens) {
            self.cells.insert(slot(place), (*token, *owner));
        }
        if !row.samples {
            return None;
        }
        let mut sampled = Vec::new();
        for checked in 0..=row.drafts.len() {
            let length = row.start + row.length - row.drafts.len() + checked;
            let token = next_token((0..length).map(|place| self.cells[&slot(place)]));
            sampled.push(token);
            self.last.insert(row.sequence, token);
            if row.drafts.get(checked) != Some(&token) {
                break;
            }
        }
        Some((row.sequence, sampled, row.drafts.len()))
    }
}

fn next_token(cells: impl Iterator<Item = Cell>) -> TokenId {
    let mix = |sum: u32, (token, owner): Cell| sum.wrapping_mul(31).wrapping_add(token + 7 * owner);
    (cells.fold(1, mix) >> 3) % 3
}

/// What a sequence says when it is computed alone.
pub(super) fn answer_alone(prompt: &[TokenId], owner: u32, generate: usize) -> Vec<TokenId> {
    let mut tokens = prompt.to_vec();
    for _ in 0..generate {
        tokens.push(next_token(tokens.iter().map(|token| (*token, owner))));
    }
    tokens
}
