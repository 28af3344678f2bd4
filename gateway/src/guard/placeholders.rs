//! Placeholders: what stands in for masked texts on their way to the model, and the way back.

use std::collections::HashMap;

use memchr::memmem;

use super::screen::{Finding, Rule, Screen};

/// Placeholders of one request.
const PLACEHOLDERS_MAX: usize = 10_000;
/// Bytes at the end of a streamed text that may be the beginning of a placeholder.
const HOLD_BYTES_MAX: usize = 64;

/// What was masked in one request.
#[derive(Debug, Default)]
pub(super) struct Placeholders {
    by_text: HashMap<(String, String), String>,
    texts: HashMap<String, String>,
    counts: HashMap<String, usize>,
}

impl Placeholders {
    /// The placeholder of a text, the same for equal ones; none that the body has already.
    pub(super) fn of(&mut self, kind: &str, text: &str, body: &[u8]) -> String {
        let key = (kind.to_owned(), text.to_owned());
        if let Some(known) = self.by_text.get(&key) {
            return known.clone();
        }
        if PLACEHOLDERS_MAX <= self.texts.len() {
            // Masked, and not to be found again.
            return bare(kind);
        }
        let count = self.counts.entry(kind.to_owned()).or_default();
        let placeholder = loop {
            *count += 1;
            let placeholder = format!("[{kind}_{count}]");
            if memmem::find(body, placeholder.as_bytes()).is_none() {
                break placeholder;
            }
        };
        self.by_text.insert(key, placeholder.clone());
        self.texts.insert(placeholder.clone(), text.to_owned());
        placeholder
    }

    /// All texts that were masked, each with its placeholder.
    pub(super) fn all(&self) -> impl Iterator<Item = (String, String)> {
        let texts = self.texts.iter();
        texts.map(|(placeholder, text)| (text.clone(), placeholder.clone()))
    }

    /// Whether nothing was masked.
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// What a placeholder stands for.
    pub(super) fn text(&self, placeholder: &str) -> Option<&str> {
        self.texts.get(placeholder).map(String::as_str)
    }
}

/// What stands in for a text that is not to be found again.
pub(super) fn bare(kind: &str) -> String {
    format!("[{kind}]")
}

/// Finds placeholders.
///
/// # Errors
/// Never for this pattern.
pub(super) fn screen() -> Result<Screen, String> {
    Screen::compile(
        vec![Rule::new("", r"\[[A-Z][A-Z_]*_[0-9]+\]")],
        HOLD_BYTES_MAX,
    )
}

/// What stands in for a finding.
pub(super) fn kind<'a>(screen: &'a Screen, finding: &Finding) -> &'a str {
    screen.rule(finding).map_or("", |rule| &rule.kind)
}
