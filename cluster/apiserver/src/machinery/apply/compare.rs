//! The difference of two values as sets of fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fieldset::{FieldSet, Step};
use super::shape::{Shape, Type};

/// What became of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

/// Compares two values of a type.
pub(super) fn compare(left: &Value, right: &Value, kind: Type<'_>) -> Comparison {
    let mut out = Comparison::default();
    walk(Some(left), Some(right), kind, &mut Vec::new(), &mut out);
    out
}

fn walk(
    left: Option<&Value>,
    right: Option<&Value>,
    kind: Type<'_>,
    path: &mut Vec<Step>,
    out: &mut Comparison,
) {
    if left == right {
        return;
    }
    let Some(present) = right.or(left) else {
        return;
    };
    let shape = kind.shape(present);
    let other = left
        .filter(|value| !value.is_null())
        .map(|value| kind.shape(value));
    if other.is_some_and(|other| other != shape) && right.is_some_and(|value| !value.is_null()) {
        leaf(left, right, path, out);
        return;
    }
    let shape = if present.is_null() {
        other.unwrap_or(shape)
    } else {
        shape
    };
    let is_leaf = match shape {
        Shape::Scalar | Shape::List { is_atomic: true } | Shape::Map { is_atomic: true } => true,
        Shape::List { is_atomic: false } | Shape::Map { is_atomic: false } => {
            is_empty(left) && is_empty(right)
        }
    };
    if is_leaf {
        leaf(left, right, path, out);
        return;
    }
    if matches!(shape, Shape::Map { .. }) {
        walk_map(
            left.and_then(Value::as_object),
            right.and_then(Value::as_object),
            kind,
            path,
            out,
        );
    } else {
        walk_list(items(left), items(right), kind, path, out);
    }
    if left.is_none() {
        out.added.insert(path);
    } else if right.is_none() {
        out.removed.insert(path);
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        _ => true,
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn leaf(left: Option<&Value>, right: Option<&Value>, path: &[Step], out: &mut Comparison) {
    match (left, right) {
        (None, _) => out.added.insert(path),
        (_, None) => out.removed.insert(path),
        (Some(left), Some(right)) if left != right => out.modified.insert(path),
        (Some(_), Some(_)) => {}
    }
}

fn walk_map(
    left: Option<&Map<String, Value>>,
    right: Option<&Map<String, Value>>,
    kind: Type<'_>,
    path: &mut Vec<Step>,
    out: &mut Comparison,
) {
    let added = right
        .into_iter()
        .flat_map(Map::keys)
        .filter(|name| left.is_none_or(|left| !left.contains_key(*name)));
    for name in left.into_iter().flat_map(Map::keys).chain(added) {
        path.push(Step::Field(name.clone()));
        let (before, after) = (
            left.and_then(|map| map.get(name)),
            right.and_then(|map| map.get(name)),
        );
        walk(before, after, kind.field(name), path, out);
        path.pop();
    }
}

fn walk_list(
    left: &[Value],
    right: &[Value],
    kind: Type<'_>,
    path: &mut Vec<Step>,
    out: &mut Comparison,
) {
    let index = |items: &[Value]| {
        let mut by_step: BTreeMap<Step, Vec<Value>> = BTreeMap::new();
        for (at, item) in items.iter().enumerate() {
            if let Ok(step) = kind.step(item, at) {
                by_step.entry(step).or_default().push(item.clone());
            }
        }
        by_step
    };
    let (before, after) = (index(left), index(right));
    let none = Vec::new();
    let added = after.keys().filter(|step| !before.contains_key(*step));
    for step in before.keys().chain(added) {
        let (olds, news) = (
            before.get(step).unwrap_or(&none),
            after.get(step).unwrap_or(&none),
        );
        path.push(step.clone());
        if olds.len() <= 1 && news.len() <= 1 {
            walk(olds.first(), news.first(), kind.item(), path, out);
        } else if olds != news {
            out.modified.insert(path);
        }
        path.pop();
    }
}
