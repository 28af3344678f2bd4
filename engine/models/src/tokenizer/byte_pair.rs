//! Byte-level byte-pair encoding: words are cut by a pattern, written in the byte alphabet, and joined by merge rules.

use std::collections::HashMap;

use engine_core::TokenId;
use fancy_regex::Regex;

use crate::gguf::GgufFile;

use super::join::{Rank, Symbol, join};
use super::{UnsupportedTokenizer, Vocabulary, alphabet};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// The merge rules of a model.
#[derive(Debug)]
pub(super) struct BytePair {
    /// Patterns that cut a text one after the other; what lies between matches is a piece too.
    patterns: Vec<Regex>,
    tokens: HashMap<String, TokenId>,
    merges: HashMap<(TokenId, TokenId), (Rank, TokenId)>,
    /// Whether a word that is a token is not built from its parts.
    takes_whole_words: bool,
}

impl BytePair {
    pub(super) fn read(
        file: &GgufFile,
        vocabulary: &Vocabulary,
    ) -> Result<Self, UnsupportedTokenizer> {
        let name = file.string("tokenizer.ggml.pre").unwrap_or("default");
        let (patterns, takes_whole_words): (&[&str], bool) = match name {
            "default" | "gpt-2" | "gpt2" => (&[GPT2], false),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
                (&[DIGIT, GPT2], false)
            }
            "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" | "falcon3" => (&[LLAMA3], true),
            "qwen2" | "deepseek-r1-qwen" | "hunyuan" | "stablelm2" => (&[QWEN2], false),
            other => return Err(UnsupportedTokenizer::PreTokenizer(other.to_owned())),
        };
        let inconsistent = |what: String| UnsupportedTokenizer::Inconsistent(what);
        let patterns = patterns
            .iter()
            .map(|pattern| Regex::new(pattern))
            .collect::<Result<_, _>>();
        let patterns = patterns.map_err(|error| inconsistent(error.to_string()))?;
        let mut tokens = HashMap::with_capacity(vocabulary.texts.len());
        for (index, text) in vocabulary.texts.iter().enumerate() {
            tokens.entry(text.clone()).or_insert(index as TokenId);
        }
        let rules = file.strings("tokenizer.ggml.merges");
        let rules = rules.ok_or_else(|| inconsistent("there are no merge rules".to_owned()))?;
        let mut merges = HashMap::with_capacity(rules.len());
        for (rank, rule) in rules.iter().enumerate() {
            if let Some((pair, joined)) = read_rule(rule, &tokens) {
                merges.entry(pair).or_insert((rank as Rank, joined));
            }
        }
        Ok(Self {
            patterns,
            tokens,
            merges,
            takes_whole_words,
        })
    }

    pub(super) fn encode(&self, text: &str, out: &mut Vec<TokenId>) {
        let mut words = vec![text];
        for pattern in &self.patterns {
            words = words
                .into_iter()
                .flat_map(|piece| cut(pattern, piece))
                .collect();
        }
        for word in words {
            self.encode_word(word, out);
        }
    }

    fn encode_word(&self, word: &str, out: &mut Vec<TokenId>) {
        let word: String = word.bytes().map(alphabet::to_char).collect();
        if self.takes_whole_words
            && let Some(token) = self.tokens.get(&word)
        {
            out.push(*token);
            return;
        }
        let symbols = word.char_indices().map(|(start, character)| {
            let bytes = start..start + character.len_utf8();
            Symbol {
                token: self.tokens.get(&word[bytes.clone()]).copied(),
                bytes,
            }
        });
        let joined = join(symbols.collect(), |left, right| {
            self.merges.get(&(left.token?, right.token?)).copied()
        });
        // A byte without a token can only come from a broken vocabulary; it is left out as the reference does.
        out.extend(joined.filter_map(|symbol| symbol.token));
    }
}

/// A rule `left right` as tokens, with the token that it makes; `None` if the vocabulary lacks one of them.
fn read_rule(
    rule: &str,
    tokens: &HashMap<String, TokenId>,
) -> Option<((TokenId, TokenId), TokenId)> {
    // A part may itself be a space in vocabularies that are not byte-level, so the split is behind the first byte.
    let split = rule
        .char_indices()
        .skip(1)
        .find(|(_, character)| *character == ' ')
        .map(|(index, _)| index)?;
    let (left, right) = (&rule[..split], &rule[split + 1..]);
    let joined = tokens.get(&[left, right].concat())?;
    Some(((*tokens.get(left)?, *tokens.get(right)?), *joined))
}

/// Cuts a text into matches and what lies between them.
fn cut<'a>(pattern: &Regex, text: &'a str) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut end = 0;
    // A pattern that gives up (its backtracking is limited) leaves the rest in one piece.
    for found in pattern.find_iter(text).map_while(Result::ok) {
        if end < found.start() {
            pieces.push(&text[end..found.start()]);
        }
        if found.start() < found.end() {
            pieces.push(found.as_str());
        }
        end = found.end();
    }
    if end < text.len() {
        pieces.push(&text[end..]);
    }
    pieces
}
