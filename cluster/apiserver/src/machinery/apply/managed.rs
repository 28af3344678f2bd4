//! `metadata.managedFields`: its entries, in and out.

use serde_json::{Map, Value, json};

use super::compare::Comparison;
use super::fieldset::FieldSet;
use super::{Conflict, Write, entry_name};

/// How a manager came by its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// The fields of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: Option<String>,
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

impl Entry {
    pub(super) fn new(write: &Write<'_>, operation: Operation, fields: FieldSet) -> Self {
        Self {
            manager: write.manager.to_owned(),
            operation,
            api_version: write.api_version.to_owned(),
            subresource: write.subresource.map(str::to_owned),
            time: None,
            fields,
        }
    }

    fn decode(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let operation = match text("operation")? {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("fieldsType")? != "FieldsV1" {
            return None;
        }
        let fields = value
            .get("fieldsV1")
            .map_or_else(|| Some(FieldSet::default()), FieldSet::decode)?;
        Some(Self {
            manager: text("manager").unwrap_or_default().to_owned(),
            operation,
            api_version: text("apiVersion").unwrap_or_default().to_owned(),
            subresource: text("subresource")
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            time: text("time").map(str::to_owned),
            fields,
        })
    }

    fn encode(&self) -> Value {
        let operation = if self.operation == Operation::Apply {
            "Apply"
        } else {
            "Update"
        };
        let mut out = Map::new();
        out.insert("manager".to_owned(), json!(self.manager));
        out.insert("operation".to_owned(), json!(operation));
        out.insert("apiVersion".to_owned(), json!(self.api_version));
        if let Some(time) = &self.time {
            out.insert("time".to_owned(), json!(time));
        }
        out.insert("fieldsType".to_owned(), json!("FieldsV1"));
        out.insert("fieldsV1".to_owned(), self.fields.encode());
        if let Some(subresource) = &self.subresource {
            out.insert("subresource".to_owned(), json!(subresource));
        }
        Value::Object(out)
    }

    pub(super) fn is_applied_by(&self, manager: &str, subresource: Option<&str>) -> bool {
        self.operation == Operation::Apply
            && self.manager == manager
            && self.subresource.as_deref() == subresource
    }

    /// Whether two updates are by the same manager in the same way.
    fn is_like(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && self.api_version == other.api_version
    }
}

/// All entries of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Managed {
    pub(super) entries: Vec<Entry>,
}

/// How many updating managers are told apart.
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

