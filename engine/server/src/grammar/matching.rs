//! A grammar at work: which tokens may come next in one answer.

use std::fmt;

use engine_core::{Constraint, ConstraintError, TokenId, TokenMask};
use llguidance::Matcher;

/// The state of one answer under its grammar.
pub struct Matching {
    matcher: Matcher,
    /// Number of tokens.
    vocabulary: usize,
    /// The mask of the present state, once somebody wanted it.
    mask: Option<TokenMask>,
}

impl Matching {
    pub(super) const fn new(matcher: Matcher, vocabulary: usize) -> Self {
        Self {
            matcher,
            vocabulary,
            mask: None,
        }
    }

    /// The tokens that must come next, whatever the model says: empty where it has a choice. The state stays as it
    /// is.
    pub fn forced(&mut self) -> Vec<TokenId> {
        if self.matcher.is_stopped() {
            return Vec::new();
        }
        self.matcher.compute_ff_tokens()
    }

    /// Whether the answer may end here.
    pub fn may_end(&mut self) -> bool {
        self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false)
    }

    fn compute(&mut self) -> Result<TokenMask, ConstraintError> {
        let set = self.matcher.compute_mask_or_eos().map_err(fault)?;
        Ok(TokenMask::from_words(set.into()))
    }
}

impl Constraint for Matching {
    fn mask(&mut self) -> Result<&TokenMask, ConstraintError> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None => self.compute()?,
        };
        Ok(self.mask.insert(mask))
    }

    fn accept(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        if self.matcher.is_stopped() {
            let mask = self.mask()?;
            return if mask.allows(token) {
                Ok(())
            } else {
                Err(ConstraintError(format!("token {token} follows its end")))
            };
        }
        self.mask = None;
        self.matcher.consume_token(token).map_err(fault)
    }

    fn allowed_prefix(&mut self, tokens: &[TokenId]) -> usize {
        // A token that does not exist would break the parser instead of being refused.
        let known = tokens
            .iter()
            .take_while(|token| (**token as usize) < self.vocabulary)
            .count();
        if self.matcher.is_stopped() || known == 0 {
            return 0;
        }
        self.matcher.validate_tokens(&tokens[..known]).unwrap_or(0)
    }

    fn is_finished(&self) -> bool {
        self.matcher.is_stopped()
    }
}

impl fmt::Debug for Matching {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Matching")
            .field("stop_reason", &self.matcher.stop_reason())
            .finish_non_exhaustive()
    }
}

/// The first line of an error: the rest is the state of the parser, which holds the answer's text.
fn fault(error: impl fmt::Display) -> ConstraintError {
    let text = error.to_string();
    ConstraintError(text.lines().next().unwrap_or_default().to_owned())
}
