//! Ownership of the one field that the scale subresource shows: its owners are its parent's owners.

use serde_json::{Value, json};

use super::fieldset::{FieldSet, Step};
use super::managed::{Entry, Managed, Operation};
use super::{Write, without_managed_fields};

fn replicas(path: &str) -> Vec<Step> {
    path.split('.')
        .filter(|part| !part.is_empty())
        .map(|part| Step::Field(part.to_owned()))
        .collect()
}

fn only(path: &[Step]) -> FieldSet {
    let mut set = FieldSet::default();
    set.insert(path);
    set
}

/// The `managedFields` of the scale of an object: the entries that own its replica count.
pub fn scale_entries(parent: &Value, replicas_path: &str) -> Value {
    let mine = only(&replicas(replicas_path));
    let mut managed = Managed::decode(parent).unwrap_or_default();
    managed
        .entries
        .retain(|entry| !entry.fields.intersection(&mine).is_empty());
    for entry in &mut managed.entries {
        entry.api_version = "autoscaling/v1".to_owned();
        entry.fields = only(&replicas(".spec.replicas"));
    }
    let mut holder = json!({});
    managed.encode(&mut holder);
    holder
        .pointer("/metadata/managedFields")
        .cloned()
        .unwrap_or(Value::Null)
}

/// An object whose replica count was written through its scale: the count has a new owner.
pub fn scale_to_parent(old: &Value, new: &Value, replicas_path: &str, write: &Write<'_>) -> Value {
    let path = replicas_path
        .split('.')
        .filter(|part| !part.is_empty())
        .fold(String::new(), |all, part| format!("{all}/{part}"));
    if old.pointer(&path) == new.pointer(&path) {
        return new.clone();
    }
    let mut managed = Managed::decode(old).unwrap_or_default();
    let mine = only(&replicas(replicas_path));
    for entry in &mut managed.entries {
        entry.fields.strip(&mine);
    }
    managed.entries.retain(|entry| !entry.fields.is_empty());
    let write = Write {
        subresource: Some("scale"),
        ..*write
    };
    // The real server gives these entries no time.
    managed.add_updated(Entry::new(&write, Operation::Update, mine));
    let mut out = without_managed_fields(new);
    managed.encode(&mut out);
    out
}
