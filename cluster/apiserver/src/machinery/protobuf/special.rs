//! Messages that are not objects in JSON: times, quantities, unions and raw JSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::wire::{Field, Fields};

/// Decodes a message that has a form of its own; the outer `None` says that this one has not.
pub(super) fn decode(name: &str, bytes: &[u8]) -> Option<Option<Value>> {
    let decoded = match name.rsplit('.').next().unwrap_or_default() {
        "Time" => time(bytes, false),
        "MicroTime" => time(bytes, true),
        "Duration" => duration(bytes),
        "Quantity" => text(bytes),
        "IntOrString" => int_or_string(bytes),
        "FieldsV1" | "RawExtension" | "JSON" => raw(bytes),
        "ExtraValue" | "Verbs" => texts(bytes),
        _ => return None,
    };
    Some(decoded)
}

fn numbers(bytes: &[u8]) -> Option<(i64, i64)> {
    let (mut first, mut second) = (0, 0);
    for field in Fields::new(bytes) {
        match field? {
            (1, Field::Number(number)) => first = number.cast_signed(),
            (2, Field::Number(number)) => second = number.cast_signed(),
            _ => {}
        }
    }
    Some((first, second))
}

/// No time at all is written as an empty message.
fn time(bytes: &[u8], has_micros: bool) -> Option<Value> {
    let (seconds, nanos) = numbers(bytes)?;
    if seconds == 0 && nanos == 0 {
        return Some(Value::Null);
    }
    let time = Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()?;
    let format = if has_micros {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Some(Value::String(time.strftime(format).to_string()))
}

fn duration(bytes: &[u8]) -> Option<Value> {
    let (nanos, _) = numbers(bytes)?;
    Some(Value::String(format!("{}s", nanos / 1_000_000_000)))
}

fn first_bytes(bytes: &[u8]) -> Option<&[u8]> {
    for field in Fields::new(bytes) {
        if let (1, Field::Bytes(found)) = field? {
            return Some(found);
        }
    }
    Some(&[])
}

fn text(bytes: &[u8]) -> Option<Value> {
    let text = String::from_utf8(first_bytes(bytes)?.to_vec()).ok()?;
    Some(Value::String(text))
}

fn raw(bytes: &[u8]) -> Option<Value> {
    let json = first_bytes(bytes)?;
    if json.is_empty() {
        Some(Value::Null)
    } else {
        serde_json::from_slice(json).ok()
    }
}

fn texts(bytes: &[u8]) -> Option<Value> {
    let mut out = Vec::new();
    for field in Fields::new(bytes) {
        if let (1, Field::Bytes(text)) = field? {
            out.push(Value::String(String::from_utf8(text.to_vec()).ok()?));
        }
    }
    Some(Value::Array(out))
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields::new(bytes) {
        match field? {
            (1, Field::Number(kind)) => is_text = kind == 1,
            (2, Field::Number(value)) => number = value.cast_signed(),
            (3, Field::Bytes(value)) => text = String::from_utf8(value.to_vec()).ok()?,
            _ => {}
        }
    }
    Some(if is_text { json!(text) } else { json!(number) })
}
