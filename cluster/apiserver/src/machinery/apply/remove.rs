//! Taking a set of fields out of a value.

use serde_json::{Map, Value};

use super::fieldset::{FieldSet, Step};
use super::shape::{Shape, Type};

/// What becomes of a container that has lost all it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptied {
    /// It goes too.
    Goes,
    /// A null stays in its place: who owns the container itself still finds it.
    Stays,
}

/// A value without the fields of a set.
pub(super) fn remove(value: &Value, set: &FieldSet, kind: Type<'_>, emptied: Emptied) -> Value {
    match (kind.shape(value), value) {
        (Shape::List { is_atomic: false }, Value::Array(items)) => {
            let kept = items.iter().enumerate().filter_map(|(at, item)| {
                let Ok(step) = kind.step(item, at) else {
                    return Some(item.clone());
                };
                kept(item, &step, set, kind.item(), emptied)
            });
            Value::Array(kept.collect())
        }
        (Shape::Map { is_atomic: false }, Value::Object(fields)) => {
            let kept = fields.iter().filter_map(|(name, field)| {
                let step = Step::Field(name.clone());
                Some((
                    name.clone(),
                    kept(field, &step, set, kind.field(name), emptied)?,
                ))
            });
            Value::Object(kept.collect::<Map<_, _>>())
        }
        _ => value.clone(),
    }
}

fn kept(
    value: &Value,
    step: &Step,
    set: &FieldSet,
    kind: Type<'_>,
    emptied: Emptied,
) -> Option<Value> {
    if set.has_member(step) {
        return None;
    }
    let Some(below) = set.below(step) else {
        return Some(value.clone());
    };
    let rest = remove(value, below, kind, emptied);
    if is_empty(value) || !is_empty(&rest) {
        return Some(rest);
    }
    (emptied == Emptied::Stays).then_some(Value::Null)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
