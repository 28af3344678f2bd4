//! Chats and completions: choices from pieces and back.

use bytes::Bytes;
use protocol::sse::{DONE, Event};
use serde_json::{Map, Value, json};

use super::{bytes, wire};

/// Fields of a message that come in pieces of text.
const TEXTS: [&str; 5] = [
    "content",
    "refusal",
    "reasoning",
    "reasoning_content",
    "text",
];

/// One event for each choice, one for its end, and one for the usage.
pub(super) fn to_events(mut whole: Value) -> Option<Bytes> {
    let whole = whole.as_object_mut()?;
    let usage = whole.shift_remove("usage");
    let Value::Array(choices) = whole.shift_remove("choices")? else {
        return None;
    };
    if whole.get("object")? == "chat.completion" {
        whole.insert("object".to_owned(), json!("chat.completion.chunk"));
    }
    let event = |fields: &[(&str, Value)]| {
        let mut event = whole.clone();
        event.extend(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        Event::data(Value::Object(event).to_string())
    };
    let mut events = Vec::new();
    for choice in choices {
        let Value::Object(mut choice) = choice else {
            return None;
        };
        let end = choice.insert("finish_reason".to_owned(), Value::Null);
        let mut last = Map::from_iter([("index".to_owned(), choice.get("index")?.clone())]);
        if let Some(message) = choice.shift_remove("message") {
            choice.insert("delta".to_owned(), numbered(message)?);
            last.insert("delta".to_owned(), json!({}));
        } else {
            choice.get("text")?;
            last.insert("text".to_owned(), json!(""));
        }
        last.insert("finish_reason".to_owned(), end.unwrap_or_default());
        for choice in [choice, last] {
            events.push(event(&[("choices", json!([choice]))]));
        }
    }
    if let Some(usage) = usage {
        events.push(event(&[("choices", json!([])), ("usage", usage)]));
    }
    events.push(Event::data(DONE));
    Some(wire(events))
}

/// In events calls of tools have numbers.
fn numbered(mut message: Value) -> Option<Value> {
    let calls = message.as_object_mut()?.get_mut("tool_calls");
    for (index, call) in calls
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .enumerate()
    {
        call.as_object_mut()?
            .insert("index".to_owned(), json!(index));
    }
    Some(message)
}

/// The whole answer, as long as each piece is one that is known how to add.
pub(super) fn to_whole(events: Vec<Value>) -> Option<Bytes> {
    let mut whole = Map::new();
    let mut choices: Vec<Map<String, Value>> = Vec::new();
    for event in events {
        let Value::Object(event) = event else {
            return None;
        };
        for (name, value) in event {
            match (name.as_str(), value) {
                ("choices", Value::Array(pieces)) => {
                    for piece in pieces {
                        add_choice(&mut choices, piece)?;
                    }
                }
                (_, Value::Null) => {}
                (_, value) => {
                    whole.insert(name, value);
                }
            }
        }
    }
    let has_ended = |choice: &Map<String, Value>| {
        choice
            .get("finish_reason")
            .is_some_and(|end| !end.is_null())
    };
    if !choices.iter().all(has_ended) {
        return None;
    }
    if whole.get("object")? == "chat.completion.chunk" {
        whole.insert("object".to_owned(), json!("chat.completion"));
    }
    whole.insert("choices".to_owned(), json!(choices));
    Some(bytes(&Value::Object(whole)))
}

fn add_choice(choices: &mut Vec<Map<String, Value>>, piece: Value) -> Option<()> {
    let Value::Object(piece) = piece else {
        return None;
    };
    let index = usize::try_from(piece.get("index")?.as_u64()?).ok()?;
    if index == choices.len() {
        let mut choice = Map::from_iter([("index".to_owned(), json!(index))]);
        if piece.contains_key("delta") {
            choice.insert(
                "message".to_owned(),
                json!({"role": "assistant", "content": null}),
            );
        }
        choice.insert("logprobs".to_owned(), Value::Null);
        choice.insert("finish_reason".to_owned(), Value::Null);
        choices.push(choice);
    }
    let choice = choices.get_mut(index)?;
    for (name, value) in piece {
        match (name.as_str(), value) {
            ("index", _) | (_, Value::Null) => {}
            ("delta", Value::Object(delta)) => {
                let message = choice.get_mut("message")?.as_object_mut()?;
                for (name, value) in delta {
                    add_field(message, name, value)?;
                }
            }
            // The logarithms of the pieces' chances lie in lists of several shapes.
            ("logprobs", _) => return None,
            (_, value) => add_field(choice, name, value)?,
        }
    }
    Some(())
}

fn add_field(to: &mut Map<String, Value>, name: String, value: Value) -> Option<()> {
    if value.is_null() {
        return Some(());
    }
    if name == "tool_calls" {
        let calls = to.entry(name).or_insert_with(|| json!([])).as_array_mut()?;
        let Value::Array(pieces) = value else {
            return None;
        };
        return pieces
            .into_iter()
            .try_for_each(|piece| add_call(calls, piece));
    }
    match (to.get_mut(&name), value) {
        (Some(Value::String(text)), Value::String(piece)) if TEXTS.contains(&&*name) => {
            text.push_str(&piece);
        }
        (None | Some(Value::Null), value) => {
            to.insert(name, value);
        }
        (Some(before), value) if *before == value => {}
        _ => return None,
    }
    Some(())
}

fn add_call(calls: &mut Vec<Value>, piece: Value) -> Option<()> {
    let Value::Object(mut piece) = piece else {
        return None;
    };
    let index = usize::try_from(piece.shift_remove("index")?.as_u64()?).ok()?;
    if index == calls.len() {
        calls.push(Value::Object(piece));
        return Some(());
    }
    let Value::Object(function) = piece.shift_remove("function")? else {
        return None;
    };
    let call = calls.get_mut(index)?.as_object_mut()?;
    let known = call.get_mut("function")?.as_object_mut()?;
    for (name, value) in function {
        match (known.get_mut(&name), value) {
            (Some(Value::String(text)), Value::String(piece)) if name == "arguments" => {
                text.push_str(&piece);
            }
            (None, value) => {
                known.insert(name, value);
            }
            (Some(before), value) if value.is_null() || *before == value => {}
            _ => return None,
        }
    }
    let is_known =
        |(name, value): (&String, &Value)| value.is_null() || call.get(name) == Some(value);
    piece.iter().all(is_known).then_some(())
}
