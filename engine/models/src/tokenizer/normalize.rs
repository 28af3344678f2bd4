//! Rewriting a text before it is cut into words.

use std::borrow::Cow;

use fancy_regex::{NoExpand, Regex};
use unicode_normalization::UnicodeNormalization;

use super::bert::{self, BertNormalizer};

/// One step of rewriting.
#[derive(Debug)]
pub(super) enum Normalizer {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    StripAccents,
    Strip { left: bool, right: bool },
    Prepend(String),
    ReplaceText { from: String, to: String },
    ReplaceMatches { pattern: Box<Regex>, to: String },
    Bert(BertNormalizer),
}

/// Rewrites a text by each step.
pub(super) fn normalize<'a>(steps: &[Normalizer], text: &'a str) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for step in steps {
        if let Some(changed) = step.apply(&text) {
            text = Cow::Owned(changed);
        }
    }
    text
}

impl Normalizer {
    /// The text rewritten; `None` if it stays as it is.
    fn apply(&self, text: &str) -> Option<String> {
        // Characters below U+0080 are what each of the forms makes of them.
        let normal = |change: &dyn Fn() -> String| (!text.is_ascii()).then(change);
        match self {
            Self::Nfc => normal(&|| text.nfc().collect()),
            Self::Nfd => normal(&|| text.nfd().collect()),
            Self::Nfkc => normal(&|| text.nfkc().collect()),
            Self::Nfkd => normal(&|| text.nfkd().collect()),
            Self::StripAccents => normal(&|| bert::strip_accents(text)),
            Self::Lowercase => Some(text.chars().flat_map(char::to_lowercase).collect()),
            Self::Strip { left, right } => {
                let text = if *left { text.trim_start() } else { text };
                let text = if *right { text.trim_end() } else { text };
                Some(text.to_owned())
            }
            Self::Prepend(start) => (!text.is_empty()).then(|| format!("{start}{text}")),
            Self::ReplaceText { from, to } => {
                let occurs = !from.is_empty() && text.contains(from.as_str());
                occurs.then(|| text.replace(from.as_str(), to))
            }
            // A pattern that gives up leaves the text as it is.
            Self::ReplaceMatches { pattern, to } => {
                let replaced = pattern.try_replacen(text, 0, NoExpand(to)).ok()?;
                Some(replaced.into_owned())
            }
            Self::Bert(bert) => Some(bert.apply(text)),
        }
    }
}
