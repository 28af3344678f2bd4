//! Strategic merge patch: a merge patch that knows which lists are merged item by item, and by which key.

use serde_json::{Map, Value};

use crate::machinery::json::go_value;
use crate::machinery::schema::{Node, PatchHints, Structural};
use crate::status::ApiError;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to an object of a built-in kind.
///
/// # Errors
/// 400 for a malformed directive; 500, as the real server answers, for an unknown one, a missing merge key or a wrong order.
pub fn strategic_merge_patch(
    object: &Value,
    patch: &Value,
    schema: &Structural,
) -> Result<Value, ApiError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(ApiError::bad_request("invalid JSON document"));
    };
    Ok(Value::Object(merge_maps(object, patch, Some(schema))?))
}

fn merge_maps(
    old: &Map<String, Value>,
    patch: &Map<String, Value>,
    schema: Option<&Structural>,
) -> Result<Map<String, Value>, ApiError> {
    match patch
        .get(DIRECTIVE)
        .map(|directive| directive.as_str().unwrap_or_default())
    {
        None | Some("merge") => {}
        Some("replace") => return Ok(without_directives(patch)),
        Some("delete") => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(other, patch)),
    }
    let mut out = old.clone();
    if let Some(kept) = patch.get(RETAIN_KEYS) {
        retain_keys(&mut out, patch, kept)?;
    }
    for (key, value) in patch {
        if key == DIRECTIVE || key == RETAIN_KEYS {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE) {
            delete_from(&mut out, field, value)?;
            continue;
        }
        if let Some(field) = key.strip_prefix(ORDER) {
            if !patch.contains_key(field) {
                let node = schema.and_then(|schema| schema.field(field));
                let reordered = reorder(
                    items(out.get(field)),
                    &[],
                    items(Some(value)),
                    node,
                    items(old.get(field)),
                )?;
                if out.contains_key(field) {
                    out.insert(field.to_owned(), Value::Array(reordered));
                }
            }
            continue;
        }
        let node = schema.and_then(|schema| schema.field(key));
        let order = patch.get(&format!("{ORDER}{key}"));
        match merge_field(out.get(key), value, node, order)? {
            Some(merged) => drop(out.insert(key.clone(), merged)),
            None => drop(out.shift_remove(key)),
        }
    }
    Ok(out)
}

fn unknown_directive(directive: &str, patch: &Map<String, Value>) -> ApiError {
    let shown = go_value(&Value::Object(patch.clone()));
    ApiError::plain_internal(format!("unknown patch type: {directive} in map: {shown}"))
}

fn items(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn merge_field(
    old: Option<&Value>,
    patch: &Value,
    node: Option<&Node>,
    order: Option<&Value>,
) -> Result<Option<Value>, ApiError> {
    let schema = node.map(Node::schema);
    Ok(match (old, patch) {
        (_, Value::Null) => None,
        (Some(Value::Object(old)), Value::Object(patch)) => {
            Some(Value::Object(merge_maps(old, patch, schema)?))
        }
        (_, Value::Object(patch)) => {
            // There is nothing to replace or delete, and then nothing is put there either.
            if matches!(
                patch.get(DIRECTIVE).and_then(Value::as_str),
                Some("replace" | "delete")
            ) {
                return Ok(None);
            }
            Some(Value::Object(merge_maps(&Map::new(), patch, schema)?))
        }
        (old, Value::Array(patch)) => {
            let is_merged = node.is_some_and(|node| node.patch.is_merged);
            let olds = if is_merged { items(old) } else { &[] };
            let merged = if is_merged {
                merge_lists(olds, patch, node)?
            } else {
                patch.iter().map(cleaned).collect()
            };
            if !is_merged {
                return Ok(Some(Value::Array(merged)));
            }
            let own: Vec<Value> = patch
                .iter()
                .filter(|item| item.get(DIRECTIVE).is_none())
                .cloned()
                .collect();
            // Without a wanted order the patch's own is the wanted one.
            let order = order.map_or(own.as_slice(), |order| items(Some(order)));
            Some(Value::Array(reorder(&merged, &own, order, node, olds)?))
        }
        (_, other) => Some(other.clone()),
    })
}

/// Fields that the patch does not list go; those it sets it must list.
fn retain_keys(
    out: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    kept: &Value,
) -> Result<(), ApiError> {
    let malformed = || ApiError::bad_request("invalid patch format of retainKeys");
    let kept: Vec<&str> = kept
        .as_array()
        .ok_or_else(malformed)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let is_listed = |key: &String| key.starts_with('$') || kept.contains(&key.as_str());
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !is_listed(key))
    {
        return Err(malformed());
    }
    out.retain(|key, _| kept.contains(&key.as_str()));
    Ok(())
}

