//! The model of a `tokenizer.json`: up to some hundred thousand texts, read without a copy of each.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use engine_core::TokenId;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::super::UnsupportedTokenizer;
use super::super::byte_pair::split_rule;

/// The model as the file has it.
#[derive(Deserialize)]
pub(super) struct Model<'a> {
    /// Old files leave it out.
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    pub(super) vocab: Words<'a>,
    #[serde(borrow, default)]
    pub(super) merges: Vec<Pair<'a>>,
    pub(super) unk_token: Option<String>,
    pub(super) unk_id: Option<TokenId>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    pub(super) continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    pub(super) max_input_chars_per_word: Option<u64>,
}

impl Model<'_> {
    /// The family's name, guessed from what there is if the file does not say it.
    pub(super) fn kind(&self) -> &str {
        match (self.kind.as_deref(), &self.vocab) {
            (Some(kind), _) => kind,
            (None, Words::Scored(_)) => "Unigram",
            (None, Words::Numbered(_)) if self.merges.is_empty() => "WordPiece",
            (None, Words::Numbered(_)) => "BPE",
        }
    }

    /// Names features that would silently give wrong tokens.
    pub(super) fn refuse_features(&self) -> Result<(), UnsupportedTokenizer> {
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let marks_parts = self.kind() == "BPE" && is_set(&self.continuing_subword_prefix);
        if marks_parts || is_set(&self.end_of_word_suffix) {
            return Err(UnsupportedTokenizer::Step(
                "byte-pair encoding with marks inside of words".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A text in the file, or a copy if it has escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
            type Value = Text<'a>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// The model's tokens.
pub(super) enum Words<'a> {
    /// With their numbers.
    Numbered(Vec<(Text<'a>, TokenId)>),
    /// In the order of their numbers, with the logarithms of their probabilities.
    Scored(Vec<(Text<'a>, f64)>),
}

impl Words<'_> {
    pub(super) const fn len(&self) -> usize {
        match self {
            Self::Numbered(words) => words.len(),
            Self::Scored(words) => words.len(),
        }
    }

    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = (&str, TokenId)> + '_> {
        match self {
            Self::Numbered(words) => Box::new(words.iter().map(|(text, id)| (&*text.0, *id))),
            Self::Scored(words) => {
                Box::new(words.iter().zip(0..).map(|((text, _), id)| (&*text.0, id)))
            }
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = TokenId> {
        self.iter().map(|(_, id)| id)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Words<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for WordsVisitor<'a> {
            type Value = Words<'a>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("tokens with numbers, or with scores")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut words = Vec::new();
                while let Some(word) = map.next_entry()? {
                    words.push(word);
                }
                Ok(Words::Numbered(words))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(Words::Scored(words))
            }
        }

        deserializer.deserialize_any(WordsVisitor(PhantomData))
    }
}

/// A merge rule, in the spelling of either generation.
pub(super) enum Pair<'a> {
    One(Text<'a>),
    Two(Text<'a>, Text<'a>),
}

impl Pair<'_> {
    pub(super) fn parts(&self) -> Option<(&str, &str)> {
        match self {
            Self::One(rule) => split_rule(&rule.0),
            Self::Two(left, right) => Some((&left.0, &right.0)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pair<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairVisitor<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for PairVisitor<'a> {
            type Value = Pair<'a>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("two texts")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Pair::One(Text(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Pair::One(Text(Cow::Owned(text.to_owned()))))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
                use serde::de::Error;

                let missing = || S::Error::custom("a merge rule has two parts");
                let left = list.next_element()?.ok_or_else(missing)?;
                let right = list.next_element()?.ok_or_else(missing)?;
                Ok(Pair::Two(left, right))
            }
        }

        deserializer.deserialize_any(PairVisitor(PhantomData))
    }
}
