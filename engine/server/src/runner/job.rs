//! What the two sides of the step loop tell each other: jobs for the device, and what came of them.

use engine_core::{
    AdapterId, BlockId, Chooser, Chosen, Constraint, ConstraintError, PromptLogprob, Scheduler,
    SequenceId, Step, TokenId, Transfer,
};

/// A step in full: everything that the device side needs and does not have.
#[derive(Debug, Default)]
pub(super) struct Job {
    /// Sequences that are new to the device.
    pub(super) begun: Vec<Begun>,
    /// Sequences that the device may forget.
    pub(super) ended: Vec<SequenceId>,
    /// Copies to be made first.
    pub(super) transfers: Vec<Transfer>,
    pub(super) rows: Vec<JobRow>,
}

/// The device's half of a sequence.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: SequenceId,
    pub(super) chooser: Chooser,
    pub(super) constraint: Option<Box<dyn Constraint>>,
    /// How many likeliest tokens to report with each token of the prompt.
    pub(super) prompt_logprobs: usize,
}

/// A row of a step with its tokens.
#[derive(Debug)]
pub(super) struct JobRow {
    pub(super) id: SequenceId,
    /// The tokens that are known.
    pub(super) tokens: Vec<TokenId>,
    /// Whether the token that the last job sampled comes behind them.
    pub(super) follows: bool,
    /// Guesses behind that.
    pub(super) drafts: Vec<TokenId>,
    pub(super) start: usize,
    pub(super) blocks: Vec<BlockId>,
    pub(super) outputs: usize,
    pub(super) samples: bool,
    /// The tokens of the prompt that follow the outputs; the logits say how likely they were.
    pub(super) targets: Vec<TokenId>,
    pub(super) adapter: Option<AdapterId>,
}

/// What came of a row.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) id: SequenceId,
    pub(super) prompt: Vec<PromptLogprob>,
    /// The tokens that were chosen: none if the row does not sample or the sequence was over, more than one if drafts
    /// were right.
    pub(super) chosen: Vec<Chosen>,
    /// Why no more could be chosen.
    pub(super) failure: Option<ConstraintError>,
    /// Guesses that the job had, and those that were computed.
    pub(super) drafts: usize,
    pub(super) drafts_computed: usize,
    pub(super) samples: bool,
}

impl JobRow {
    /// The rows of a step, with the tokens that the scheduler knows.
    pub(super) fn of_step(step: &mut Step, scheduler: &Scheduler) -> Vec<Self> {
        let rows = std::mem::take(&mut step.rows);
        let build = |row: engine_core::Row| {
            let sequence = scheduler.sequence(row.sequence)?;
            let known = sequence.tokens();
            let end = row.start + row.length - row.drafts.len();
            let tokens = known[row.start..end.min(known.len())].to_vec();
            let first_target = row.start + row.length - row.outputs + 1;
            let last_target = (row.start + row.length + 1).min(sequence.prompt_length());
            let targets = if first_target < last_target {
                known[first_target..last_target].to_vec()
            } else {
                Vec::new()
            };
            Some(Self {
                id: row.sequence,
                tokens,
                follows: known.len() < end,
                drafts: row.drafts,
                start: row.start,
                blocks: sequence.blocks().to_vec(),
                outputs: row.outputs,
                samples: row.samples,
                targets,
                adapter: sequence.adapter(),
            })
        };
        rows.into_iter().filter_map(build).collect()
    }
}
