//! What restricts an answer: the tokens that may come next.

use std::fmt;

use thiserror::Error;

use crate::TokenId;

const WORD_BITS: usize = u32::BITS as usize;

/// A set of tokens, one bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
}

impl TokenMask {
    /// No token of a vocabulary.
    pub fn none(vocabulary: usize) -> Self {
        Self {
            words: vec![0; vocabulary.div_ceil(WORD_BITS)],
        }
    }

    /// Takes words of 32 tokens each, the lowest bit first.
    pub const fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// The words, 32 tokens each, the lowest bit first.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The words, to be changed in place.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// Adds a token; one outside the vocabulary means nothing.
    pub fn allow(&mut self, token: TokenId) {
        if let Some(word) = self.words.get_mut(token as usize / WORD_BITS) {
            *word |= 1 << (token as usize % WORD_BITS);
        }
    }

    /// Whether a token is in the set.
    #[inline]
    pub fn allows(&self, token: TokenId) -> bool {
        self.words
            .get(token as usize / WORD_BITS)
            .is_some_and(|word| word & (1 << (token as usize % WORD_BITS)) != 0)
    }

    /// How many tokens are in the set.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }
}

/// Why a restriction can no longer be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the answer can no longer follow its grammar: {0}")]
pub struct ConstraintError(pub String);

/// Restricts the tokens of one answer, as a grammar does.
pub trait Constraint: Send + fmt::Debug {
    /// The tokens that may come next; the end of the answer is one of them where it may end.
    ///
    /// # Errors
    /// [`ConstraintError`] if no token may come, or the limits of the computation are passed.
    fn mask(&mut self) -> Result<&TokenMask, ConstraintError>;

    /// Goes on behind a token of the answer.
    ///
    /// # Errors
    /// [`ConstraintError`] if the token was not allowed.
    fn accept(&mut self, token: TokenId) -> Result<(), ConstraintError>;

    /// How many of these tokens may come, one after the other; the state stays as it is.
    fn allowed_prefix(&mut self, tokens: &[TokenId]) -> usize;

    /// Whether nothing but the end may come.
    fn is_finished(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::TokenMask;

    #[test]
    fn a_mask_holds_the_tokens_that_it_was_given() {
        let mut mask = TokenMask::none(70);
        assert_eq!((mask.words().len(), mask.count()), (3, 0));
        for token in [0, 31, 32, 69] {
            mask.allow(token);
        }
        mask.allow(1000);
        let held: Vec<u32> = (0..200).filter(|token| mask.allows(*token)).collect();
        assert_eq!(held, [0, 31, 32, 69]);
        assert_eq!(TokenMask::from_words(mask.words().to_vec()), mask);
    }
}
