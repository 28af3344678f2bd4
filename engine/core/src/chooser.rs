//! The half of an answer that sees logits: chooses its tokens and knows which of them end it.

use crate::TokenId;
use crate::constraint::{Constraint, ConstraintError};
use crate::sampling::{Allowed, Sampled, Sampler, Scratch};

/// A chosen token and whether it ends the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The token.
    pub sampled: Sampled,
    /// Whether it is an end: it adds no text, and nothing comes behind it.
    pub is_end: bool,
}

/// Chooses the tokens of one answer.
#[derive(Debug)]
pub struct Chooser {
    sampler: Sampler,
    vocabulary: Option<usize>,
    stop_tokens: Vec<TokenId>,
    tokens_min: usize,
    tokens: usize,
}

impl Chooser {
    pub(crate) const fn new(
        sampler: Sampler,
        vocabulary: Option<usize>,
        stop_tokens: Vec<TokenId>,
        tokens_min: usize,
    ) -> Self {
        Self {
            sampler,
            vocabulary,
            stop_tokens,
            tokens_min,
            tokens: 0,
        }
    }

    /// Takes note of the prompt, before the first token.
    pub fn read_prompt(&mut self, prompt: &[TokenId]) {
        self.sampler.read_prompt(prompt);
    }

    /// Chooses the next token, as far as a restriction allows. Whoever has the restriction tells it about the token,
    /// unless that is the end.
    ///
    /// # Errors
    /// [`ConstraintError`] if no token may come.
    pub fn choose(
        &mut self,
        logits: &[f32],
        constraint: Option<&mut (dyn Constraint + 'static)>,
        scratch: &mut Scratch,
    ) -> Result<Chosen, ConstraintError> {
        let mut allowed = Allowed {
            vocabulary: self.vocabulary,
            ..Allowed::default()
        };
        if self.tokens < self.tokens_min {
            allowed.banned = &self.stop_tokens;
        }
        // Behind a complete answer only its end may come, be it one of the stop tokens or not.
        let mut is_complete = false;
        if let Some(constraint) = constraint {
            is_complete = constraint.is_finished();
            allowed.mask = Some(constraint.mask()?);
        }
        let sampled = self.sampler.sample(logits, allowed, scratch);
        self.tokens += 1;
        let is_end = is_complete || self.stop_tokens.contains(&sampled.token);
        Ok(Chosen { sampled, is_end })
    }
}
