//! Cells that many kinds share, and the reading of objects for them.

use serde_json::{Value, json};

use super::age;

/// The text at a pointer, empty if there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The text at a pointer, or a placeholder.
pub(super) fn text_or<'a>(object: &'a Value, pointer: &str, none: &'a str) -> &'a str {
    match text(object, pointer) {
        "" => none,
        found => found,
    }
}

/// The number at a pointer, or zero.
pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object
        .pointer(pointer)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

/// The list at a pointer, or an empty one.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// How many fields the object at a pointer has.
pub(super) fn count(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

/// The condition of a type, if the object has it.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == kind)
}

/// Whether a condition is true.
pub(super) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

/// Texts in a row, or `<none>`.
pub(super) fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    let joined = texts.collect::<Vec<_>>().join(",");
    json!(if joined.is_empty() { "<none>" } else { &joined })
}

/// Labels or a map of them as `a=b,c=d`, or `<none>`.
pub(super) fn labels(map: Option<&Value>) -> String {
    let fields = map.and_then(Value::as_object).into_iter().flatten();
    let mut pairs: Vec<String> = fields
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

/// A label selector in its written form.
pub(super) fn selector(selector: Option<&Value>) -> Value {
    let Some(selector) = selector else {
        return json!("<none>");
    };
    let mut parts = Vec::new();
    let matched = labels(selector.get("matchLabels"));
    if matched != "<none>" {
        parts.push(matched);
    }
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let values: Vec<&str> = list(expression, "/values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        parts.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    json!(if parts.is_empty() {
        "<none>".to_owned()
    } else {
        parts.join(",")
    })
}

pub(super) fn name(object: &Value, _now: &str) -> Value {
    json!(text(object, "/metadata/name"))
}

pub(super) fn age(object: &Value, now: &str) -> Value {
    json!(age_at(object, "/metadata/creationTimestamp", now))
}

pub(super) fn created(object: &Value, _now: &str) -> Value {
    object
        .pointer("/metadata/creationTimestamp")
        .cloned()
        .unwrap_or(Value::Null)
}

/// The age of the time at a pointer.
pub(super) fn age_at(object: &Value, pointer: &str, now: &str) -> String {
    match text(object, pointer) {
        "" => "<unknown>".to_owned(),
        time => age::since(time, now),
    }
}

pub(super) fn phase(object: &Value, _now: &str) -> Value {
    json!(text(object, "/status/phase"))
}
