//! Special tokens in a text: found before anything else, the leftmost and of these the longest.

use std::collections::HashMap;

use engine_core::TokenId;

use super::vocabulary::{TokenType, Vocabulary};

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    /// A special token.
    Special(TokenId),
    /// Text without special tokens; not empty.
    Text(&'a str),
}

/// Where a special token is recognized, and what it takes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Only where no letter or digit is beside it.
    pub(super) is_word: bool,
    /// White space before it belongs to it.
    pub(super) takes_left: bool,
    /// White space behind it belongs to it.
    pub(super) takes_right: bool,
}

/// The texts of control and user-defined tokens.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    tokens: HashMap<Vec<u8>, (TokenId, Reach)>,
    /// The lengths that occur after each first byte, longest first.
    lengths: Vec<Vec<usize>>,
}

impl SpecialTokens {
    pub(super) fn of(vocabulary: &Vocabulary) -> Self {
        let special = vocabulary
            .iter()
            .filter(|(_, _, kind)| matches!(kind, TokenType::Control | TokenType::UserDefined));
        Self::new(special.map(|(id, text, _)| (text, id, Reach::default())))
    }

    pub(super) fn new<'a>(special: impl Iterator<Item = (&'a str, TokenId, Reach)>) -> Self {
        let mut tokens = HashMap::new();
        let mut lengths = vec![Vec::new(); 256];
        for (text, id, reach) in special {
            if let Some(first) = text.as_bytes().first() {
                tokens
                    .entry(text.as_bytes().to_vec())
                    .or_insert((id, reach));
                lengths[usize::from(*first)].push(text.len());
            }
        }
        for lengths in &mut lengths {
            lengths.sort_unstable_by(|left, right| right.cmp(left));
            lengths.dedup();
        }
        if tokens.is_empty() {
            lengths.clear();
        }
        Self { tokens, lengths }
    }

    /// Cuts a text at special tokens.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<Fragment<'a>> {
        let mut fragments = Vec::new();
        let (mut start, mut place) = (0, 0);
        while place < text.len() && !self.lengths.is_empty() {
            let Some((token, length, reach)) = self.find(&text.as_bytes()[place..]) else {
                place += 1;
                continue;
            };
            let (mut left, mut right) = (place, place + length);
            place = right;
            if reach.is_word && !(ends_no_word(&text[..left]) && starts_no_word(&text[right..])) {
                continue;
            }
            if reach.takes_left {
                left = text[..left].trim_end().len().max(start);
            }
            if reach.takes_right {
                right = text.len() - text[right..].trim_start().len();
            }
            if start < left {
                fragments.push(Fragment::Text(&text[start..left]));
            }
            fragments.push(Fragment::Special(token));
            (start, place) = (right, right);
        }
        if start < text.len() {
            fragments.push(Fragment::Text(&text[start..]));
        }
        fragments
    }

    fn find(&self, bytes: &[u8]) -> Option<(TokenId, usize, Reach)> {
        let lengths = self.lengths.get(usize::from(*bytes.first()?))?;
        lengths.iter().find_map(|&length| {
            let (token, reach) = self.tokens.get(bytes.get(..length)?)?;
            Some((*token, length, *reach))
        })
    }
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn ends_no_word(text: &str) -> bool {
    !text.chars().next_back().is_some_and(is_word_character)
}

fn starts_no_word(text: &str) -> bool {
    !text.chars().next().is_some_and(is_word_character)
}
