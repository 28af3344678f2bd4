//! The tokenizer of a model: text to tokens and tokens to bytes.
//!
//! It comes out of a GGUF file or out of a `tokenizer.json`. A text is cut at special tokens, rewritten, cut into
//! words, and each word is encoded by the model's family: byte-pair encoding, pieces with scores (both SentencePiece's
//! families), or WordPiece.

mod alphabet;
mod bert;
mod byte_pair;
mod cut;
mod folder;
mod join;
mod json;
mod normalize;
mod pieces;
mod special;
#[cfg(test)]
mod tests;
mod unigram;
mod vocabulary;
mod word_piece;

use std::borrow::Cow;

use engine_core::TokenId;
use thiserror::Error;

use crate::files::FileError;
use crate::gguf::GgufFile;

use byte_pair::BytePair;
use cut::Cut;
use normalize::Normalizer;
use pieces::Pieces;
use special::{Fragment, SpecialTokens};
use unigram::Unigram;
use vocabulary::{TokenType, Vocabulary};
use word_piece::WordPiece;

/// Why a file's tokenizer cannot be used.
#[derive(Debug, Error)]
pub enum UnsupportedTokenizer {
    /// The family is unknown.
    #[error("tokenizer {0:?} is not supported")]
    Family(String),
    /// How words are cut before they are encoded is unknown, and guessing gives wrong tokens.
    #[error("pre-tokenizer {0:?} is not supported")]
    PreTokenizer(String),
    /// A step of a `tokenizer.json` is unknown, and leaving it out gives wrong tokens.
    #[error("the tokenizer has {0}, which is not supported")]
    Step(String),
    /// A file beside the weights cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file contradicts itself.
    #[error("the tokenizer is inconsistent: {0}")]
    Inconsistent(String),
}

impl UnsupportedTokenizer {
    /// Whether the file is sound and merely not for this engine.
    pub(crate) const fn is_unsupported(&self) -> bool {
        match self {
            Self::Family(_) | Self::PreTokenizer(_) | Self::Step(_) => true,
            Self::File(_) | Self::Inconsistent(_) => false,
        }
    }
}

#[derive(Debug)]
enum Family {
    BytePair(BytePair),
    Pieces(Pieces),
    Unigram(Unigram),
    WordPiece(WordPiece),
}

/// How the texts of tokens become text again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// In the alphabet of bytes.
    Bytes,
    /// With SentencePiece's spaces, and bytes as `<0x0A>`.
    Pieces,
    /// With marks on pieces that continue a word.
    WordPiece,
    /// As they are.
    Plain,
}

/// From a text without special tokens to tokens.
#[derive(Debug)]
struct Pipeline {
    normalizers: Vec<Normalizer>,
    /// Special tokens that are looked for in the rewritten text.
    rewritten_special: SpecialTokens,
    cuts: Vec<Cut>,
    family: Family,
    spelling: Spelling,
}

/// Tokens around each text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Frame {
    before: Vec<TokenId>,
    behind: Vec<TokenId>,
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    /// Tokens of the model, which may have fewer or more than the tokenizer.
    model_vocabulary: usize,
    special: SpecialTokens,
    pipeline: Pipeline,
    frame: Frame,
    begin: Option<TokenId>,
    end: Option<TokenId>,
    stops: Vec<TokenId>,
}

impl Tokenizer {
    /// Reads the tokenizer out of a GGUF file's metadata.
    pub(crate) fn read(file: &GgufFile) -> Result<Self, UnsupportedTokenizer> {
        let vocabulary = Vocabulary::read(file)?;
        let flag = |key: &str| file.bool(&format!("tokenizer.ggml.{key}"));
        let name = file.string("tokenizer.ggml.model").unwrap_or_default();
        let (pipeline, adds_begin) = match name {
            "gpt2" => {
                let name = file.string("tokenizer.ggml.pre").unwrap_or("default");
                let prepared = byte_pair::preparation(name)?;
                let mut family = BytePair::read(file, &vocabulary)?;
                family.takes_whole_words = prepared.takes_whole_words;
                let pipeline = Pipeline {
                    normalizers: prepared.normalizers,
                    rewritten_special: SpecialTokens::default(),
                    cuts: prepared.cuts,
                    family: Family::BytePair(family),
                    spelling: Spelling::Bytes,
                };
                (pipeline, prepared.adds_begin)
            }
            "llama" => {
                let pipeline = Pipeline {
                    normalizers: Vec::new(),
                    rewritten_special: SpecialTokens::default(),
                    cuts: Vec::new(),
                    family: Family::Pieces(Pieces::read(file, &vocabulary)?),
                    spelling: Spelling::Pieces,
                };
                (pipeline, true)
            }
            other => return Err(UnsupportedTokenizer::Family(other.to_owned())),
        };
        let id = |key: &str| {
            let id = u32::try_from(file.integer(&format!("tokenizer.ggml.{key}"))?).ok()?;
            ((id as usize) < vocabulary.len()).then_some(id)
        };
        let (begin, end) = (id("bos_token_id"), id("eos_token_id"));
        let stops = [end, id("eot_token_id"), id("eom_token_id")];
        let adds_begin = flag("add_bos_token").unwrap_or(adds_begin);
        let adds_end = flag("add_eos_token").unwrap_or(false);
        let frame = Frame {
            before: begin.filter(|_| adds_begin).into_iter().collect(),
            behind: end.filter(|_| adds_end).into_iter().collect(),
        };
        Ok(Self {
            model_vocabulary: vocabulary.len(),
            special: SpecialTokens::of(&vocabulary),
            pipeline,
            frame,
            begin,
            end,
            stops: stops_of(&vocabulary, stops.into_iter().flatten()),
            vocabulary,
        })
    }

