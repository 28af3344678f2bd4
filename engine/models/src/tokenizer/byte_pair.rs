//! Byte-pair encoding: the characters of a word are joined by merge rules.

use std::collections::HashMap;
use std::hash::BuildHasher;

use engine_core::TokenId;
use fancy_regex::Regex;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::gguf::GgufFile;

use super::UnsupportedTokenizer;
use super::cut::{Cut, Pattern};
use super::join::{Rank, Symbol, join};
use super::normalize::Normalizer;
use super::vocabulary::Vocabulary;

pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// What becomes of characters that are no tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Strangers {
    /// The tokens of single bytes.
    pub(super) bytes: HashMap<u8, TokenId>,
    /// The token for what has no other; without one it is left out.
    pub(super) unknown: Option<TokenId>,
    /// Whether neighbours become one unknown token.
    pub(super) fuses: bool,
}

/// The merge rules of a model.
#[derive(Debug, Default)]
pub(super) struct BytePair {
    rules: Rules,
    /// Whether a word that is a token is not built from its parts.
    pub(super) takes_whole_words: bool,
    pub(super) strangers: Strangers,
}

/// Pairs of tokens and what they make, the first rule first.
#[derive(Debug, Default)]
struct Rules {
    rules: Vec<Rule>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    pair: (TokenId, TokenId),
    joined: TokenId,
    rank: u32,
}

impl Rules {
    fn with_capacity(count: usize) -> Self {
        Self {
            rules: Vec::with_capacity(count),
            table: HashTable::with_capacity(count),
            ..Self::default()
        }
    }

    fn add(&mut self, rule: Rule) {
        let Self {
            rules,
            table,
            hasher,
        } = self;
        let index = rules.len() as u32;
        rules.push(rule);
        table
            .entry(
                hasher.hash_one(rule.pair),
                |other| rules[*other as usize].pair == rule.pair,
                |other| hasher.hash_one(rules[*other as usize].pair),
            )
            .or_insert(index);
    }

    fn find(&self, pair: (TokenId, TokenId)) -> Option<(Rank, TokenId)> {
        let is_equal = |index: &u32| self.rules[*index as usize].pair == pair;
        let index = self.table.find(self.hasher.hash_one(pair), is_equal)?;
        let rule = self.rules[*index as usize];
        Some((rule.rank.into(), rule.joined))
    }
}

/// What a GGUF file calls the steps before encoding.
pub(super) struct Preparation {
    pub(super) normalizers: Vec<Normalizer>,
    pub(super) cuts: Vec<Cut>,
    pub(super) takes_whole_words: bool,
    pub(super) adds_begin: bool,
}

/// The steps that a GGUF file names.
pub(super) fn preparation(name: &str) -> Result<Preparation, UnsupportedTokenizer> {
    let (patterns, is_llama3): (&[&str], bool) = match name {
        "default" | "gpt-2" | "gpt2" => (&[GPT2], false),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => (&[DIGIT, GPT2], false),
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" => (&[LLAMA3], true),
        "smaug-bpe" => (&[LLAMA3], false),
        "qwen2" | "deepseek-r1-qwen" | "hunyuan" | "stablelm2" => (&[QWEN2], false),
        "tekken" => (&[TEKKEN], true),
        other => return Err(UnsupportedTokenizer::PreTokenizer(other.to_owned())),
    };
    let cut = |pattern: &&str| -> Result<Cut, UnsupportedTokenizer> {
        let regex = Regex::new(pattern).map_err(|error| inconsistent(&error.to_string()))?;
        Ok(Cut::isolate(Pattern::Regex(Box::new(regex))))
    };
    let mut cuts = patterns.iter().map(cut).collect::<Result<Vec<_>, _>>()?;
    cuts.push(Cut::Bytes);
    Ok(Preparation {
        normalizers: if name == "qwen2" {
            vec![Normalizer::Nfc]
        } else {
            Vec::new()
        },
        cuts,
        takes_whole_words: is_llama3,
        adds_begin: is_llama3,
    })
}

fn inconsistent(what: &str) -> UnsupportedTokenizer {
    UnsupportedTokenizer::Inconsistent(what.to_owned())
}

impl BytePair {
    pub(super) fn read(
        file: &GgufFile,
        vocabulary: &Vocabulary,
    ) -> Result<Self, UnsupportedTokenizer> {
        let rules = file.strings("tokenizer.ggml.merges");
        let rules = rules.ok_or_else(|| inconsistent("there are no merge rules"))?;
        let pairs = rules.iter().map(|rule| split_rule(rule));
        Ok(Self::new(vocabulary, pairs))
    }

    /// Takes rules, the first ones first; one whose tokens the vocabulary lacks counts and does nothing.
    pub(super) fn new<'a>(
        vocabulary: &Vocabulary,
        pairs: impl ExactSizeIterator<Item = Option<(&'a str, &'a str)>>,
    ) -> Self {
        let mut rules = Rules::with_capacity(pairs.len());
        let mut joined = String::new();
        for (rank, pair) in pairs.enumerate() {
            let Some((left, right)) = pair else { continue };
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            let found = (
                vocabulary.find(left),
                vocabulary.find(right),
                vocabulary.find(&joined),
            );
            if let (Some(left), Some(right), Some(joined)) = found {
                let (pair, rank) = ((left, right), rank as u32);
                rules.add(Rule { pair, joined, rank });
            }
        }
        Self {
            rules,
            ..Self::default()
        }
    }

    pub(super) fn encode_word(&self, vocabulary: &Vocabulary, word: &str, out: &mut Vec<TokenId>) {
        if self.takes_whole_words
            && let Some(token) = vocabulary.find(word)
        {
            out.push(token);
            return;
        }
        let symbols = self.symbols(vocabulary, word);
        let joined = join(symbols, |left, right| {
            self.rules.find((left.token?, right.token?))
        });
        out.extend(joined.filter_map(|symbol| symbol.token));
    }

    /// The characters of a word as tokens.
    fn symbols(&self, vocabulary: &Vocabulary, word: &str) -> Vec<Symbol> {
        let Strangers {
            bytes,
            unknown,
            fuses,
        } = &self.strangers;
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        let mut is_behind_stranger = false;
        for (start, character) in word.char_indices() {
            let end = start + character.len_utf8();
            let text = &word[start..end];
            if let Some(token) = vocabulary.find(text) {
                is_behind_stranger = false;
                symbols.push(Symbol::new(start..end, token));
            } else if text.bytes().all(|byte| bytes.contains_key(&byte)) {
                let tokens = text.bytes().zip(start..);
                symbols.extend(
                    tokens.map(|(byte, place)| Symbol::new(place..place + 1, bytes[&byte])),
                );
            } else if let Some(unknown) = unknown {
                if !(*fuses && is_behind_stranger) {
                    symbols.push(Symbol::new(start..end, *unknown));
                } else if let Some(last) = symbols.last_mut() {
                    last.bytes.end = end;
                }
                is_behind_stranger = true;
            }
        }
        symbols
    }
}

/// The two parts of a rule `left right`; `None` if it has none.
pub(super) fn split_rule(rule: &str) -> Option<(&str, &str)> {
    // A part may itself be a space in vocabularies that are not byte-level, so the split is behind the first byte.
    let first = rule.chars().next()?.len_utf8();
    let split = first + rule[first..].find(' ')?;
    Some((&rule[..split], &rule[split + 1..]))
}
