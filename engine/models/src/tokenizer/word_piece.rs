//! WordPiece encoding: from the left, the longest piece that fits.

use engine_core::TokenId;

use super::vocabulary::Vocabulary;

/// How words become pieces.
#[derive(Debug)]
pub(super) struct WordPiece {
    /// What a piece begins with that does not begin a word.
    pub(super) continuation: String,
    pub(super) unknown: TokenId,
    /// Longer words are unknown.
    pub(super) characters_max: usize,
}

impl WordPiece {
    pub(super) fn encode_word(&self, vocabulary: &Vocabulary, word: &str, out: &mut Vec<TokenId>) {
        let begin = out.len();
        if self.characters_max < word.chars().count() {
            out.push(self.unknown);
            return;
        }
        let (mut start, mut piece) = (0, String::new());
        while start < word.len() {
            piece.clear();
            if 0 < start {
                piece.push_str(&self.continuation);
            }
            let prefix = piece.len();
            piece.push_str(&word[start..]);
            let mut found = None;
            while prefix < piece.len() && found.is_none() {
                found = vocabulary.find(&piece);
                if found.is_none() {
                    piece.pop();
                }
            }
            let Some(token) = found else {
                out.truncate(begin);
                out.push(self.unknown);
                return;
            };
            out.push(token);
            start += piece.len() - prefix;
        }
    }

    /// The bytes of a piece's text: pieces that begin a word have a space before them.
    pub(super) fn to_bytes(&self, text: &str) -> Vec<u8> {
        match text.strip_prefix(self.continuation.as_str()) {
            Some(rest) if !self.continuation.is_empty() => rest.as_bytes().to_vec(),
            _ => format!(" {text}").into_bytes(),
        }
    }
}
