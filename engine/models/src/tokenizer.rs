//! The tokenizer, built from a model file: text to tokens and tokens to bytes.
//!
//! Two families: byte-level byte-pair encoding (`gpt2` in GGUF: Llama 3, Qwen, SmolLM) and SentencePiece with scores
//! (`llama` in GGUF: Llama 2, Gemma). Both cut a text at special tokens first and then join the best neighbours until
//! none are left; they differ in what they start from and in what is best.

mod alphabet;
mod byte_pair;
mod join;
mod pieces;
mod special;
#[cfg(test)]
mod tests;

use engine_core::TokenId;
use thiserror::Error;

use crate::gguf::GgufFile;

use byte_pair::BytePair;
use pieces::Pieces;
use special::{Fragment, SpecialTokens};

/// Why a file's tokenizer cannot be used.
#[derive(Debug, Error)]
pub enum UnsupportedTokenizer {
    /// The family is unknown.
    #[error("tokenizer {0:?} is not supported; gpt2 and llama are")]
    Family(String),
    /// How words are cut before they are encoded is unknown, and guessing gives wrong tokens.
    #[error("pre-tokenizer {0:?} is not supported")]
    PreTokenizer(String),
    /// The file contradicts itself.
    #[error("the tokenizer is inconsistent: {0}")]
    Inconsistent(String),
}

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
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) texts: Vec<String>,
    pub(crate) types: Vec<TokenType>,
}

#[derive(Debug)]
enum Family {
    BytePair(BytePair),
    Pieces(Pieces),
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    special: SpecialTokens,
    family: Family,
    begin: Option<TokenId>,
    end: Option<TokenId>,
    stops: Vec<TokenId>,
    adds_begin: bool,
    adds_end: bool,
    longest: usize,
}

impl Tokenizer {
    /// Reads the tokenizer out of a file's metadata.
    pub(crate) fn read(file: &GgufFile) -> Result<Self, UnsupportedTokenizer> {
        let vocabulary = Vocabulary::read(file)?;
        let name = file.string("tokenizer.ggml.model").unwrap_or_default();
        let family = match name {
            "gpt2" => Family::BytePair(BytePair::read(file, &vocabulary)?),
            "llama" => Family::Pieces(Pieces::read(file, &vocabulary)?),
            other => return Err(UnsupportedTokenizer::Family(other.to_owned())),
        };
        let id = |key: &str| {
            let id = u32::try_from(file.integer(&format!("tokenizer.ggml.{key}"))?).ok()?;
            ((id as usize) < vocabulary.texts.len()).then_some(id)
        };
        let flag = |key: &str| file.bool(&format!("tokenizer.ggml.{key}"));
        let (begin, end) = (id("bos_token_id"), id("eos_token_id"));
        let mut stops: Vec<_> = [end, id("eot_token_id"), id("eom_token_id")]
            .into_iter()
            .flatten()
            .collect();
        stops.extend(vocabulary.turn_ends());
        stops.sort_unstable();
        stops.dedup();
        let adds_begin = flag("add_bos_token").unwrap_or(matches!(family, Family::Pieces(_)));
        let adds_end = flag("add_eos_token").unwrap_or(false);
        let special = SpecialTokens::new(&vocabulary);
        let longest = vocabulary
            .texts
            .iter()
            .map(String::len)
            .max()
            .unwrap_or(1)
            .max(1);
        Ok(Self {
            special,
            family,
            begin,
            end,
            stops,
            adds_begin,
            adds_end,
            longest,
            vocabulary,
        })
    }

    /// Reads the tokenizer and the chat template of a folder.
    pub(crate) fn open_folder(
        _folder: &std::path::Path,
        _vocabulary: usize,
    ) -> Result<(Self, Option<String>), UnsupportedTokenizer> {
        Err(UnsupportedTokenizer::Family("tokenizer.json".to_owned()))
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary.texts.len()
    }

    /// Bytes of the longest token's text; at least 1.
    pub const fn longest_token(&self) -> usize {
        self.longest
    }

    /// The tokens that end an answer.
    pub fn stop_tokens(&self) -> &[TokenId] {
        &self.stops
    }

    /// The text of the token that begins a sequence, for chat templates.
    pub fn begin_text(&self) -> &str {
        self.begin
            .map_or("", |id| &self.vocabulary.texts[id as usize])
    }

