//! Reading JSON without ceremony: what is missing or of another type counts as empty.

use serde_json::Value;

/// The items of a list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The texts of a list.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    let texts = list(value).iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// An object's uid.
pub(crate) fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"]).to_owned()
}
