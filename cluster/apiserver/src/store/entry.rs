//! What lies on a shelf: an object as bytes with a light index, and what happened to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// One stored object: its JSON, its revision and its labels.
#[derive(Debug)]
pub struct Entry {
    /// The revision of its last change.
    pub revision: u64,
    /// The JSON as clients get it.
    pub bytes: Bytes,
    /// Its labels, for selectors.
    pub labels: BTreeMap<String, String>,
}

/// Only the part of an object that the index needs.
#[derive(Deserialize)]
struct Indexed {
    #[serde(default)]
    metadata: IndexedMetadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct IndexedMetadata {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    resource_version: String,
}

impl Entry {
    /// Serialises `object` as of `revision`.
    pub(super) fn new(mut object: Value, revision: u64) -> Self {
        let mut labels = BTreeMap::new();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert(
                "resourceVersion".to_owned(),
                Value::String(revision.to_string()),
            );
            if let Some(found) = metadata.get("labels").and_then(Value::as_object) {
                let pairs = found
                    .iter()
                    .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
                labels = pairs.collect();
            }
        }
        Self {
            revision,
            bytes: Bytes::from(object.to_string()),
            labels,
        }
    }

    /// Reads an entry back from the database; nothing when the bytes are not an object.
    pub(super) fn load(bytes: &[u8]) -> Option<Self> {
        let Indexed { metadata } = serde_json::from_slice(bytes).ok()?;
        let revision = metadata.resource_version.parse().ok()?;
        Some(Self {
            revision,
            bytes: Bytes::copy_from_slice(bytes),
            labels: metadata.labels.unwrap_or_default(),
        })
    }

    /// The object as a value.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct Event {
    /// The revision of the change.
    pub revision: u64,
    /// What happened.
    pub kind: EventKind,
    /// The object's key on its shelf.
    pub key: Arc<str>,
    /// The state after the change; for a deletion the last state.
    pub entry: Arc<Entry>,
    /// The state before the change.
    pub previous: Option<Arc<Entry>>,
}