    /// The text of the token that ends a sequence, for chat templates.
    pub fn end_text(&self) -> &str {
        self.end
            .map_or("", |id| &self.vocabulary.texts[id as usize])
    }

    /// Encodes a prompt, with the beginning and the end that the model expects.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        tokens.extend(self.begin.filter(|_| self.adds_begin));
        self.encode_into(text, &mut tokens);
        tokens.extend(self.end.filter(|_| self.adds_end));
        tokens
    }

    /// Encodes a rendered chat: the template has written the beginning, unless it has not.
    pub fn encode_chat(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        self.encode_into(text, &mut tokens);
        match self.begin.filter(|_| self.adds_begin) {
            Some(begin) if tokens.first() != Some(&begin) => tokens.insert(0, begin),
            _ => {}
        }
        tokens
    }

    /// The bytes of a token's text; control tokens have none.
    pub fn bytes(&self, token: TokenId) -> Vec<u8> {
        let index = token as usize;
        match self.vocabulary.types.get(index) {
            None | Some(TokenType::Control | TokenType::Unknown | TokenType::Unused) => Vec::new(),
            Some(TokenType::UserDefined) => self.plain_bytes(index),
            Some(TokenType::Normal | TokenType::Byte) => match &self.family {
                Family::BytePair(_) => alphabet::to_bytes(&self.vocabulary.texts[index]),
                Family::Pieces(_) => pieces::to_bytes(&self.vocabulary.texts[index]),
            },
        }
    }

    /// As [`Self::bytes`], but control tokens show their names: for log probabilities.
    pub fn visible_bytes(&self, token: TokenId) -> Vec<u8> {
        match self.vocabulary.types.get(token as usize) {
            Some(TokenType::Control) => self.vocabulary.texts[token as usize].clone().into_bytes(),
            _ => self.bytes(token),
        }
    }

    fn plain_bytes(&self, index: usize) -> Vec<u8> {
        match &self.family {
            Family::BytePair(_) => self.vocabulary.texts[index].clone().into_bytes(),
            Family::Pieces(_) => pieces::to_bytes(&self.vocabulary.texts[index]),
        }
    }

    fn encode_into(&self, text: &str, tokens: &mut Vec<TokenId>) {
        let mut is_first = true;
        for fragment in self.special.split(text) {
            match fragment {
                Fragment::Special(id) => tokens.push(id),
                Fragment::Text(text) => match &self.family {
                    Family::BytePair(family) => family.encode(text, tokens),
                    Family::Pieces(family) => family.encode(text, is_first, tokens),
                },
            }
            is_first = false;
        }
    }
}

/// The texts of all single bytes, for synthetic vocabularies.
pub(crate) fn byte_texts() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|byte| alphabet::to_char(byte).to_string())
}

impl Vocabulary {
    fn read(file: &GgufFile) -> Result<Self, UnsupportedTokenizer> {
        let inconsistent = |what: &str| UnsupportedTokenizer::Inconsistent(what.to_owned());
        let texts = file
            .strings("tokenizer.ggml.tokens")
            .ok_or_else(|| inconsistent("there are no tokens"))?;
        if texts.is_empty() {
            return Err(inconsistent("the vocabulary is empty"));
        }
        let types: Vec<TokenType> = match file.integers("tokenizer.ggml.token_type") {
            Some(numbers) => numbers
                .iter()
                .map(|number| TokenType::from_gguf(*number))
                .collect(),
            None => vec![TokenType::Normal; texts.len()],
        };
        if types.len() != texts.len() {
            return Err(inconsistent("there are not as many types as tokens"));
        }
        Ok(Self {
            texts: texts.to_vec(),
            types,
        })
    }

    /// Control tokens that end a turn by their names; many files name only one of them as the end.
    fn turn_ends(&self) -> impl Iterator<Item = TokenId> {
        const NAMES: [&str; 6] = [
            "<|im_end|>",
            "<|eot_id|>",
            "<|end_of_text|>",
            "<|endoftext|>",
            "<end_of_turn>",
            "<|eom_id|>",
        ];
        let tokens = self.texts.iter().zip(&self.types).enumerate();
        tokens
            .filter(|(_, (text, kind))| {
                **kind == TokenType::Control && NAMES.contains(&text.as_str())
            })
            .map(|(index, _)| index as TokenId)
    }
}
