//! Defaulting: missing fields get their defaults; a `null` that may not be counts as missing.

use serde_json::Value;

use super::{Additional, Kind, Node, Structural};

impl Structural {
    /// Fills defaults, then drops every `null` where none may be.
    pub fn apply_defaults(&self, value: &mut Value) {
        self.fill(value);
        self.drop_nulls(value);
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, node) in &self.properties {
                    let Some(default) = node.default_value() else {
                        continue;
                    };
                    let is_missing = fields
                        .get(name)
                        .is_none_or(|field| is_forbidden_null(field, node));
                    if is_missing {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                for (name, field) in fields.iter_mut() {
                    let Some(node) = self.field(name) else {
                        continue;
                    };
                    node.fill(field);
                }
            }
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                for item in items {
                    node.fill(item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Drops every `null` where none may be; of built-in kinds, whose empty lists and maps are no different from none, those too.
    pub fn drop_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, field| {
                    let Some(node) = self.field(name) else {
                        return true;
                    };
                    let is_declared = self.properties.contains_key(name);
                    if field.is_null() && self.is_builtin && !is_declared {
                        *field = zero(node.schema());
                    }
                    if is_forbidden_null(field, node) {
                        return false;
                    }
                    node.schema().drop_nulls(field);
                    let is_optional = is_declared && !self.limits.required.contains(name);
                    !(self.is_builtin && is_optional && is_empty_container(field, node))
                });
            }
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                for item in items {
                    node.schema().drop_nulls(item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

impl Node {
    fn fill(&self, value: &mut Value) {
        if is_forbidden_null(value, self)
            && let Some(default) = self.default_value()
        {
            *value = default.clone();
        }
        self.schema().fill(value);
    }
}

/// A free form may hold `null` like anything else.
fn is_forbidden_null(value: &Value, node: &Node) -> bool {
    let schema = node.schema();
    let is_free = schema.kind.is_none() && schema.preserves_unknown;
    value.is_null() && !schema.is_nullable && !is_free
}

/// What Go makes of a `null` among the values of a map.
fn zero(schema: &Structural) -> Value {
    match schema.kind {
        Some(Kind::String) => Value::String(String::new()),
        Some(Kind::Object | Kind::Array | Kind::Integer | Kind::Number | Kind::Boolean) | None => {
            Value::Null
        }
    }
}

/// An empty list, or an empty map; empty structures may mean something.
fn is_empty_container(value: &Value, node: &Node) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            fields.is_empty() && matches!(node.schema().additional, Additional::Schema(_))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
