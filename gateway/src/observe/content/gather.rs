//! Gathers an answer as the client gets it: whole, or from the events of its stream.
//!
//! An answer that is too long to be gathered is not told at all: a text that is cut here could end within what has to be
//! masked.

use protocol::sse::{DONE, Parser};
use serde_json::{Map, Value, json};

use super::answer;
use crate::call::Operation;

/// Bytes of texts that are gathered of one answer.
const GATHERED_BYTES_MAX: usize = 1 << 20;
/// Bytes of one event.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// Choices, blocks, items, and calls of tools of one answer.
const PLACES_MAX: usize = 1024;

/// What came so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    parser: Option<Parser>,
    /// The answer, in the form of a whole one.
    body: Value,
    bytes: usize,
    is_over: bool,
}

impl Gathered {
    /// Takes a whole answer.
    pub(super) fn whole(&mut self, body: &[u8], bytes_max: usize) {
        if body.len() <= bytes_max {
            self.body = serde_json::from_slice(body).unwrap_or_default();
        }
    }

    /// Takes events of a stream.
    pub(super) fn push(&mut self, operation: Operation, events: &[u8]) {
        if self.is_over {
            return;
        }
        let parser = self
            .parser
            .get_or_insert_with(|| Parser::new(EVENT_BYTES_MAX));
        let Ok(events) = parser.push(events) else {
            self.give_up();
            return;
        };
        for event in events.iter().filter(|event| event.data != DONE) {
            let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
                continue;
            };
            self.bytes = self.bytes.saturating_add(size_of_texts(&data));
            let added = match operation {
                Operation::Message => add_message(&mut self.body, data),
                Operation::Response => add_response(&mut self.body, data),
                _ => add_choices(&mut self.body, data),
            };
            if added.is_none() || GATHERED_BYTES_MAX < self.bytes {
                self.give_up();
                return;
            }
        }
    }

    fn give_up(&mut self) {
        *self = Self {
            is_over: true,
            ..Self::default()
        };
    }

    /// What the answer says.
    pub(super) fn messages(&self, operation: Operation) -> Vec<Value> {
        answer::messages(operation, &self.body)
    }
}

/// Bytes that an event may add.
fn size_of_texts(data: &Value) -> usize {
    match data {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size_of_texts).sum(),
        Value::Object(fields) => fields.values().map(size_of_texts).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// A field of an object; whatever was there before that was none is forgotten.
fn member<'a>(of: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    if !of.is_object() {
        *of = Value::Object(Map::new());
    }
    let fields = of.as_object_mut()?;
    Some(fields.entry(name).or_insert(Value::Null))
}

/// Takes a field out of an object.
fn take(of: &mut Value, name: &str) -> Value {
    of.get_mut(name).map(Value::take).unwrap_or_default()
}

/// The entry of this place in a list of an object; nothing if there would be too many.
fn entry<'a>(of: &'a mut Value, list: &str, place: &Value) -> Option<&'a mut Value> {
    let place = usize::try_from(place.as_u64().unwrap_or(0)).ok()?;
    if PLACES_MAX <= place {
        return None;
    }
    let list = member(of, list)?;
    if !list.is_array() {
        *list = json!([]);
    }
    let list = list.as_array_mut()?;
    while list.len() <= place {
        list.push(Value::Null);
    }
    list.get_mut(place)
}

/// Sets a field to a text, if it is one.
fn set(of: &mut Value, name: &str, text: &Value) -> Option<()> {
    if text.is_string() {
        *member(of, name)? = text.clone();
    }
    Some(())
}

/// Adds a piece to a text of an object.
fn append(to: &mut Value, name: &str, piece: &Value) -> Option<()> {
    let Some(piece) = piece.as_str() else {
        return Some(());
    };
    match member(to, name)? {
        Value::String(text) => text.push_str(piece),
        other => *other = json!(piece),
    }
    Some(())
}

/// A piece of a chat or a completion.
fn add_choices(body: &mut Value, mut data: Value) -> Option<()> {
    let Value::Array(pieces) = take(&mut data, "choices") else {
        return Some(());
    };
    for piece in pieces {
        let choice = entry(body, "choices", &piece["index"])?;
        append(choice, "text", &piece["text"])?;
        set(choice, "finish_reason", &piece["finish_reason"])?;
        let delta = &piece["delta"];
        let message = member(choice, "message")?;
        for field in ["content", "refusal", "reasoning", "reasoning_content"] {
            append(message, field, &delta[field])?;
        }
        let calls = delta["tool_calls"].as_array();
        for piece in calls.into_iter().flatten() {
            let call = entry(message, "tool_calls", &piece["index"])?;
            set(call, "id", &piece["id"])?;
            let function = member(call, "function")?;
            for field in ["name", "arguments"] {
                append(function, field, &piece["function"][field])?;
            }
        }
    }
    Some(())
}

/// An event of Anthropic's API.
fn add_message(body: &mut Value, mut data: Value) -> Option<()> {
    match data["type"].as_str() {
        Some("content_block_start") => {
            let block = take(&mut data, "content_block");
            *entry(body, "content", &data["index"])? = block;
        }
        Some("content_block_delta") => {
            let block = entry(body, "content", &data["index"])?;
            let delta = &data["delta"];
            for field in ["text", "thinking"] {
                append(block, field, &delta[field])?;
            }
            // The input of a call begins as an object that is empty, and goes on as a text.
            append(block, "input", &delta["partial_json"])?;
        }
        Some("message_delta") => set(body, "stop_reason", &data["delta"]["stop_reason"])?,
        _ => {}
    }
    Some(())
}

/// An event of OpenAI's responses: an item that is complete comes in the place of its pieces.
fn add_response(body: &mut Value, mut data: Value) -> Option<()> {
    let kind = data["type"].as_str().unwrap_or_default().to_owned();
    match kind.as_str() {
        "response.output_item.added" | "response.output_item.done" => {
            let item = take(&mut data, "item");
            *entry(body, "output", &data["output_index"])? = item;
        }
        "response.output_text.delta" | "response.refusal.delta" => {
            let item = entry(body, "output", &data["output_index"])?;
            let part = entry(item, "content", &data["content_index"])?;
            let (name, field) = match kind.as_str() {
                "response.refusal.delta" => ("refusal", "refusal"),
                _ => ("output_text", "text"),
            };
            set(part, "type", &json!(name))?;
            append(part, field, &data["delta"])?;
        }
        "response.function_call_arguments.delta" => {
            let item = entry(body, "output", &data["output_index"])?;
            append(item, "arguments", &data["delta"])?;
        }
        "response.completed" | "response.incomplete" | "response.failed" => {
            let mut response = take(&mut data, "response");
            for field in ["status", "incomplete_details"] {
                *member(body, field)? = take(&mut response, field);
            }
            let output = take(&mut response, "output");
            if output.as_array().is_some_and(|items| !items.is_empty()) {
                *member(body, "output")? = output;
            }
        }
        _ => {}
    }
    Some(())
}
