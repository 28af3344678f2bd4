//! Tokenizers out of a `tokenizer.json`, the format of the `tokenizers` library.
//!
//! Each step that the file names must be one we have, because a step that is left out gives wrong tokens.

mod model;
mod steps;
#[cfg(test)]
mod tests;

use engine_core::TokenId;
use serde::Deserialize;
use serde_json::Value;

use super::byte_pair::{BytePair, Strangers};
use super::special::{Reach, SpecialTokens};
use super::unigram::Unigram;
use super::vocabulary::{TokenType, Vocabulary};
use super::word_piece::WordPiece;
use super::{Family, Frame, Pipeline, UnsupportedTokenizer, normalize, pieces};

use model::{Model, Pair, Words};

/// Longer words of WordPiece are unknown, whatever the file says.
const WORD_CHARACTERS_MAX: usize = 1000;
const WORD_CHARACTERS_DEFAULT: u64 = 100;

/// The whole file, its texts borrowed where they have no escapes.
#[derive(Deserialize)]
struct File<'a> {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(borrow)]
    model: Model<'a>,
}

/// A token beside the model's own.
#[derive(Deserialize)]
struct Added {
    id: TokenId,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

/// What a `tokenizer.json` says.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) vocabulary: Vocabulary,
    pub(super) special: SpecialTokens,
    pub(super) pipeline: Pipeline,
    pub(super) frame: Frame,
}

/// Reads a tokenizer out of the file's text.
pub(super) fn parse(text: &str) -> Result<Parsed, UnsupportedTokenizer> {
    let file: File<'_> = serde_json::from_str(text)
        .map_err(|error| inconsistent(&format!("tokenizer.json does not parse: {error}")))?;
    file.model.refuse_features()?;
    let vocabulary = vocabulary(&file)?;
    let normalizers = steps::normalizers(&file.normalizer)?;
    let reach = |added: &Added| Reach {
        is_word: added.single_word,
        takes_left: added.lstrip,
        takes_right: added.rstrip,
    };
    let set = |is_normalized: bool| {
        let tokens = file.added_tokens.iter();
        tokens.filter(move |added| added.normalized == is_normalized)
    };
    let special = set(false).map(|added| (added.content.as_str(), added.id, reach(added)));
    let rewritten: Vec<_> = set(true)
        .map(|added| {
            let text = normalize::normalize(&normalizers, &added.content).into_owned();
            (text, added.id, reach(added))
        })
        .collect();
    let rewritten = rewritten
        .iter()
        .map(|(text, id, reach)| (text.as_str(), *id, *reach));
    let family = family(&file, &vocabulary)?;
    Ok(Parsed {
        special: SpecialTokens::new(special),
        frame: steps::frame(&file.post_processor, &vocabulary)?,
        pipeline: Pipeline {
            rewritten_special: SpecialTokens::new(rewritten),
            normalizers,
            cuts: steps::cuts(&file.pre_tokenizer)?,
            spelling: steps::spelling(&file.decoder)?,
            family,
        },
        vocabulary,
    })
}

fn inconsistent(what: &str) -> UnsupportedTokenizer {
    UnsupportedTokenizer::Inconsistent(what.to_owned())
}

/// Puts the model's tokens and the added ones in the order of their numbers.
fn vocabulary(file: &File<'_>) -> Result<Vocabulary, UnsupportedTokenizer> {
    let ids = file.model.vocab.ids();
    let added = file.added_tokens.iter().map(|added| added.id);
    let known = file.model.vocab.len() + file.added_tokens.len();
    let highest = ids.chain(added).max();
    let count = highest.map_or(0, |highest| highest as usize + 1);
    // Numbers may have gaps; a file of a few tokens must not ask for memory for millions.
    if known.saturating_mul(2).saturating_add(1 << 16) < count {
        return Err(inconsistent("the numbers of the tokens have large gaps"));
    }
    let has_bytes = file.model.byte_fallback;
    let mut tokens = vec![("", TokenType::Unused); count];
    for (text, id) in file.model.vocab.iter() {
        let kind = if has_bytes && pieces::byte_of(text).is_some() {
            TokenType::Byte
        } else {
            TokenType::Normal
        };
        tokens[id as usize] = (text, kind);
    }
    for added in &file.added_tokens {
        let kind = if added.special {
            TokenType::Control
        } else {
            TokenType::UserDefined
        };
        tokens[added.id as usize] = (added.content.as_str(), kind);
    }
    Vocabulary::new(tokens.into_iter())
}

fn family(file: &File<'_>, vocabulary: &Vocabulary) -> Result<Family, UnsupportedTokenizer> {
    let model = &file.model;
    let unknown = model
        .unk_token
        .as_deref()
        .and_then(|text| vocabulary.find(text));
    let strangers = |unknown: Option<TokenId>| Strangers {
        bytes: pieces::byte_tokens(vocabulary),
        unknown,
        fuses: model.fuse_unk,
    };
    match (model.kind(), &model.vocab) {
        ("BPE", Words::Numbered(_)) => {
            let mut family = BytePair::new(vocabulary, model.merges.iter().map(Pair::parts));
            family.takes_whole_words = model.ignore_merges;
            family.strangers = strangers(unknown);
            Ok(Family::BytePair(family))
        }
        ("Unigram", Words::Scored(words)) => {
            let unknown = model.unk_id.filter(|id| (*id as usize) < words.len());
            let scores: Vec<_> = words.iter().map(|(_, score)| *score).collect();
            if scores.iter().any(|score| !score.is_finite()) {
                return Err(inconsistent("a score is not a number"));
            }
            let strangers = Strangers {
                fuses: true,
                ..strangers(unknown)
            };
            Ok(Family::Unigram(Unigram::new(vocabulary, scores, strangers)))
        }
        ("WordPiece", Words::Numbered(_)) => {
            let characters_max = model
                .max_input_chars_per_word
                .unwrap_or(WORD_CHARACTERS_DEFAULT);
            Ok(Family::WordPiece(WordPiece {
                continuation: model
                    .continuing_subword_prefix
                    .clone()
                    .unwrap_or_else(|| "##".to_owned()),
                unknown: unknown.ok_or_else(|| inconsistent("the unknown token is missing"))?,
                characters_max: usize::try_from(characters_max)
                    .unwrap_or(usize::MAX)
                    .min(WORD_CHARACTERS_MAX),
            }))
        }
        (other, _) => Err(UnsupportedTokenizer::Family(other.to_owned())),
    }
}
