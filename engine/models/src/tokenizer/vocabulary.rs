//! The tokens of a model: their texts in one piece of memory, found by text and by number.

use engine_core::TokenId;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use crate::gguf::GgufFile;

use super::UnsupportedTokenizer;

/// Tokens that a vocabulary may have.
const TOKENS_MAX: usize = 1 << 22;

/// What a token is for; numbers as in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    Normal,
    Unknown,
    /// Steers the model and has no text.
    Control,
    /// Has text, and is never made by joining.
    UserDefined,
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

impl TokenType {
    const fn from_gguf(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// The tokens of a model with their texts as the file has them.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    texts: String,
    /// Where each token's text ends; it begins where the one before ends.
    ends: Vec<u32>,
    types: Vec<TokenType>,
    table: HashTable<TokenId>,
    hasher: DefaultHashBuilder,
    longest: usize,
}

impl Vocabulary {
    /// Reads the vocabulary of a GGUF file.
    pub(super) fn read(file: &GgufFile) -> Result<Self, UnsupportedTokenizer> {
        let inconsistent = |what: &str| UnsupportedTokenizer::Inconsistent(what.to_owned());
        let texts = file
            .strings("tokenizer.ggml.tokens")
            .ok_or_else(|| inconsistent("there are no tokens"))?;
        let types = file.integers("tokenizer.ggml.token_type");
        if types.is_some_and(|types| types.len() != texts.len()) {
            return Err(inconsistent("there are not as many types as tokens"));
        }
        let kind = |index: usize| {
            types.map_or(TokenType::Normal, |types| {
                TokenType::from_gguf(types[index])
            })
        };
        let tokens = texts.iter().enumerate();
        Self::new(tokens.map(|(index, text)| (text.as_str(), kind(index))))
    }

    /// Takes tokens in the order of their numbers. Of equal texts the first one is found.
    pub(super) fn new<'a>(
        tokens: impl Iterator<Item = (&'a str, TokenType)> + Clone,
    ) -> Result<Self, UnsupportedTokenizer> {
        let inconsistent = |what: &str| UnsupportedTokenizer::Inconsistent(what.to_owned());
        let (count, bytes) = tokens.clone().fold((0, 0), |(count, bytes), (text, _)| {
            (count + 1, bytes + text.len())
        });
        if count == 0 {
            return Err(inconsistent("the vocabulary is empty"));
        }
        if TOKENS_MAX < count || u32::try_from(bytes).is_err() {
            return Err(inconsistent("the vocabulary is too large"));
        }
        let mut vocabulary = Self {
            texts: String::with_capacity(bytes),
            ends: Vec::with_capacity(count),
            types: Vec::with_capacity(count),
            table: HashTable::with_capacity(count),
            ..Self::default()
        };
        for (text, kind) in tokens {
            vocabulary.push(text, kind);
        }
        Ok(vocabulary)
    }

    fn push(&mut self, text: &str, kind: TokenType) {
        let id = self.types.len() as TokenId;
        self.texts.push_str(text);
        self.ends.push(self.texts.len() as u32);
        self.types.push(kind);
        self.longest = self.longest.max(text.len());
        let Self {
            texts,
            ends,
            table,
            hasher,
            ..
        } = self;
        if !text.is_empty() {
            table
                .entry(
                    hasher.hash_one(text),
                    |id| text_of(texts, ends, *id) == Some(text),
                    |id| hasher.hash_one(text_of(texts, ends, *id).unwrap_or_default()),
                )
                .or_insert(id);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.types.len()
    }

    /// Bytes of the longest text.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    pub(super) fn text(&self, id: TokenId) -> Option<&str> {
        text_of(&self.texts, &self.ends, id)
    }

    pub(super) fn kind(&self, id: TokenId) -> Option<TokenType> {
        self.types.get(id as usize).copied()
    }

    /// The first token with this text.
    pub(super) fn find(&self, text: &str) -> Option<TokenId> {
        let is_equal = |id: &TokenId| self.text(*id) == Some(text);
        self.table
            .find(self.hasher.hash_one(text), is_equal)
            .copied()
    }

    /// All tokens in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TokenId, &str, TokenType)> {
        let kinds = self.types.iter().enumerate();
        kinds.map(|(id, kind)| {
            (
                id as TokenId,
                self.text(id as TokenId).unwrap_or_default(),
                *kind,
            )
        })
    }

    /// Control tokens that end a turn by their names; many files name only one of them as the end.
    pub(super) fn turn_ends(&self) -> impl Iterator<Item = TokenId> {
        const NAMES: [&str; 6] = [
            "<|im_end|>",
            "<|eot_id|>",
            "<|end_of_text|>",
            "<|endoftext|>",
            "<end_of_turn>",
            "<|eom_id|>",
        ];
        let ids = NAMES.into_iter().filter_map(|name| self.find(name));
        ids.filter(|id| self.kind(*id) == Some(TokenType::Control))
    }
}

fn text_of<'a>(texts: &'a str, ends: &[u32], id: TokenId) -> Option<&'a str> {
    let end = *ends.get(id as usize)? as usize;
    let start = match id.checked_sub(1) {
        Some(before) => ends[before as usize] as usize,
        None => 0,
    };
    texts.get(start..end)
}
