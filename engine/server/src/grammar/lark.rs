//! Pieces of grammars in the language of Lark.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::TokEnv;
use serde_json::Value;

/// Any text.
pub(super) const ANY_TEXT: &str = "/(?s:.*)/";

/// A text as a literal.
pub(super) fn literal(text: &str) -> String {
    // Lark's literals are JSON's, and slashes need no escape in either.
    Value::String(text.to_owned()).to_string()
}

/// A text that the model may have a control token for: then it is written with that one.
pub(super) fn mark(text: &str, environment: &TokEnv) -> Mark {
    let tree = environment.tok_trie();
    let mut name = vec![llguidance::toktrie::TokTrie::SPECIAL_TOKEN_MARKER];
    name.extend(text.as_bytes());
    match tree.token_id_at_bytes(&name) {
        // The marker alone is the token of a byte.
        Some(token) if !text.is_empty() => Mark::Token(format!("<[{token}]>")),
        Some(_) | None => Mark::Text(text.to_owned()),
    }
}

/// A mark in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// A control token, as Lark names it.
    Token(String),
    /// Plain text.
    Text(String),
}

impl Mark {
    /// The mark itself; empty for an empty one.
    pub(super) fn expression(&self) -> String {
        match self {
            Self::Token(token) => token.clone(),
            Self::Text(text) if text.is_empty() => String::new(),
            Self::Text(text) => literal(text),
        }
    }

    /// A rule of this name for any text up to and with the mark.
    pub(super) fn rule_up_to(&self, name: &str) -> String {
        match self {
            Self::Token(token) => format!("{name}: {ANY_TEXT} {token}\n"),
            Self::Text(text) => format!("{name}[lazy]: {ANY_TEXT} {}\n", literal(text)),
        }
    }
}

/// A grammar in the making: rules, and schemas that they refer to by `@name`.
#[derive(Debug, Default)]
pub(super) struct Draft {
    rules: String,
    schemas: Vec<GrammarWithLexer>,
    index: usize,
}

impl Draft {
    /// Adds a rule.
    pub(super) fn rule(&mut self, name: &str, body: &str) {
        self.rules.push_str(name);
        self.rules.push_str(": ");
        self.rules.push_str(body);
        self.rules.push('\n');
    }

    /// Adds rules as they are.
    pub(super) fn text(&mut self, rules: &str) {
        self.rules.push_str(rules);
    }

    /// Adds a schema and returns what rules call it.
    pub(super) fn schema(&mut self, schema: Value) -> String {
        let name = format!("schema_{}", self.schemas.len());
        let reference = format!("@{name}");
        self.schemas.push(GrammarWithLexer {
            name: Some(name),
            ..GrammarWithLexer::from_json_schema(schema)
        });
        reference
    }

    /// A number that no other piece of this grammar has.
    pub(super) fn next_index(&mut self) -> usize {
        self.index += 1;
        self.index
    }

    pub(super) fn finish(self) -> TopLevelGrammar {
        let mut grammars = vec![GrammarWithLexer::from_lark(self.rules)];
        grammars.extend(self.schemas);
        TopLevelGrammar {
            grammars,
            max_tokens: None,
        }
    }
}
