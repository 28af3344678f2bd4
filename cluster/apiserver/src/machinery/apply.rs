//! Server-side apply: who owns which field, and what an apply or an update does about it.
//!
//! An apply merges what it says into the live object, takes back what its manager said last time and no longer says, and
//! conflicts where it would change what others own. Any other write only records which fields it changed.

mod check;
mod compare;
mod fieldset;
mod last_applied;
mod managed;
mod merge;
mod remove;
mod scale;
mod shape;
mod toset;
mod zero;

use serde_json::{Map, Value, json};

use self::compare::{Comparison, compare};
use self::fieldset::FieldSet;
use self::managed::{Entry, Managed, Operation};
use self::remove::Emptied;
use self::shape::Type;
use super::schema::Structural;
use crate::status::{ApiError, Cause, quoted};

pub use self::scale::{scale_entries, scale_to_parent};

/// A write and its author.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Schema of the whole object.
    pub schema: &'a Structural,
    /// Name of the field manager.
    pub manager: &'a str,
    /// `group/version` of the request.
    pub api_version: &'a str,
    /// Subresource written through.
    pub subresource: Option<&'a str>,
    /// Take fields from other managers (apply only).
    pub force: bool,
    /// The time, as it is to stand in `managedFields`.
    pub now: &'a str,
    /// Top-level fields that this endpoint ignores: `status` on the main resource, `spec` on the status subresource.
    pub reset: &'a [&'a str],
}

/// Fields that nobody owns.
const SYSTEM_FIELDS: [&[&str]; 11] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Applies a configuration to the live object (or to none).
///
/// The result has its `managedFields`, but neither defaults nor validation; it equals `live` when nothing changed.
///
/// # Errors
/// 409 with a cause per field that another manager owns; 500, as the real server answers, when the configuration does not fit
/// the schema; 400 when it carries `managedFields`.
pub fn apply(live: Option<&Value>, applied: &Value, write: &Write<'_>) -> Result<Value, ApiError> {
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    if let Err(faults) = check::check(applied, write.schema) {
        let what = object_name(applied);
        return Err(ApiError::plain_internal(format!(
            "failed to create typed patch object ({what}): {faults}"
        )));
    }
    let kind = Type::Known(write.schema);
    let mut managed = live
        .map(|live| Managed::decode(live).unwrap_or_default())
        .unwrap_or_default();
    let before = match live {
        Some(live) => without_managed_fields(live),
        None => zero::object(applied, write.schema),
    };
    if managed.is_empty() && live.is_some() {
        let first = Write {
            manager: BEFORE_FIRST_APPLY,
            subresource: None,
            ..*write
        };
        record(
            &mut managed,
            &zero::object(&before, write.schema),
            &before,
            &first,
        );
    }
    let mut merged = merge::merge(&before, applied, kind);
    let last = managed
        .applied(write.manager, write.subresource)
        .map(|entry| entry.fields.clone());
    let claimed = toset::to_set(applied, kind).without_top_level(write.reset);
    let mine = Entry::new(write, Operation::Apply, claimed);
    let time = managed.put_applied(mine);
    if let Some(last) = last.filter(|last| !last.is_empty()) {
        merged = prune(&merged, &managed, &last, kind);
    }
    let changes = compare(&before, &merged, kind).filtered(write.reset);
    let conflicts = managed.conflicts(&changes, write);
    let is_forced = write.force || last_applied::allows(&before, &managed, &changes, write);
    if !is_forced && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    managed.yield_changes(&changes, Some((write.manager, write.subresource)));
    managed.strip(&system_fields());
    let has_changed = merged != before;
    let mut result = if has_changed { merged } else { before };
    if write.manager == last_applied::MANAGER {
        last_applied::refresh(&mut result, applied);
    }
    managed.stamp(
        write,
        if has_changed {
            Some(write.now.to_owned())
        } else {
            time
        },
    );
    normalize_metadata(&mut result);
    managed.encode(&mut result);
    Ok(result)
}

/// Records in `new` which fields a create, update or patch changed.
pub fn track_update(old: Option<&Value>, new: Value, write: &Write<'_>) -> Value {
    let mut new = new;
    normalize_metadata(&mut new);
    let from_live = || {
        old.map(|old| Managed::decode(old).unwrap_or_default())
            .unwrap_or_default()
    };
    let mut managed = if managed::is_reset(&new) {
        Managed::default()
    } else if write.subresource.is_some() {
        from_live()
    } else {
        Managed::decode(&new)
            .filter(|managed| !managed.is_empty())
            .unwrap_or_else(from_live)
    };
    let after = without_managed_fields(&new);
    let before = match old {
        Some(old) => without_managed_fields(old),
        None => zero::object(&after, write.schema),
    };
    // Nobody's fields stay nobody's: an object is tracked from its creation or its first apply on.
    if old.is_none() || !managed.is_empty() {
        record(&mut managed, &before, &after, write);
    }
    managed.cap();
    let mut result = after;
    managed.encode(&mut result);
    match old {
        Some(old) if managed::differs_only_in_times(old, &result) => old_entries(old, result),
        _ => result,
    }
}

