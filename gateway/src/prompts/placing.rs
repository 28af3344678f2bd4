//! Where messages go in a request: in front of its own, in the fields of its API.

use std::ops::Range;

use bytes::Bytes;
use protocol::{
    openai::ErrorKind,
    snapshot::{PromptMessage, PromptRole},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    call::Operation,
    decode::{Decoded, Edit, members, splice},
    fault::Fault,
};

/// The field that names a template.
pub(super) const ID: &str = "prompt_id";
/// The field with the template's variables.
pub(super) const VARIABLES: &str = "prompt_variables";
/// What stands between a template's text and the client's own.
const BREAK: &str = "\n\n";

/// A request in which messages are placed.
#[derive(Debug)]
pub(super) struct Placing<'a> {
    decoded: &'a Decoded,
    members: Vec<(String, Range<usize>)>,
}

impl<'a> Placing<'a> {
    /// The request's members.
    ///
    /// # Errors
    /// Its body is no JSON object.
    pub(super) fn find(decoded: &'a Decoded) -> Result<Self, Fault> {
        let members = members(&decoded.body)?;
        Ok(Self { decoded, members })
    }

    /// The value of a field, if it is there and not `null`.
    ///
    /// # Errors
    /// It is there twice, or of another type.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, Fault> {
        let range = self.range(name)?;
        let text = range.and_then(|range| self.decoded.body.get(range));
        let value = text.map(serde_json::from_slice::<Option<T>>).transpose();
        value.map(Option::flatten).map_err(|error| {
            let message = format!("The parameter `{name}` cannot be read: {error}.");
            Fault::of(ErrorKind::InvalidRequest, name, message)
        })
    }

    fn range(&self, name: &'static str) -> Result<Option<Range<usize>>, Fault> {
        let mut found = self.members.iter().filter(|(member, _)| member == name);
        let first = found.next().map(|(_, range)| range.clone());
        match found.next() {
            None => Ok(first),
            Some(_) => {
                let message = format!("The field `{name}` appears twice in the request's body.");
                Err(Fault::of(ErrorKind::InvalidRequest, name, message))
            }
        }
    }

    /// The body with the messages in front, and without the fields that asked for them.
    ///
    /// # Errors
    /// The request's own messages are not where its API has them.
    pub(super) fn place(&self, messages: &[PromptMessage]) -> Result<Bytes, Fault> {
        // What is inserted goes before what is removed at the same place.
        let mut edits = match self.decoded.operation {
            Operation::Message => self.beside("system", "messages", messages)?,
            Operation::Response => self.beside("instructions", "input", messages)?,
            _ => {
                let all = messages
                    .iter()
                    .map(|message| (word(message.role), &message.content));
                vec![self.list("messages", all)?]
            }
        };
        edits.extend(self.removals());
        Ok(splice(&self.decoded.body, edits))
    }

    /// The system's texts in a field of their own, the others in front of the list.
    fn beside(
        &self,
        system: &'static str,
        list: &'static str,
        messages: &[PromptMessage],
    ) -> Result<Vec<Edit>, Fault> {
        let (texts, others): (Vec<_>, Vec<_>) = messages
            .iter()
            .partition(|message| message.role == PromptRole::System);
        let texts: Vec<&str> = texts.iter().map(|message| &*message.content).collect();
        let mut edits = Vec::new();
        if !texts.is_empty() {
            edits.push(self.system(system, &texts.join(BREAK))?);
        }
        if !others.is_empty() {
            let others = others
                .iter()
                .map(|message| (word(message.role), &message.content));
            edits.push(self.list(list, others)?);
        }
        Ok(edits)
    }

    fn system(&self, name: &'static str, text: &str) -> Result<Edit, Fault> {
        let Some(range) = self.range(name)? else {
            let at = self.decoded.fields.first_field;
            return Ok(Edit {
                range: at..at,
                // There is at least the field `model`, so that the comma is right.
                replacement: format!("\"{name}\":{},", json!(text)),
            });
        };
        let own = self.decoded.body.get(range.clone()).unwrap_or_default();
        match serde_json::from_slice::<Value>(own) {
            Ok(Value::Null) => Ok(Edit {
                range,
                replacement: json!(text).to_string(),
            }),
            Ok(Value::String(own)) => Ok(Edit {
                range,
                replacement: json!(format!("{text}{BREAK}{own}")).to_string(),
            }),
            Ok(Value::Array(own)) => {
                let block = json!({"type": "text", "text": text});
                Ok(in_front(&range, own.is_empty(), &[block]))
            }
            _ => Err(misplaced(name)),
        }
    }

    fn list<'m>(
        &self,
        name: &'static str,
        messages: impl Iterator<Item = (&'static str, &'m String)>,
    ) -> Result<Edit, Fault> {
        let range = self.range(name)?.ok_or_else(|| misplaced(name))?;
        let messages: Vec<Value> = messages
            .map(|(role, content)| json!({"role": role, "content": content}))
            .collect();
        let own = self.decoded.body.get(range.clone()).unwrap_or_default();
        match serde_json::from_slice::<Value>(own) {
            Ok(Value::Array(own)) => Ok(in_front(&range, own.is_empty(), &messages)),
            // The input of responses may be a text, which is the user's.
            Ok(Value::String(own)) if self.decoded.operation == Operation::Response => {
                let user = json!({"role": "user", "content": own});
                let all: Vec<Value> = messages.into_iter().chain([user]).collect();
                Ok(Edit {
                    range,
                    replacement: Value::Array(all).to_string(),
                })
            }
            _ => Err(misplaced(name)),
        }
    }

    /// What takes the fields out that asked for a template, with the commas that they leave.
    fn removals(&self) -> Vec<Edit> {
        let body = &self.decoded.body;
        let mut edits = Vec::new();
        let mut from = self.decoded.fields.first_field;
        let mut is_behind_another = false;
        for (name, range) in &self.members {
            let is_kept = name != ID && name != VARIABLES;
            let until = match (is_kept, is_behind_another) {
                (false, false) => {
                    let behind = body.get(range.end..).unwrap_or_default();
                    let comma = behind.iter().position(|byte| !byte.is_ascii_whitespace());
                    let is_comma = |at: &usize| behind.get(*at) == Some(&b',');
                    comma
                        .filter(is_comma)
                        .map_or(range.end, |at| range.end + at + 1)
                }
                _ => range.end,
            };
            if !is_kept {
                edits.push(Edit {
                    range: from..until,
                    replacement: String::new(),
                });
            }
            is_behind_another |= is_kept;
            from = until;
        }
        edits
    }
}

/// Inserts items at the front of the list in this range.
fn in_front(range: &Range<usize>, is_empty: bool, items: &[Value]) -> Edit {
    let at = range.start + 1;
    let mut replacement: String = items
        .iter()
        .map(Value::to_string)
        .collect::<Vec<_>>()
        .join(",");
    if !is_empty {
        replacement.push(',');
    }
    Edit {
        range: at..at,
        replacement,
    }
}

const fn word(role: PromptRole) -> &'static str {
    match role {
        PromptRole::System => "system",
        PromptRole::User => "user",
        PromptRole::Assistant => "assistant",
    }
}

fn misplaced(name: &'static str) -> Fault {
    let message = format!(
        "The parameter `{name}` must be what this API has there, for the model's prompt to go before it."
    );
    Fault::of(ErrorKind::InvalidRequest, name, message)
}
