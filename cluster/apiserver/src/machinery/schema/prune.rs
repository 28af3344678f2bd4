//! Pruning: what no schema declares is dropped, and named.

use serde_json::Value;

use super::{Additional, Structural, child, index};

impl Structural {
    /// Drops undeclared fields and returns a sentence per dropped field: `unknown field "spec.bogus"`.
    pub fn prune(&self, value: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        self.prune_at(value, "", &mut dropped);
        dropped.sort_unstable();
        dropped
            .into_iter()
            .map(|path| format!("unknown field \"{path}\""))
            .collect()
    }

    fn prune_at(&self, value: &mut Value, path: &str, dropped: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, field| {
                    let at = child(path, name);
                    if let Some(node) = self.properties.get(name) {
                        node.schema().prune_at(field, &at, dropped);
                        return true;
                    }
                    match &self.additional {
                        Additional::Schema(node) => node.schema().prune_at(field, &at, dropped),
                        Additional::Any => {}
                        Additional::None if self.preserves_unknown || self.is_scalar() => {}
                        Additional::None => {
                            dropped.push(at);
                            return false;
                        }
                    }
                    true
                });
            }
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                for (at, item) in items.iter_mut().enumerate() {
                    node.schema().prune_at(item, &index(path, at), dropped);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// An object where a scalar is declared is validation's business, not pruning's.
    fn is_scalar(&self) -> bool {
        use super::Kind;
        match self.kind {
            Some(Kind::Object) => false,
            Some(Kind::Array | Kind::String | Kind::Integer | Kind::Number | Kind::Boolean) => true,
            None => self.properties.is_empty(),
        }
    }
}
