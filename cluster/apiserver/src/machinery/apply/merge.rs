//! Merging what is applied into what is live: the applied side wins, lists are merged by identity.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fieldset::Step;
use super::shape::{Shape, Type};

/// The live value with the applied one merged in.
pub(super) fn merge(live: &Value, applied: &Value, kind: Type<'_>) -> Value {
    both(Some(live), Some(applied), kind).unwrap_or(Value::Null)
}

fn both(live: Option<&Value>, applied: Option<&Value>, kind: Type<'_>) -> Option<Value> {
    let (Some(old), Some(new)) = (live, applied) else {
        return applied.or(live).cloned();
    };
    let shape = kind.shape(new);
    if kind.shape(old) != shape {
        return Some(new.clone());
    }
    match (shape, old, new) {
        (Shape::Map { is_atomic: false }, Value::Object(old), Value::Object(new)) => {
            Some(Value::Object(maps(old, new, kind)))
        }
        (Shape::List { is_atomic: false }, Value::Array(old), Value::Array(new)) => {
            Some(Value::Array(lists(old, new, kind)))
        }
        // Saying nothing or null about a map or list leaves it as it is.
        (Shape::Map { is_atomic: false } | Shape::List { is_atomic: false }, old, Value::Null)
            if !is_empty(old) =>
        {
            Some(old.clone())
        }
        _ => Some(new.clone()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn maps(old: &Map<String, Value>, new: &Map<String, Value>, kind: Type<'_>) -> Map<String, Value> {
    let mut out = Map::new();
    let added = new.keys().filter(|name| !old.contains_key(*name));
    for name in old.keys().chain(added) {
        if let Some(value) = both(old.get(name), new.get(name), kind.field(name)) {
            out.insert(name.clone(), value);
        }
    }
    out
}

/// Items of one side with what identifies them; items that nothing identifies keep their position.
fn steps(items: &[Value], kind: Type<'_>) -> Vec<Step> {
    items
        .iter()
        .enumerate()
        .map(|(at, item)| kind.step(item, at).unwrap_or(Step::Index(at)))
        .collect()
}

/// Shared items stand in the order of the applied list; live ones keep their place between them.
fn lists(old: &[Value], new: &[Value], kind: Type<'_>) -> Vec<Value> {
    let (old_steps, new_steps) = (steps(old, kind), steps(new, kind));
    let olds: BTreeMap<&Step, &Value> = old_steps.iter().zip(old).collect();
    let news: BTreeMap<&Step, &Value> = new_steps.iter().zip(new).collect();
    let mut shared: Vec<&Step> = new_steps
        .iter()
        .filter(|step| olds.contains_key(step))
        .collect();
    shared.reverse();
    let mut done: BTreeSet<&Step> = BTreeSet::new();
    let mut out = Vec::new();
    let put = |step: &Step, out: &mut Vec<Value>| {
        out.extend(both(
            olds.get(step).copied(),
            news.get(step).copied(),
            kind.item(),
        ));
    };
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        let (mine, theirs) = (old_steps.get(left), new_steps.get(right));
        if let (Some(mine), Some(theirs)) = (mine, theirs) {
            if mine == theirs {
                done.insert(mine);
                put(mine, &mut out);
                shared.retain(|step| *step != mine);
                left += 1;
                right += 1;
                continue;
            }
            let is_awaited = shared.last() == Some(&mine);
            if news.contains_key(mine) && !is_awaited {
                left += 1;
                continue;
            }
        }
        if let Some(mine) = mine {
            if !news.contains_key(mine) {
                out.extend(old.get(left).cloned());
                left += 1;
                continue;
            }
            if done.contains(mine) {
                left += 1;
                continue;
            }
        }
        if let Some(theirs) = theirs {
            done.insert(theirs);
            put(theirs, &mut out);
            shared.retain(|step| *step != theirs);
            right += 1;
        }
    }
    out
}
