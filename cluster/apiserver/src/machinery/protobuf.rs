//! Protobuf request bodies, which kubectl and helm send for built-in kinds, as the JSON they stand for.
//!
//! A body is the magic `k8s\0`, then a `runtime.Unknown` that names the kind and holds the message. Messages are decoded by a table
//! made by `data/generate.py`. Go writes a zero for every field that was not said, unless the field is a pointer; those zeros are
//! dropped.

mod special;
mod wire;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

use self::wire::{Field, Fields};
use super::builtin;
use crate::status::ApiError;

const MAGIC: &[u8] = b"k8s\0";
const DEPTH_MAX: usize = 64;
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

static COMPRESSED: &[u8] = include_bytes!("../../data/messages.json.gz");
static MESSAGES: LazyLock<HashMap<String, Vec<Row>>> = LazyLock::new(|| {
    let mut text = String::new();
    let read = GzDecoder::new(COMPRESSED).read_to_string(&mut text);
    read.ok()
        .and_then(|_| serde_json::from_str(&text).ok())
        .unwrap_or_default()
});

/// A field of a message: number, JSON name, wire type, mode, whether it is a pointer, message type.
#[derive(Debug, serde::Deserialize)]
struct Row(u32, String, char, u8, u8, String);

const MODE_REPEATED: u8 = 1;
const MODE_MAP: u8 = 2;
const MODE_INLINE: u8 = 3;

/// Structures that Go writes even when nothing was said about them.
const ALWAYS_WRITTEN: [&str; 15] = [
    "metadata",
    "spec",
    "status",
    "strategy",
    "updateStrategy",
    "template",
    "jobTemplate",
    "resources",
    "state",
    "lastState",
    "loadBalancer",
    "daemonEndpoints",
    "nodeInfo",
    "source",
    "deprecatedSource",
];

/// Decodes a request body.
///
/// # Errors
/// 400 when the body is not of a kind that is known here, or is broken.
pub fn decode(bytes: &[u8]) -> Result<Value, ApiError> {
    let body = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| broken("the body does not start with the protobuf magic"))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[] as &[u8]);
    for field in Fields::new(body) {
        match field.ok_or_else(|| broken("the envelope is malformed"))? {
            (1, Field::Bytes(meta)) => {
                for field in Fields::new(meta) {
                    match field.ok_or_else(|| broken("the type is malformed"))? {
                        (1, Field::Bytes(text)) => {
                            api_version = String::from_utf8_lossy(text).into_owned();
                        }
                        (2, Field::Bytes(text)) => {
                            kind = String::from_utf8_lossy(text).into_owned();
                        }
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(message)) => raw = message,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind).ok_or_else(|| {
        ApiError::bad_request(format!(
            "no kind \"{kind}\" is registered for version \"{api_version}\""
        ))
    })?;
    let mut out = Map::new();
    out.insert("kind".to_owned(), json!(kind));
    out.insert("apiVersion".to_owned(), json!(api_version));
    message(&name, raw, 0, &mut out).ok_or_else(|| broken(&format!("the {kind} is malformed")))?;
    Ok(Value::Object(out))
}

fn broken(why: &str) -> ApiError {
    ApiError::bad_request(format!("the object provided is unrecognized: {why}"))
}

fn message_name(api_version: &str, kind: &str) -> Option<String> {
    // Options belong to every group.
    if kind.ends_with("Options") {
        return Some(format!("{META}{kind}")).filter(|name| MESSAGES.contains_key(name));
    }
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    builtin::definition_name(group, version, kind).map(str::to_owned)
}

/// Decodes a message into an object.
fn message(name: &str, bytes: &[u8], depth: usize, out: &mut Map<String, Value>) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let rows = MESSAGES.get(name)?;
    for field in Fields::new(bytes) {
        let (number, field) = field?;
        let Some(row) = rows.iter().find(|row| row.0 == number) else {
            continue;
        };
        let Row(_, key, wire, mode, is_pointer, target) = row;
        match (*mode, field) {
            (MODE_INLINE, Field::Bytes(bytes)) => message(target, bytes, depth + 1, out)?,
            (MODE_MAP, Field::Bytes(bytes)) => {
                let (entry, value) = entry(*wire, target, bytes, depth)?;
                let map = out.entry(key.clone()).or_insert_with(|| json!({}));
                map.as_object_mut()?.insert(entry, value);
            }
            (MODE_REPEATED, Field::Bytes(bytes)) if matches!(wire, 'i' | 'o') => {
                let list = out.entry(key.clone()).or_insert_with(|| json!([]));
                list.as_array_mut()?
                    .extend(wire::packed(bytes)?.into_iter().map(|number| json!(number)));
            }
            (MODE_REPEATED, field) => {
                let value = value(*wire, target, &field, depth)?;
                out.entry(key.clone())
                    .or_insert_with(|| json!([]))
                    .as_array_mut()?
                    .push(value);
            }
            (_, field) => {
                let value = value(*wire, target, &field, depth)?;
                let is_said = *is_pointer != 0 || !is_nothing(key, &value);
                if is_said && !value.is_null() {
                    out.insert(key.clone(), value);
                }
            }
        }
    }
    Some(())
}

/// Zeros and the empty structures that Go always writes.
fn is_nothing(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_set) => !is_set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.is_empty() && ALWAYS_WRITTEN.contains(&key),
        Value::Array(_) => false,
    }
}

fn entry(wire: char, target: &str, bytes: &[u8], depth: usize) -> Option<(String, Value)> {
    let (mut key, mut out) = (String::new(), None);
    for field in Fields::new(bytes) {
        match field? {
            (1, Field::Bytes(text)) => key = String::from_utf8(text.to_vec()).ok()?,
            (2, field) => out = Some(value(wire, target, &field, depth)?),
            _ => {}
        }
    }
    let empty = || value(wire, target, &Field::Bytes(&[]), depth);
    Some((key, out.or_else(empty)?))
}

fn value(wire: char, target: &str, field: &Field<'_>, depth: usize) -> Option<Value> {
    Some(match (wire, field) {
        ('s', Field::Bytes(text)) => Value::String(String::from_utf8(text.to_vec()).ok()?),
        ('b', Field::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        ('i', Field::Number(number)) => json!(number.cast_signed()),
        ('o', Field::Number(number)) => Value::Bool(*number != 0),
        ('d', Field::Number(bits)) => json!(f64::from_bits(*bits)),
        ('m', Field::Bytes(bytes)) => match special::decode(target, bytes) {
            Some(special) => special?,
            None => {
                let mut out = Map::new();
                message(target, bytes, depth + 1, &mut out)?;
                Value::Object(out)
            }
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
