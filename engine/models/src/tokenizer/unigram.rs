//! Unigram encoding: of all ways to cut a word into pieces, the most probable one.

use engine_core::TokenId;

use super::byte_pair::Strangers;
use super::vocabulary::Vocabulary;

/// How much less probable than the rarest piece a character is that is no piece.
const PENALTY: f64 = 10.0;
/// Bytes of a piece that is looked for; real ones are shorter.
const LONGEST_MAX: usize = 256;

/// The logarithms of the pieces' probabilities.
#[derive(Debug)]
pub(super) struct Unigram {
    scores: Vec<f64>,
    stranger_score: f64,
    strangers: Strangers,
    longest: usize,
}

#[derive(Debug, Clone, Copy)]
struct Best {
    score: f64,
    start: usize,
    /// `None` for a character that is no piece.
    token: Option<TokenId>,
}

impl Unigram {
    pub(super) fn new(vocabulary: &Vocabulary, scores: Vec<f64>, strangers: Strangers) -> Self {
        let lowest = scores.iter().copied().fold(f64::INFINITY, f64::min);
        Self {
            stranger_score: lowest - PENALTY,
            longest: vocabulary.longest().min(LONGEST_MAX),
            scores,
            strangers,
        }
    }

    pub(super) fn encode_word(&self, vocabulary: &Vocabulary, word: &str, out: &mut Vec<TokenId>) {
        let mut bests: Vec<Option<Best>> = vec![None; word.len() + 1];
        for (start, character) in word.char_indices() {
            let before = match bests[start] {
                Some(best) => best.score,
                None if start == 0 => 0.0,
                None => continue,
            };
            let first_end = start + character.len_utf8();
            let mut has_character = false;
            let last_end = word.len().min(start + self.longest);
            let ends = (first_end..=last_end).filter(|end| word.is_char_boundary(*end));
            for end in ends {
                let Some(token) = vocabulary.find(&word[start..end]) else {
                    continue;
                };
                let Some(score) = self.scores.get(token as usize) else {
                    continue;
                };
                has_character |= end == first_end;
                offer(&mut bests[end], before + score, start, Some(token));
            }
            if !has_character {
                offer(
                    &mut bests[first_end],
                    before + self.stranger_score,
                    start,
                    None,
                );
            }
        }
        self.push_path(word, &bests, out);
    }

    fn push_path(&self, word: &str, bests: &[Option<Best>], out: &mut Vec<TokenId>) {
        let (mut path, mut end) = (Vec::new(), word.len());
        while let Some(best) = bests[end].filter(|_| 0 < end) {
            path.push((best.start..end, best.token));
            end = best.start;
        }
        let mut is_behind_unknown = false;
        for (bytes, token) in path.into_iter().rev() {
            let known = token.filter(|token| Some(*token) != self.strangers.unknown);
            if let Some(token) = known {
                out.push(token);
                is_behind_unknown = false;
                continue;
            }
            let spelled: Option<Vec<_>> = word[bytes]
                .bytes()
                .map(|byte| self.strangers.bytes.get(&byte).copied())
                .collect();
            match spelled {
                Some(tokens) => out.extend(tokens),
                None if is_behind_unknown && self.strangers.fuses => {}
                None => {
                    out.extend(self.strangers.unknown);
                    is_behind_unknown = true;
                }
            }
        }
    }
}

fn offer(best: &mut Option<Best>, score: f64, start: usize, token: Option<TokenId>) {
    if best.is_none_or(|best| best.score < score) {
        *best = Some(Best {
            score,
            start,
            token,
        });
    }
}
