//! Normalization as BERT has it, and the classes of characters that it knows.

use std::sync::OnceLock;

use fancy_regex::Regex;
use unicode_normalization::UnicodeNormalization;

/// Which steps BERT's normalization has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BertNormalizer {
    pub(super) cleans: bool,
    pub(super) isolates_ideographs: bool,
    pub(super) strips_accents: bool,
    pub(super) lowercases: bool,
}

impl BertNormalizer {
    pub(super) fn apply(self, text: &str) -> String {
        let mut text = if self.cleans {
            clean(text)
        } else {
            text.to_owned()
        };
        if self.isolates_ideographs && text.contains(is_ideograph) {
            let spaced = |character: char| {
                let space = is_ideograph(character).then_some(' ');
                space.into_iter().chain([character]).chain(space)
            };
            text = text.chars().flat_map(spaced).collect();
        }
        if self.strips_accents && !text.is_ascii() {
            text = strip_accents(&text);
        }
        if self.lowercases {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        text
    }
}

/// Decomposes characters and drops their marks.
pub(super) fn strip_accents(text: &str) -> String {
    text.nfd()
        .filter(|character| !is_mark(*character))
        .collect()
}

fn clean(text: &str) -> String {
    let is_kept = |character: &char| {
        *character != '\0' && *character != char::REPLACEMENT_CHARACTER && !is_control(*character)
    };
    let as_space = |character: char| {
        if character.is_whitespace() {
            ' '
        } else {
            character
        }
    };
    text.chars().filter(is_kept).map(as_space).collect()
}

const fn is_ideograph(character: char) -> bool {
    matches!(
        character as u32,
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

fn is_control(character: char) -> bool {
    static CLASS: OnceLock<Option<Regex>> = OnceLock::new();
    match character {
        '\t' | '\n' | '\r' => false,
        _ if character.is_ascii() => character.is_ascii_control(),
        _ => is_in(&CLASS, r"[\p{Cc}\p{Cf}\p{Co}]", character),
    }
}

pub(super) fn is_punctuation(character: char) -> bool {
    static CLASS: OnceLock<Option<Regex>> = OnceLock::new();
    if character.is_ascii() {
        return character.is_ascii_punctuation();
    }
    !character.is_alphanumeric() && is_in(&CLASS, r"\p{P}", character)
}

fn is_mark(character: char) -> bool {
    static CLASS: OnceLock<Option<Regex>> = OnceLock::new();
    !character.is_ascii() && is_in(&CLASS, r"\p{Mn}", character)
}

fn is_in(class: &OnceLock<Option<Regex>>, pattern: &str, character: char) -> bool {
    let class = class.get_or_init(|| Regex::new(pattern).ok());
    let mut bytes = [0; 4];
    let text = &*character.encode_utf8(&mut bytes);
    class
        .as_ref()
        .is_some_and(|class| class.is_match(text).unwrap_or(false))
}
