//! The way from client-side to server-side apply: kubectl may take over what its annotation says that it applied.

use serde_json::{Value, json};

use super::compare::{Comparison, compare};
use super::managed::Managed;
use super::shape::Type;
use super::toset::to_set;
use super::{Write, system_fields};

/// The manager that server-side `kubectl apply` writes as.
pub(super) const MANAGER: &str = "kubectl";
/// Where client-side `kubectl apply` keeps what it applied.
pub(super) const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn annotation(object: &Value) -> Option<&str> {
    let annotations = object.pointer("/metadata/annotations")?;
    annotations
        .get(ANNOTATION)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// Whether everything that an apply contests was applied by kubectl before, and is as it was applied.
pub(super) fn allows(
    live: &Value,
    managed: &Managed,
    changes: &Comparison,
    write: &Write<'_>,
) -> bool {
    let applied = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(applied) = applied.filter(|_| write.manager == MANAGER) else {
        return false;
    };
    let kind = Type::Known(write.schema);
    let since = compare(&applied, live, kind);
    let untouched = to_set(&applied, kind)
        .difference(&since.modified)
        .difference(&since.added)
        .difference(&since.removed);
    let contested = managed
        .contested(changes, write)
        .difference(&system_fields());
    contested.difference(&untouched).is_empty()
}

/// Brings an existing annotation up to date with what is applied now.
pub(super) fn refresh(object: &mut Value, applied: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = applied
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.shift_remove(ANNOTATION);
    }
    if let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.insert(ANNOTATION.to_owned(), json!(format!("{applied}\n")));
    }
}