impl Managed {
    /// Reads an object's entries; `None` when one cannot be understood.
    pub(super) fn decode(object: &Value) -> Option<Self> {
        let Some(entries) = object
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array)
        else {
            return Some(Self::default());
        };
        let entries = entries
            .iter()
            .map(Entry::decode)
            .collect::<Option<Vec<_>>>()?;
        Some(Self { entries })
    }

    /// Writes the entries into an object, sorted as the real server sorts them.
    pub(super) fn encode(mut self, object: &mut Value) {
        self.entries
            .sort_by(|left, right| key(left).cmp(&key(right)));
        let Some(metadata) = object
            .as_object_mut()
            .map(|object| object.entry("metadata").or_insert_with(|| json!({})))
        else {
            return;
        };
        let Some(metadata) = metadata.as_object_mut() else {
            return;
        };
        if self.entries.is_empty() {
            metadata.shift_remove("managedFields");
        } else {
            let entries = self.entries.iter().map(Entry::encode).collect();
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn applied(&self, manager: &str, subresource: Option<&str>) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.is_applied_by(manager, subresource))
    }

    /// Puts an applier's entry in place of its last one, whose time is returned.
    pub(super) fn put_applied(&mut self, entry: Entry) -> Option<String> {
        let same = |one: &Entry| one.is_applied_by(&entry.manager, entry.subresource.as_deref());
        let time = self
            .entries
            .iter()
            .find(|one| same(one))
            .and_then(|one| one.time.clone());
        self.entries.retain(|one| !same(one));
        self.entries.push(entry);
        time
    }

    /// Adds fields to an updater's entry.
    pub(super) fn add_updated(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|one| one.is_like(&entry)) {
            Some(one) => {
                one.fields = one.fields.union(&entry.fields);
                one.time = entry.time;
            }
            None => self.entries.push(entry),
        }
    }

    pub(super) fn all_fields(&self) -> FieldSet {
        self.entries
            .iter()
            .fold(FieldSet::default(), |all, entry| all.union(&entry.fields))
    }

    /// What others own of what an apply would change.
    pub(super) fn conflicts(&self, changes: &Comparison, write: &Write<'_>) -> Vec<Conflict> {
        let touched = changes.modified.union(&changes.added);
        let mut out = Vec::new();
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|left, right| left.manager.cmp(&right.manager));
        for entry in entries {
            if entry.is_applied_by(write.manager, write.subresource) {
                continue;
            }
            let name = entry_name(entry);
            let contested = entry.fields.intersection(&touched).display();
            out.extend(contested.into_iter().map(|path| (name.clone(), path)));
        }
        out
    }

    /// The fields that others own of what an apply would change.
    pub(super) fn contested(&self, changes: &Comparison, write: &Write<'_>) -> FieldSet {
        let touched = changes.modified.union(&changes.added);
        let others = self.entries.iter();
        others
            .filter(|entry| !entry.is_applied_by(write.manager, write.subresource))
            .fold(FieldSet::default(), |all, entry| {
                all.union(&entry.fields.intersection(&touched))
            })
    }

    /// Takes changed fields from all entries but the applier's, and removed ones from all.
    pub(super) fn yield_changes(
        &mut self,
        changes: &Comparison,
        applier: Option<(&str, Option<&str>)>,
    ) {
        let touched = changes.modified.union(&changes.added);
        for entry in &mut self.entries {
            if applier
                .is_some_and(|(manager, subresource)| entry.is_applied_by(manager, subresource))
            {
                continue;
            }
            entry.fields = entry
                .fields
                .difference(&touched)
                .difference(&changes.removed);
        }
    }

    /// Takes fields that nobody owns from all entries, and drops those that are left with none.
    pub(super) fn strip(&mut self, fields: &FieldSet) {
        for entry in &mut self.entries {
            entry.fields.strip(fields);
        }
        self.entries.retain(|entry| !entry.fields.is_empty());
    }

    /// Sets the time of an applier's entry.
    pub(super) fn stamp(&mut self, write: &Write<'_>, time: Option<String>) {
        let mine = self
            .entries
            .iter_mut()
            .find(|entry| entry.is_applied_by(write.manager, write.subresource));
        if let Some(mine) = mine {
            mine.time = time;
        }
    }

    /// Joins the oldest updaters where there are too many to tell apart.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<(Option<String>, usize)> = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if entry.operation == Operation::Update && entry.subresource.is_none() {
                updaters.push((entry.time.clone(), at));
            }
        }
        if updaters.len() <= UPDATERS_MAX {
            return;
        }
        updaters.sort();
        let surplus: Vec<usize> = updaters
            .iter()
            .take(updaters.len() - UPDATERS_MAX + 1)
            .map(|(_, at)| *at)
            .collect();
        let (mut kept, mut joined): (Vec<Entry>, Option<Entry>) = (Vec::new(), None);
        for (at, entry) in std::mem::take(&mut self.entries).into_iter().enumerate() {
            if !surplus.contains(&at) {
                kept.push(entry);
                continue;
            }
            joined = Some(match joined {
                None => Entry {
                    manager: ANCIENT.to_owned(),
                    ..entry
                },
                Some(all) => Entry {
                    fields: all.fields.union(&entry.fields),
                    time: all.time.max(entry.time),
                    ..all
                },
            });
        }
        kept.extend(joined);
        self.entries = kept;
    }
}

fn key(entry: &Entry) -> (Operation, &str, &str, &str, Option<&str>) {
    let time = entry.time.as_deref().unwrap_or_default();
    (
        entry.operation,
        time,
        &entry.manager,
        &entry.api_version,
        entry.subresource.as_deref(),
    )
}

/// Whether a client asks to forget all owners: one empty entry.
pub(super) fn is_reset(object: &Value) -> bool {
    let entries = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    matches!(entries.map(Vec::as_slice), Some([Value::Object(only)]) if only.is_empty())
}

/// Whether two states of an object are equal but for the times of their entries.
pub(super) fn differs_only_in_times(old: &Value, new: &Value) -> bool {
    let timeless = |object: &Value| {
        let mut out = object.clone();
        let entries = out
            .pointer_mut("/metadata/managedFields")
            .and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.shift_remove("time");
            }
        }
        out
    };
    old != new && timeless(old) == timeless(new)
}
