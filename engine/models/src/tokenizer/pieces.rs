//! SentencePiece with scores: characters are joined to the piece with the highest score; what is no piece becomes bytes.

use std::collections::HashMap;

use engine_core::TokenId;

use crate::gguf::GgufFile;

use super::UnsupportedTokenizer;
use super::cut::SPACE;
use super::join::{Rank, Symbol, join};
use super::vocabulary::{TokenType, Vocabulary};

/// The pieces of a model.
#[derive(Debug)]
pub(super) struct Pieces {
    ranks: Vec<Rank>,
    bytes: HashMap<u8, TokenId>,
    unknown: Option<TokenId>,
    adds_space: bool,
}

impl Pieces {
    pub(super) fn read(
        file: &GgufFile,
        vocabulary: &Vocabulary,
    ) -> Result<Self, UnsupportedTokenizer> {
        let inconsistent = |what: &str| UnsupportedTokenizer::Inconsistent(what.to_owned());
        let scores = file
            .floats("tokenizer.ggml.scores")
            .ok_or_else(|| inconsistent("there are no scores"))?;
        if scores.len() != vocabulary.len() {
            return Err(inconsistent("there are not as many scores as tokens"));
        }
        let bytes = byte_tokens(vocabulary);
        let unknown = file
            .integer("tokenizer.ggml.unknown_token_id")
            .and_then(|id| TokenId::try_from(id).ok());
        let unknown = unknown.filter(|id| (*id as usize) < scores.len());
        let adds_space = file.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
        Ok(Self {
            ranks: scores.iter().map(|score| rank_of(*score)).collect(),
            bytes,
            unknown,
            adds_space,
        })
    }

    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        is_first: bool,
        out: &mut Vec<TokenId>,
    ) {
        let find = |text: &str| {
            let token = vocabulary.find(text)?;
            let is_piece = matches!(
                vocabulary.kind(token),
                Some(TokenType::Normal | TokenType::UserDefined)
            );
            is_piece.then(|| (self.ranks[token as usize], token))
        };
        let mut escaped = String::with_capacity(text.len() + 3);
        if self.adds_space && is_first {
            escaped.push(SPACE);
        }
        escaped.extend(
            text.chars()
                .map(|character| if character == ' ' { SPACE } else { character }),
        );
        let symbols = escaped.char_indices().map(|(start, character)| {
            let bytes = start..start + character.len_utf8();
            Symbol {
                token: find(&escaped[bytes.clone()]).map(|(_, id)| id),
                bytes,
            }
        });
        let pair =
            |left: &Symbol, right: &Symbol| find(&escaped[left.bytes.start..right.bytes.end]);
        for symbol in join(symbols.collect(), pair) {
            match symbol.token {
                Some(token) => out.push(token),
                None => self.encode_bytes(&escaped[symbol.bytes], out),
            }
        }
    }

    fn encode_bytes(&self, text: &str, out: &mut Vec<TokenId>) {
        let tokens: Option<Vec<TokenId>> = text
            .bytes()
            .map(|byte| self.bytes.get(&byte).copied())
            .collect();
        match tokens {
            Some(tokens) => out.extend(tokens),
            None => out.extend(self.unknown),
        }
    }
}

/// The bytes of a piece's text.
pub(super) fn to_bytes(text: &str) -> Vec<u8> {
    match byte_of(text) {
        Some(byte) => vec![byte],
        None => text.replace(SPACE, " ").into_bytes(),
    }
}

/// The tokens of single bytes.
pub(super) fn byte_tokens(vocabulary: &Vocabulary) -> HashMap<u8, TokenId> {
    let tokens = vocabulary
        .iter()
        .filter(|(_, _, kind)| *kind == TokenType::Byte);
    tokens
        .filter_map(|(id, text, _)| Some((byte_of(text)?, id)))
        .collect()
}

/// The byte that `<0x0A>` stands for.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Orders scores from the highest to the lowest.
fn rank_of(score: f32) -> Rank {
    let bits = score.to_bits().cast_signed();
    let ordered = if bits < 0 { bits ^ i32::MAX } else { bits };
    -Rank::from(ordered)
}

#[cfg(test)]
mod tests {
    use super::{byte_of, rank_of};

    #[test]
    fn higher_scores_rank_first() {
        let scores = [5.5, 1.0, 0.0, -0.5, -1.0, -262_143.0];
        assert!(
            scores
                .windows(2)
                .all(|pair| rank_of(pair[0]) < rank_of(pair[1]))
        );
    }

    #[test]
    fn byte_pieces_are_recognized() {
        for (text, expected) in [
            ("<0x0A>", Some(10)),
            ("<0xFF>", Some(255)),
            ("<0x0>", None),
            ("a", None),
        ] {
            assert_eq!(byte_of(text), expected);
        }
    }
}
