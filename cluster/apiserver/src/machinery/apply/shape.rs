//! What server-side apply takes a value for: a scalar, a list or a map, whole or by parts.

use serde_json::Value;

use super::fieldset::Step;
use crate::machinery::schema::{Additional, Kind, ListType, Structural};

/// The type of a place: declared, or guessed from the value that stands there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type<'a> {
    Known(&'a Structural),
    Deduced,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Scalar,
    List { is_atomic: bool },
    Map { is_atomic: bool },
}

impl<'a> Type<'a> {
    /// The form of a value at this place.
    pub(super) fn shape(self, value: &Value) -> Shape {
        let deduced = || match value {
            Value::Object(_) => Shape::Map { is_atomic: false },
            Value::Array(_) => Shape::List { is_atomic: true },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Shape::Scalar,
        };
        let Self::Known(schema) = self else {
            return deduced();
        };
        match schema.kind {
            Some(Kind::Object) => Shape::Map {
                is_atomic: schema.is_atomic_map,
            },
            Some(Kind::Array) => Shape::List {
                is_atomic: schema.list_type == ListType::Atomic,
            },
            Some(Kind::String | Kind::Integer | Kind::Number | Kind::Boolean) => Shape::Scalar,
            None if schema.preserves_unknown || !schema.properties.is_empty() => deduced(),
            None => Shape::Scalar,
        }
    }

    /// Whether a field is declared by name.
    pub(super) fn declares(self, name: &str) -> bool {
        match self {
            Self::Known(schema) => schema.properties.contains_key(name),
            Self::Deduced => false,
        }
    }

    /// Whether a field may stand here at all.
    pub(super) fn admits(self, name: &str) -> bool {
        match self {
            Self::Deduced => true,
            Self::Known(schema) => {
                schema.preserves_unknown
                    || schema.properties.contains_key(name)
                    || !matches!(schema.additional, Additional::None)
                    || (schema.properties.is_empty() && schema.kind.is_none())
            }
        }
    }

    /// The type of a field.
    pub(super) fn field(self, name: &str) -> Self {
        let Self::Known(schema) = self else {
            return Self::Deduced;
        };
        schema
            .field(name)
            .map_or(Self::Deduced, |node| Self::Known(node.schema()))
    }

    /// The type of an item.
    pub(super) fn item(self) -> Self {
        let Self::Known(schema) = self else {
            return Self::Deduced;
        };
        schema
            .items
            .as_ref()
            .map_or(Self::Deduced, |node| Self::Known(node.schema()))
    }

    /// The step to an item of a list that tells its items apart.
    pub(super) fn step(self, item: &Value, at: usize) -> Result<Step, String> {
        let Self::Known(schema) = self else {
            return Ok(Step::Index(at));
        };
        match &schema.list_type {
            ListType::Atomic => Ok(Step::Index(at)),
            ListType::Set => match item {
                Value::Object(_) | Value::Array(_) => Err(format!(
                    "associative list without keys has an element that's {} type",
                    if item.is_object() { "a map" } else { "a list" }
                )),
                scalar => Ok(Step::Value(scalar.to_string())),
            },
            ListType::Map(keys) => {
                let Value::Object(fields) = item else {
                    return Err(
                        "associative list with keys may not have non-map elements".to_owned()
                    );
                };
                let element = schema
                    .items
                    .as_ref()
                    .map(super::super::schema::Node::schema);
                let mut out = Vec::new();
                for key in keys {
                    let said = fields.get(key).map(Value::to_string);
                    let Some(value) = said.or_else(|| default_key(element?, key)) else {
                        let fault =
                            "associative list with keys has an element that omits key field";
                        return Err(format!(
                            "{fault} \"{key}\" (and doesn't have default value)"
                        ));
                    };
                    out.push((key.clone(), value));
                }
                out.sort();
                Ok(Step::Key(out))
            }
        }
    }
}

/// What a key field is when it is not said, as JSON; built-in kinds have Go's zeros.
fn default_key(element: &Structural, key: &str) -> Option<String> {
    let node = element.properties.get(key)?;
    if let Some(default) = node.default_value() {
        return Some(default.to_string());
    }
    match node.schema().kind {
        Some(Kind::String) if element.is_builtin => Some("\"\"".to_owned()),
        Some(Kind::Integer) if element.is_builtin => Some("0".to_owned()),
        _ => None,
    }
}
