//! A model's tokens as grammars need them: a tree over their bytes, and how the model itself would cut a text.

use std::sync::Arc;

use engine_core::TokenId;
use engine_models::Tokenizer;
use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

/// Texts that a tokenizer must give back unchanged if forced text is to be cut as the model would cut it.
const PROBES: [&str; 4] = ["{\"name\": \"a b\"}", ", \"x\": [1, 2.5]", "\n  true", "ä"];

/// The tokens of a model, with the bytes that each adds to an answer.
pub(super) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    tree: TokTrie,
    is_canonical: bool,
}

impl Vocabulary {
    /// Builds the tree; takes some milliseconds for every ten thousand tokens.
    pub(super) fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let count = tokenizer.vocabulary() as TokenId;
        let words: Vec<_> = (0..count).map(|token| word(&tokenizer, token)).collect();
        let stops = tokenizer.stop_tokens();
        let end = stops.first().copied().unwrap_or(INVALID_TOKEN);
        let tree = TokTrie::from(&TokRxInfo::new(count, end), &words);
        let tree = if stops.is_empty() {
            tree
        } else {
            tree.with_eos_tokens(stops)
        };
        let mut vocabulary = Self {
            tokenizer,
            tree,
            is_canonical: false,
        };
        vocabulary.is_canonical = PROBES.iter().all(|probe| vocabulary.cut(probe).is_some());
        vocabulary
    }

    pub(super) fn into_environment(self) -> TokEnv {
        Arc::new(self)
    }

    /// Cuts a text as the tokenizer does, unless that yields other bytes: a space in front, or a control token
    /// that only looks like text.
    fn cut(&self, text: &str) -> Option<Vec<TokenId>> {
        let tokens = self.tokenizer.encode_plain(text);
        (self.tree.decode_raw(&tokens) == text.as_bytes()).then_some(tokens)
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.tree
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.tree.tokenize_with_greedy_fallback(bytes, |text| {
            self.cut(text)
                .unwrap_or_else(|| self.tree.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.is_canonical
    }
}

/// The bytes of a token. Control tokens are marked, so that no text can be mistaken for one.
fn word(tokenizer: &Tokenizer, token: TokenId) -> Vec<u8> {
    let bytes = tokenizer.bytes(token);
    if !bytes.is_empty() {
        return bytes;
    }
    let name = tokenizer.visible_bytes(token);
    if name.is_empty() {
        return name;
    }
    let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    word.extend(name);
    word
}
