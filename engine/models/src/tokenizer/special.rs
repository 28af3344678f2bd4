//! Special tokens in a text: found before anything else, the longest first.

use std::collections::HashMap;

use engine_core::TokenId;

use super::{TokenType, Vocabulary};

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    /// A special token.
    Special(TokenId),
    /// Text without special tokens; not empty.
    Text(&'a str),
}

/// The texts of control and user-defined tokens.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    tokens: HashMap<Vec<u8>, TokenId>,
    /// The lengths that occur after each first byte, longest first.
    lengths: HashMap<u8, Vec<usize>>,
}

impl SpecialTokens {
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let (mut tokens, mut lengths) = (HashMap::new(), HashMap::<u8, Vec<usize>>::new());
        for (index, (text, kind)) in vocabulary.texts.iter().zip(&vocabulary.types).enumerate() {
            let is_special = matches!(kind, TokenType::Control | TokenType::UserDefined);
            if let Some(first) = text.as_bytes().first().filter(|_| is_special) {
                tokens
                    .entry(text.clone().into_bytes())
                    .or_insert(index as TokenId);
                lengths.entry(*first).or_default().push(text.len());
            }
        }
        for lengths in lengths.values_mut() {
            lengths.sort_unstable_by(|left, right| right.cmp(left));
            lengths.dedup();
        }
        Self { tokens, lengths }
    }

    /// Cuts a text at special tokens.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<Fragment<'a>> {
        let mut fragments = Vec::new();
        let (mut start, mut place) = (0, 0);
        while place < text.len() {
            match self.find(&text.as_bytes()[place..]) {
                Some((token, length)) => {
                    if start < place {
                        fragments.push(Fragment::Text(&text[start..place]));
                    }
                    fragments.push(Fragment::Special(token));
                    place += length;
                    start = place;
                }
                None => place += 1,
            }
        }
        if start < text.len() {
            fragments.push(Fragment::Text(&text[start..]));
        }
        fragments
    }

    fn find(&self, bytes: &[u8]) -> Option<(TokenId, usize)> {
        let lengths = self.lengths.get(bytes.first()?)?;
        lengths
            .iter()
            .find_map(|&length| Some((*self.tokens.get(bytes.get(..length)?)?, length)))
    }
}