    /// Number of tokens that the model knows.
    pub const fn vocabulary(&self) -> usize {
        self.model_vocabulary
    }

    /// Bytes of the longest token's text; at least 1.
    pub const fn longest_token(&self) -> usize {
        // A piece of WordPiece gets a space.
        self.vocabulary.longest() + 1
    }

    /// The tokens that end an answer.
    pub fn stop_tokens(&self) -> &[TokenId] {
        &self.stops
    }

    /// The text of the token that begins a sequence, for chat templates.
    pub fn begin_text(&self) -> &str {
        self.begin
            .and_then(|id| self.vocabulary.text(id))
            .unwrap_or_default()
    }

    /// The text of the token that ends a sequence, for chat templates.
    pub fn end_text(&self) -> &str {
        self.end
            .and_then(|id| self.vocabulary.text(id))
            .unwrap_or_default()
    }

    /// Encodes a prompt, with the beginning and the end that the model expects.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = self.frame.before.clone();
        self.encode_into(text, &mut tokens);
        tokens.extend(&self.frame.behind);
        tokens
    }

    /// Encodes a text without the beginning and the end that the model expects.
    pub fn encode_plain(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        self.encode_into(text, &mut tokens);
        tokens
    }

    /// Encodes a rendered chat: the template has written the beginning, unless it has not.
    pub fn encode_chat(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = Vec::new();
        self.encode_into(text, &mut tokens);
        if !tokens.starts_with(&self.frame.before) {
            tokens.splice(0..0, self.frame.before.iter().copied());
        }
        tokens
    }

    /// The bytes of a token's text; control tokens have none.
    pub fn bytes(&self, token: TokenId) -> Vec<u8> {
        let text = self.vocabulary.text(token).unwrap_or_default();
        match self.vocabulary.kind(token) {
            None | Some(TokenType::Control | TokenType::Unknown | TokenType::Unused) => Vec::new(),
            Some(TokenType::UserDefined) if self.pipeline.spelling != Spelling::Pieces => {
                text.as_bytes().to_vec()
            }
            Some(TokenType::UserDefined | TokenType::Normal | TokenType::Byte) => {
                self.pipeline.to_bytes(text)
            }
        }
    }

    /// As [`Self::bytes`], but control tokens show their names: for log probabilities.
    pub fn visible_bytes(&self, token: TokenId) -> Vec<u8> {
        match self.vocabulary.kind(token) {
            Some(TokenType::Control) => {
                let text = self.vocabulary.text(token).unwrap_or_default();
                text.as_bytes().to_vec()
            }
            _ => self.bytes(token),
        }
    }

    fn encode_into(&self, text: &str, tokens: &mut Vec<TokenId>) {
        let before = tokens.len();
        let mut is_first = true;
        for fragment in self.special.split(text) {
            match fragment {
                Fragment::Special(id) => tokens.push(id),
                Fragment::Text(text) => {
                    self.pipeline
                        .encode(&self.vocabulary, text, is_first, tokens);
                }
            }
            is_first = false;
        }
        // Some tokenizers have a special token more than their models.
        if self.model_vocabulary < self.vocabulary.len() {
            let mut index = 0;
            tokens.retain(|token| {
                index += 1;
                index <= before || (*token as usize) < self.model_vocabulary
            });
        }
    }
}

impl Pipeline {
    fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        is_first: bool,
        tokens: &mut Vec<TokenId>,
    ) {
        let text = normalize::normalize(&self.normalizers, text);
        let mut is_first = is_first;
        for fragment in self.rewritten_special.split(&text) {
            match fragment {
                Fragment::Special(id) => tokens.push(id),
                Fragment::Text(text) => self.encode_text(vocabulary, text, is_first, tokens),
            }
            is_first = false;
        }
    }

    fn encode_text(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        is_first: bool,
        tokens: &mut Vec<TokenId>,
    ) {
        for word in cut::cut(&self.cuts, Cow::Borrowed(text), is_first) {
            match &self.family {
                Family::BytePair(family) => family.encode_word(vocabulary, &word, tokens),
                Family::Pieces(family) => family.encode(vocabulary, &word, is_first, tokens),
                Family::Unigram(family) => family.encode_word(vocabulary, &word, tokens),
                Family::WordPiece(family) => family.encode_word(vocabulary, &word, tokens),
            }
        }
    }

    fn to_bytes(&self, text: &str) -> Vec<u8> {
        match (self.spelling, &self.family) {
            (Spelling::Bytes, _) => alphabet::to_bytes(text),
            (Spelling::Pieces, _) => pieces::to_bytes(text),
            (Spelling::WordPiece, Family::WordPiece(family)) => family.to_bytes(text),
            (Spelling::WordPiece | Spelling::Plain, _) => text.as_bytes().to_vec(),
        }
    }
}

/// The tokens that end an answer: those that a file names, and those that are named so.
fn stops_of(vocabulary: &Vocabulary, named: impl Iterator<Item = TokenId>) -> Vec<TokenId> {
    let mut stops: Vec<_> = named.chain(vocabulary.turn_ends()).collect();
    stops.sort_unstable();
    stops.dedup();
    stops
}

/// The texts of all single bytes, for synthetic vocabularies.
pub(crate) fn byte_texts() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|byte| alphabet::to_char(byte).to_string())
}
