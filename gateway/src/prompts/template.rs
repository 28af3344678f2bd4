//! One template: its messages, cut at their variables.

use std::collections::BTreeMap;

use protocol::{
    openai::ErrorKind,
    snapshot::{PromptMessage, PromptRole},
};
use serde_json::Value;

use super::VARIABLES;
use crate::fault::Fault;

/// Bytes of all messages, variables filled in.
const FILLED_BYTES_MAX: usize = 4 << 20;

/// A template.
#[derive(Debug)]
pub(super) struct Template(Vec<(PromptRole, Vec<Piece>)>);

/// A piece of a message.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

impl Template {
    /// The template of these messages.
    pub(super) fn compile(messages: &[PromptMessage]) -> Self {
        let messages = messages.iter();
        Self(
            messages
                .map(|message| (message.role, cut(&message.content)))
                .collect(),
        )
    }

    /// The messages with these variables.
    ///
    /// # Errors
    /// A variable is missing, or all together are too long.
    pub(super) fn fill(
        &self,
        variables: &BTreeMap<String, Value>,
    ) -> Result<Vec<PromptMessage>, Fault> {
        let mut length: usize = 0;
        let mut filled = Vec::with_capacity(self.0.len());
        for (role, pieces) in &self.0 {
            let mut content = String::new();
            for piece in pieces {
                match piece {
                    Piece::Text(text) => content.push_str(text),
                    Piece::Variable(name) => match variables.get(name) {
                        Some(Value::String(text)) => content.push_str(text),
                        Some(value) => content.push_str(&value.to_string()),
                        None => {
                            let message = format!("The prompt's variable `{name}` is missing.");
                            return Err(invalid(message));
                        }
                    },
                }
                if FILLED_BYTES_MAX < length.saturating_add(content.len()) {
                    return Err(invalid("The prompt's variables are too long.".to_owned()));
                }
            }
            length = length.saturating_add(content.len());
            filled.push(PromptMessage {
                role: *role,
                content,
            });
        }
        Ok(filled)
    }
}

fn invalid(message: String) -> Fault {
    Fault::of(ErrorKind::InvalidRequest, VARIABLES, message)
}

/// Cuts a text at `{{name}}`; braces around anything but a name are text.
fn cut(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut said = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        said.push_str(before);
        let named = behind
            .split_once("}}")
            .filter(|(name, _)| is_name(name.trim()));
        rest = match named {
            Some((name, behind)) => {
                if !said.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut said)));
                }
                pieces.push(Piece::Variable(name.trim().to_owned()));
                behind
            }
            None => {
                said.push_str("{{");
                behind
            }
        };
    }
    said.push_str(rest);
    if !said.is_empty() {
        pieces.push(Piece::Text(said));
    }
    pieces
}

fn is_name(name: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    !name.is_empty() && name.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::{Piece, cut};

    #[track_caller]
    fn check(text: &str, expected: &[(&str, bool)]) {
        let pieces = expected
            .iter()
            .map(|(text, is_variable)| match is_variable {
                true => Piece::Variable((*text).to_owned()),
                false => Piece::Text((*text).to_owned()),
            });
        assert_eq!(cut(text), pieces.collect::<Vec<_>>(), "{text}");
    }

    #[test]
    fn texts_are_cut_at_names_in_double_braces() {
        check("", &[]);
        check("a", &[("a", false)]);
        check("{{a}}{{ b_1 }}", &[("a", true), ("b_1", true)]);
        check("x {{a}} y", &[("x ", false), ("a", true), (" y", false)]);
        check("{{ }} {{a b}} {{", &[("{{ }} {{a b}} {{", false)]);
        check(
            "{\"k\": {{a}}}",
            &[("{\"k\": ", false), ("a", true), ("}", false)],
        );
    }
}
