//! A call written as Python writes it, read as it comes: `f(city="Paris", days=[1, 2])`.

use super::calls::{Found, NotACall};
use super::literal;
use super::tool::Tool;

const NAME_BYTES_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Name,
    Arguments,
}

/// Where in a text with quotes a character stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Outside,
    /// One or two quotes have come: the beginning of a text, an empty text, or two thirds of the beginning of a long
    /// one.
    Opening {
        quote: char,
        count: usize,
    },
    Inside {
        quote: char,
        is_long: bool,
        is_escaped: bool,
        closing: usize,
    },
}

/// One call, up to its closing parenthesis.
#[derive(Debug)]
pub(super) struct PythonCall {
    place: Place,
    /// The name or the argument that is being read.
    text: String,
    name: String,
    quotes: Quotes,
    depth: usize,
    arguments: usize,
}

impl PythonCall {
    pub(super) const fn new() -> Self {
        Self {
            place: Place::Name,
            text: String::new(),
            name: String::new(),
            quotes: Quotes::Outside,
            depth: 0,
            arguments: 0,
        }
    }

    pub(super) fn feed(
        &mut self,
        next: char,
        tools: &[Tool],
        found: &mut Vec<Found>,
    ) -> Result<(), NotACall> {
        match self.place {
            Place::Name => self.feed_name(next, found),
            Place::Arguments => {
                self.feed_argument(next, tools, found);
                Ok(())
            }
        }
    }

    fn feed_name(&mut self, next: char, found: &mut Vec<Found>) -> Result<(), NotACall> {
        match next {
            '(' if !self.text.is_empty() => {
                self.name = std::mem::take(&mut self.text);
                self.place = Place::Arguments;
                found.push(Found::Name(self.name.clone()));
                Ok(())
            }
            _ if next.is_ascii_whitespace() && self.text.is_empty() => Ok(()),
            _ if (next.is_alphanumeric() || "_.-".contains(next))
                && self.text.len() < NAME_BYTES_MAX =>
            {
                self.text.push(next);
                Ok(())
            }
            _ => Err(NotACall),
        }
    }

    fn feed_argument(&mut self, next: char, tools: &[Tool], found: &mut Vec<Found>) {
        let was_outside = self.step_quotes(next);
        if was_outside && self.depth == 0 {
            match next {
                ',' => return self.end_argument(tools, found),
                ')' => {
                    self.end_argument(tools, found);
                    let end = if self.arguments == 0 { "{}" } else { "}" };
                    found.push(Found::Arguments(end.to_owned()));
                    return found.push(Found::End);
                }
                _ => {}
            }
        }
        if was_outside {
            match next {
                '(' | '[' | '{' => self.depth += 1,
                ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.text.push(next);
    }

    /// Follows the quotes; true if the character stands outside of them.
    fn step_quotes(&mut self, next: char) -> bool {
        match self.quotes {
            Quotes::Opening { quote, count } if next == quote => {
                self.quotes = if count == 1 {
                    Quotes::Opening { quote, count: 2 }
                } else {
                    Quotes::inside(quote, true)
                };
                false
            }
            Quotes::Opening { quote, count: 1 } => {
                self.quotes = Quotes::inside(quote, false);
                self.step_quotes(next)
            }
            // An empty text, and the character behind it.
            Quotes::Opening { .. } | Quotes::Outside => {
                let is_quote = next == '"' || next == '\'';
                self.quotes = if is_quote {
                    Quotes::Opening {
                        quote: next,
                        count: 1,
                    }
                } else {
                    Quotes::Outside
                };
                !is_quote
            }
            Quotes::Inside {
                quote,
                is_long,
                is_escaped,
                closing,
            } => {
                let closing = if next == quote && !is_escaped {
                    closing + 1
                } else {
                    0
                };
                self.quotes = if closing == if is_long { 3 } else { 1 } {
                    Quotes::Outside
                } else {
                    let is_escaped = next == '\\' && !is_escaped;
                    Quotes::Inside {
                        quote,
                        is_long,
                        is_escaped,
                        closing,
                    }
                };
                false
            }
        }
    }

    /// Passes an argument on as a member of the object.
    fn end_argument(&mut self, tools: &[Tool], found: &mut Vec<Found>) {
        let text = std::mem::take(&mut self.text);
        if text.trim().is_empty() {
            return;
        }
        let (key, value) = match split_key(&text) {
            Some((key, value)) => (key.to_owned(), value),
            None => (self.key_by_place(tools), text.as_str()),
        };
        let opening = if self.arguments == 0 { "{" } else { ", " };
        self.arguments += 1;
        let key = serde_json::Value::String(key);
        let value = literal::to_json(value)
            .unwrap_or_else(|| serde_json::Value::String(value.trim().to_owned()).to_string());
        found.push(Found::Arguments(format!("{opening}{key}: {value}")));
    }

    /// The name of an argument that is given without one.
    fn key_by_place(&self, tools: &[Tool]) -> String {
        let tool = tools.iter().find(|tool| tool.name == self.name);
        let names = tool.map_or_else(Vec::new, Tool::arguments);
        let name = names.get(self.arguments);
        name.map_or_else(
            || format!("arg{}", self.arguments),
            |name| (*name).to_owned(),
        )
    }
}

impl Quotes {
    const fn inside(quote: char, is_long: bool) -> Self {
        Self::Inside {
            quote,
            is_long,
            is_escaped: false,
            closing: 0,
        }
    }
}

/// Cuts `key=value`; `a == b` is no such thing.
fn split_key(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let key = key.trim();
    let mut characters = key.chars();
    let first = characters.next()?;
    let is_name = (first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || character == '_');
    (is_name && !value.starts_with('=')).then_some((key, value))
}
