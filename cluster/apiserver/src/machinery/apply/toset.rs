//! The set of fields that a value claims.

use serde_json::Value;

use super::fieldset::{FieldSet, Step};
use super::shape::{Shape, Type};

/// Every field that a value sets.
pub(super) fn to_set(value: &Value, kind: Type<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    walk(value, kind, &mut Vec::new(), &mut set);
    set
}

fn walk(value: &Value, kind: Type<'_>, path: &mut Vec<Step>, set: &mut FieldSet) {
    match kind.shape(value) {
        Shape::Scalar | Shape::List { is_atomic: true } | Shape::Map { is_atomic: true } => {
            set.insert(path);
        }
        Shape::List { is_atomic: false } => {
            for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                let Ok(step) = kind.step(item, at) else {
                    continue;
                };
                path.push(step);
                walk(item, kind.item(), path, set);
                set.insert(path);
                path.pop();
            }
        }
        Shape::Map { is_atomic: false } => {
            for (name, field) in value.as_object().into_iter().flatten() {
                path.push(Step::Field(name.clone()));
                walk(field, kind.field(name), path, set);
                let is_empty =
                    field.is_null() || field.as_object().is_some_and(serde_json::Map::is_empty);
                if is_empty || !kind.declares(name) {
                    set.insert(path);
                }
                path.pop();
            }
        }
    }
}
