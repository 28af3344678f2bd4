//! Uniqueness of the items of sets and of lists that are maps.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Additional, ListType, Structural, child, index};
use crate::status::Cause;

impl Structural {
    /// A cause per item that occurs twice.
    pub(super) fn check_lists(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let node = self.properties.get(name).or(match &self.additional {
                        Additional::Schema(node) => Some(node),
                        Additional::None | Additional::Any => None,
                    });
                    if let Some(node) = node {
                        node.schema().check_lists(field, &child(path, name), causes);
                    }
                }
            }
            Value::Array(items) => {
                self.check_items(items, path, causes);
                let Some(node) = &self.items else { return };
                for (at, item) in items.iter().enumerate() {
                    node.schema().check_lists(item, &index(path, at), causes);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn check_items(&self, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
        let mut seen = HashSet::new();
        for (at, item) in items.iter().enumerate() {
            let Some(identity) = self.identity(item) else {
                continue;
            };
            if !seen.insert(canonical(&identity)) {
                causes.push(Cause::duplicate(index(path, at), &identity));
            }
        }
    }

    /// What tells an item of this list from others; `None` when the list is atomic.
    fn identity(&self, item: &Value) -> Option<Value> {
        match &self.list_type {
            ListType::Atomic => None,
            ListType::Set => Some(item.clone()),
            ListType::Map(keys) => {
                let fields = item.as_object()?;
                let mut out = Map::new();
                for key in keys {
                    if let Some(value) = fields.get(key) {
                        out.insert(key.clone(), value.clone());
                    }
                }
                out.sort_keys();
                Some(Value::Object(out))
            }
        }
    }
}

/// A text that is equal for equal values.
pub(super) fn canonical(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    sorted.to_string()
}
