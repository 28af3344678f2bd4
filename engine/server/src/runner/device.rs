//! The device's side of the step loop: runs the backend and chooses tokens, one job after the other.
//!
//! It knows the last token of each sequence before anybody else does. So a job may be made before the job before it
//! has run: where a row's last token is not known yet, it is filled in here. A sequence whose last token was an end
//! is computed no further.

use std::collections::HashMap;

use engine_core::{
    Chooser, Chosen, ConstraintError, PromptLogprob, Scratch, SequenceId, TokenId, Transfer,
};
use engine_models::{Backend, BatchRow};

use super::job::{Begun, Job, JobRow, Outcome};
use super::masks::{Masks, Restriction};

/// A sequence as the device knows it.
struct Held {
    chooser: Chooser,
    restriction: Option<Restriction>,
    prompt_logprobs: usize,
    last: Option<TokenId>,
    is_over: bool,
}

/// The backend and the device's half of each sequence.
pub(super) struct Device {
    pub(super) backend: Box<dyn Backend>,
    held: HashMap<SequenceId, Held>,
    /// Evicted blocks, by slot.
    host: Vec<Option<Box<[u8]>>>,
    masks: Masks,
    scratch: Scratch,
}

impl Device {
    pub(super) fn new(backend: Box<dyn Backend>, grammar_threads: usize) -> Self {
        Self {
            backend,
            held: HashMap::new(),
            host: Vec::new(),
            masks: Masks::start(grammar_threads),
            scratch: Scratch::default(),
        }
    }

    /// Computes a job.
    pub(super) fn compute(&mut self, job: Job) -> Vec<Outcome> {
        let Job {
            begun,
            ended,
            transfers,
            mut rows,
        } = job;
        for id in ended {
            self.held.remove(&id);
        }
        for begun in begun {
            self.begin(begun);
        }
        for transfer in transfers {
            self.transfer(transfer);
        }
        let drafts: HashMap<_, _> = rows.iter().map(|row| (row.id, row.drafts.len())).collect();
        let mut outcomes = Vec::with_capacity(rows.len());
        rows.retain_mut(|row| {
            let is_ready = self.prepare(row);
            if !is_ready {
                outcomes.push(Outcome::skipped(row));
            }
            is_ready
        });
        self.forward(&rows, &mut outcomes);
        for outcome in &mut outcomes {
            outcome.drafts = drafts.get(&outcome.id).copied().unwrap_or(0);
        }
        outcomes
    }

    /// Forgets what the host keeps of evicted blocks.
    pub(super) fn drop_host_blocks(&mut self) {
        self.host = Vec::new();
    }

    fn begin(&mut self, begun: Begun) {
        let Begun {
            id,
            chooser,
            constraint,
            prompt_logprobs,
        } = begun;
        // The first mask is computed while the prompt is.
        let restriction = constraint.map(|constraint| self.masks.advance(constraint, None));
        self.held.insert(
            id,
            Held {
                chooser,
                restriction,
                prompt_logprobs,
                last: None,
                is_over: false,
            },
        );
    }

    fn transfer(&mut self, transfer: Transfer) {
        match transfer {
            Transfer::Save { block, slot } => {
                if self.host.len() <= slot.index() {
                    self.host.resize(slot.index() + 1, None);
                }
                let bytes = self.host[slot.index()]
                    .get_or_insert_with(|| vec![0; self.backend.block_bytes()].into());
                self.backend.read_block(block, bytes);
            }
            Transfer::Load { slot, block } => {
                if let Some(Some(bytes)) = self.host.get(slot.index()) {
                    self.backend.write_block(block, bytes);
                }
            }
        }
    }

    /// Completes a row's tokens. False if the sequence is over: then there is nothing to compute.
    fn prepare(&mut self, row: &mut JobRow) -> bool {
        let Some(held) = self.held.get_mut(&row.id).filter(|held| !held.is_over) else {
            return false;
        };
        if row.follows {
            let Some(last) = held.last else { return false };
            row.tokens.push(last);
        }
        if let (false, Some(restriction)) = (row.drafts.is_empty(), &mut held.restriction) {
            let allowed = restriction
                .wait()
                .map_or(0, |constraint| constraint.allowed_prefix(&row.drafts));
            row.outputs -= row.drafts.len() - allowed;
            row.drafts.truncate(allowed);
        }
        row.tokens.extend_from_slice(&row.drafts);
        true
    }

    fn forward(&mut self, rows: &[JobRow], outcomes: &mut Vec<Outcome>) {
        if rows.is_empty() {
            return;
        }
        let batch: Vec<_> = rows
            .iter()
            .map(|row| BatchRow {
                tokens: &row.tokens,
                start: row.start,
                blocks: &row.blocks,
                outputs: row.outputs,
                adapter: row.adapter,
            })
            .collect();
        let mut logits = self.backend.forward(&batch).rows();
        for row in rows {
            let logits: Vec<_> = logits.by_ref().take(row.outputs).collect();
            if let Some(held) = self.held.get_mut(&row.id) {
                outcomes.push(held.read(row, &logits, &mut self.masks, &mut self.scratch));
            }
        }
    }
}

impl Held {
    /// Makes tokens and log probabilities of a row's logits.
    fn read(
        &mut self,
        row: &JobRow,
        logits: &[&[f32]],
        masks: &mut Masks,
        scratch: &mut Scratch,
    ) -> Outcome {
        let count = self.prompt_logprobs;
        let prompt = row.targets.iter().zip(logits);
        let prompt = prompt.map(|(token, logits)| PromptLogprob::of(logits, *token, count));
        let mut outcome = Outcome {
            prompt: prompt.collect(),
            drafts_computed: row.drafts.len(),
            samples: row.samples,
            ..Outcome::skipped(row)
        };
        if !row.samples {
            return outcome;
        }
        let sampled = &logits[logits.len().saturating_sub(row.drafts.len() + 1)..];
        for (place, logits) in sampled.iter().enumerate() {
            let chosen = match self.choose(logits, scratch) {
                Ok(chosen) => chosen,
                Err(error) => {
                    self.is_over = true;
                    outcome.failure = Some(error);
                    return outcome;
                }
            };
            let (token, is_end) = (chosen.sampled.token, chosen.is_end);
            self.last = Some(token);
            self.is_over = is_end;
            outcome.chosen.push(chosen);
            let goes_on = !is_end && row.drafts.get(place) == Some(&token);
            if let (false, Some(restriction)) = (is_end, &mut self.restriction) {
                restriction.send(masks, Some(token));
            }
            if !goes_on {
                break;
            }
        }
        outcome
    }

    fn choose(&mut self, logits: &[f32], scratch: &mut Scratch) -> Result<Chosen, ConstraintError> {
        match &mut self.restriction {
            None => self.chooser.choose(logits, None, scratch),
            Some(restriction) => {
                let constraint = restriction.wait()?;
                self.chooser
                    .choose(logits, Some(&mut **constraint), scratch)
            }
        }
    }
}

impl Outcome {
    /// Nothing came of a row.
    fn skipped(row: &JobRow) -> Self {
        Self {
            id: row.id,
            prompt: Vec::new(),
            chosen: Vec::new(),
            failure: None,
            drafts: row.drafts.len(),
            drafts_computed: 0,
            samples: row.samples,
        }
    }
}