fn delete_from(out: &mut Map<String, Value>, field: &str, gone: &Value) -> Result<(), ApiError> {
    let gone = gone
        .as_array()
        .ok_or_else(|| ApiError::bad_request("invalid patch format of primitive list"))?;
    if let Some(Value::Array(list)) = out.get_mut(field) {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn merge_key(hints: Option<&PatchHints>) -> Option<&str> {
    hints.and_then(|hints| hints.merge_key.as_deref())
}

fn merge_lists(
    olds: &[Value],
    patch: &[Value],
    node: Option<&Node>,
) -> Result<Vec<Value>, ApiError> {
    if !patch.iter().any(Value::is_object) {
        let mut out = olds.to_vec();
        for item in patch {
            if !out.contains(item) {
                out.push(item.clone());
            }
        }
        return Ok(out);
    }
    let is_replacing =
        |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("replace");
    if patch.iter().any(is_replacing) {
        return Ok(patch
            .iter()
            .filter(|item| !is_replacing(item))
            .map(cleaned)
            .collect());
    }
    let Some(key) = merge_key(node.map(|node| &node.patch)) else {
        return Ok(patch.iter().map(cleaned).collect());
    };
    let schema = node
        .and_then(|node| node.schema().items.as_ref())
        .map(Node::schema);
    let mut out = olds.to_vec();
    for item in patch {
        let Value::Object(fields) = item else {
            continue;
        };
        let Some(identity) = fields.get(key) else {
            let shown = go_value(item);
            return Err(ApiError::plain_internal(format!(
                "map: {shown} does not contain declared merge key: {key}"
            )));
        };
        let is_same = |one: &Value| one.get(key) == Some(identity);
        match fields
            .get(DIRECTIVE)
            .map(|directive| directive.as_str().unwrap_or_default())
        {
            Some("delete") => {
                out.retain(|one| !is_same(one));
                continue;
            }
            None | Some("merge") => {}
            Some(other) => return Err(unknown_directive(other, fields)),
        }
        match out.iter_mut().find(|one| is_same(one)) {
            Some(Value::Object(old)) => *old = merge_maps(old, fields, schema)?,
            Some(other) => *other = item.clone(),
            None => out.push(Value::Object(merge_maps(&Map::new(), fields, schema)?)),
        }
    }
    Ok(out)
}

/// Puts merged items in the wanted order; those it does not name keep their place among the live ones.
fn reorder(
    merged: &[Value],
    patch: &[Value],
    order: &[Value],
    node: Option<&Node>,
    live: &[Value],
) -> Result<Vec<Value>, ApiError> {
    let key = merge_key(node.map(|node| &node.patch));
    let identity =
        |item: &Value| key.map_or_else(|| Some(item.clone()), |key| item.get(key).cloned());
    let wanted: Vec<Option<Value>> = order.iter().map(identity).collect();
    let place = |item: &Value| wanted.iter().position(|one| *one == identity(item));
    let is_kept = |item: &&Value| item.get(DIRECTIVE).and_then(Value::as_str) != Some("delete");
    let places: Vec<Option<usize>> = patch.iter().filter(is_kept).map(place).collect();
    let is_ordered = places.iter().all(Option::is_some) && places.is_sorted();
    if !is_ordered {
        let (patch, order) = (
            go_value(&Value::Array(patch.to_vec())),
            go_value(&Value::Array(order.to_vec())),
        );
        return Err(ApiError::plain_internal(format!(
            "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
        )));
    }
    let (mut named, others): (Vec<&Value>, Vec<&Value>) =
        merged.iter().partition(|item| place(item).is_some());
    named.sort_by_key(|item| place(item));
    let was = |item: &Value| live.iter().position(|one| identity(one) == identity(item));
    let mut out = Vec::with_capacity(merged.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (others.peek(), named.peek()) {
        let is_before =
            matches!((was(left), was(right)), (Some(left), Some(right)) if left < right);
        out.extend(
            if is_before {
                others.next()
            } else {
                named.next()
            }
            .cloned(),
        );
    }
    out.extend(others.chain(named).cloned());
    Ok(out)
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let own = patch
        .iter()
        .filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    own.map(|(key, value)| (key.clone(), cleaned(value)))
        .collect()
}

/// A new value as the patch gives it, without directives and nulls.
fn cleaned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(without_directives(fields)),
        Value::Array(items) => Value::Array(items.iter().map(cleaned).collect()),
        other => other.clone(),
    }
}
