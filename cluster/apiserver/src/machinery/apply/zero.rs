//! What a kind looks like before anything is said: custom resources are empty, built-in ones have the parts that are always there.

use serde_json::{Map, Value, json};

use super::bare;
use crate::machinery::schema::{Kind, Structural};

/// Parts of built-in objects that are structures and not pointers, so that they are never absent.
const ALWAYS_THERE: [&str; 11] = [
    "metadata",
    "spec",
    "status",
    "strategy",
    "updateStrategy",
    "template",
    "jobTemplate",
    "podSelector",
    "resources",
    "source",
    "deprecatedSource",
];

/// An empty object of the kind of `like`.
pub(super) fn object(like: &Value, schema: &Structural) -> Value {
    let mut out = bare(like);
    if schema.is_builtin {
        out.extend(always_there(schema, 0));
        out.insert("metadata".to_owned(), json!({}));
    }
    Value::Object(out)
}

fn always_there(schema: &Structural, depth: usize) -> Map<String, Value> {
    const DEPTH_MAX: usize = 6;
    let mut out = Map::new();
    if depth > DEPTH_MAX {
        return out;
    }
    for (name, node) in &schema.properties {
        let field = node.schema();
        let is_structure = field.kind == Some(Kind::Object) && !field.properties.is_empty();
        let is_required = schema.limits.required.contains(name);
        if is_structure && ALWAYS_THERE.contains(&name.as_str()) {
            let below = if name == "metadata" {
                Map::new()
            } else {
                always_there(field, depth + 1)
            };
            out.insert(name.clone(), Value::Object(below));
        } else if is_required {
            let zero = match field.kind {
                Some(Kind::Object) if is_structure && !field.is_atomic_map => {
                    Value::Object(always_there(field, depth + 1))
                }
                Some(Kind::String) => json!(""),
                Some(Kind::Integer | Kind::Number) => json!(0),
                Some(Kind::Boolean) => json!(false),
                Some(Kind::Array | Kind::Object) | None => Value::Null,
            };
            out.insert(name.clone(), zero);
        }
    }
    out
}