/// Notes the difference of two states as an update by a manager.
fn record(managed: &mut Managed, before: &Value, after: &Value, write: &Write<'_>) {
    let changes = compare(before, after, Type::Known(write.schema)).filtered(write.reset);
    managed.yield_changes(&changes, None);
    let mut fields = changes.added.union(&changes.modified);
    fields.strip(&system_fields());
    if !fields.is_empty() {
        let mut entry = Entry::new(write, Operation::Update, fields);
        entry.time = Some(write.now.to_owned());
        managed.add_updated(entry);
    }
    managed.strip(&system_fields());
}

/// Takes back what the manager applied last time and does not now, unless another manager owns it.
fn prune(merged: &Value, managed: &Managed, last: &FieldSet, kind: Type<'_>) -> Value {
    let named = |set: &FieldSet| set.with_named_fields(kind);
    let last = named(last);
    let pruned = remove::remove(merged, &last, kind, Emptied::Stays);
    let everything = named(&toset::to_set(merged, kind));
    let owned = named(&managed.all_fields());
    let kept = named(&toset::to_set(&pruned, kind)).union(&owned);
    let unowned = everything.difference(&kept);
    let with_owned = remove::remove(merged, &unowned, kind, Emptied::Stays);
    let remaining = named(&toset::to_set(&with_owned, kind));
    remove::remove(
        merged,
        &everything.difference(&remaining).intersection(&last),
        kind,
        Emptied::Goes,
    )
}

fn system_fields() -> FieldSet {
    let mut set = FieldSet::default();
    for path in SYSTEM_FIELDS {
        set.insert_fields(path);
    }
    set
}

fn object_name(object: &Value) -> String {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let api_version = text("/apiVersion");
    // Go prints the empty group of the core kinds, too.
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!(
        "{namespace}/{name}; {slash}{api_version}, Kind={}",
        text("/kind")
    )
}

fn without_managed_fields(object: &Value) -> Value {
    let mut out = object.clone();
    if let Some(metadata) = out.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    out
}

fn old_entries(old: &Value, mut new: Value) -> Value {
    let entries = old.pointer("/metadata/managedFields");
    if let (Some(entries), Some(metadata)) = (
        entries,
        new.get_mut("metadata").and_then(Value::as_object_mut),
    ) {
        metadata.insert("managedFields".to_owned(), entries.clone());
    }
    new
}

/// Empty labels, annotations, finalizers and owners are no different from none.
pub fn normalize_metadata(object: &mut Value) {
    const EMPTIED: [&str; 7] = [
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "generateName",
        "selfLink",
        "namespace",
    ];
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    metadata.retain(|name, value| !(EMPTIED.contains(&name.as_str()) && is_empty(value)));
}

/// One contested field: the entry that owns it and its path.
type Conflict = (String, String);

/// The 409 that lists contested fields.
fn conflict(conflicts: &[Conflict]) -> ApiError {
    let causes: Vec<Cause> = conflicts
        .iter()
        .map(|(manager, path)| Cause {
            reason: "FieldManagerConflict",
            message: format!("conflict with {manager}"),
            field: path.clone(),
        })
        .collect();
    if let [(manager, path)] = conflicts {
        let message = format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
        return ApiError::apply_conflict(message, causes);
    }
    let mut by_manager: std::collections::BTreeMap<&str, Vec<&str>> =
        std::collections::BTreeMap::new();
    for (manager, path) in conflicts {
        by_manager.entry(manager).or_default().push(path);
    }
    let mut lines = Vec::new();
    for (manager, paths) in by_manager {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(paths.into_iter().map(|path| format!("- {path}")));
    }
    ApiError::apply_conflict(
        format!(
            "Apply failed with {} conflicts: {}",
            conflicts.len(),
            lines.join("\n")
        ),
        causes,
    )
}

/// How an entry is named in conflicts.
fn entry_name(entry: &Entry) -> String {
    let mut name = quoted(&entry.manager);
    if let Some(subresource) = &entry.subresource {
        name.push_str(&format!(" with subresource {}", quoted(subresource)));
    }
    if entry.operation == Operation::Update {
        name.push_str(&format!(" using {}", entry.api_version));
    }
    name
}

impl Comparison {
    fn filtered(self, reset: &[&str]) -> Self {
        Self {
            added: self.added.without_top_level(reset),
            modified: self.modified.without_top_level(reset),
            removed: self.removed.without_top_level(reset),
        }
    }
}

/// An empty object of the kind of another.
fn bare(object: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    for key in ["apiVersion", "kind"] {
        out.insert(
            key.to_owned(),
            object.get(key).cloned().unwrap_or_else(|| json!("")),
        );
    }
    out
}

#[cfg(test)]
mod tests;
