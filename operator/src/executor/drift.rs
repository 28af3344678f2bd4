//! Whether a child is as wanted already.
//!
//! First by fields: everything that is wanted stands in the object as it is. Where the API server writes a value in
//! another form (a quantity, say), the answer to the last write is remembered: an object that has not changed since,
//! apart from its status, needs no other write of the same content.

use serde_json::Value;

/// What was wanted and what came of it, at the last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    wanted: String,
    result: String,
}

impl Fingerprint {
    pub(crate) fn new(wanted: &Value, result: &Value) -> Self {
        Self {
            wanted: protocol::snapshot::content_hash(wanted),
            result: protocol::snapshot::content_hash(&essence(result)),
        }
    }
}

/// Whether a write of `wanted` would change nothing about `current`.
pub(crate) fn is_as_wanted(wanted: &Value, current: &Value, last: Option<&Fingerprint>) -> bool {
    if current.pointer("/metadata/deletionTimestamp").is_some() {
        // What goes away is made anew when it is gone.
        return true;
    }
    contains(current, wanted) || last.is_some_and(|last| *last == Fingerprint::new(wanted, current))
}

/// Whether all of `part` stands in `whole`; lists must have the same length.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| match whole.get(key) {
                Some(whole) => contains(whole, part),
                // The API server leaves out what is empty.
                None => is_empty(part),
            })
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len()
                && whole
                    .iter()
                    .zip(part)
                    .all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The object without what changes by itself.
fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        map.remove("apiVersion");
        map.remove("kind");
    }
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation"] {
            meta.remove(field);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Fingerprint, is_as_wanted};

    #[track_caller]
    fn check(wanted: &Value, current: &Value, expected: bool) {
        assert_eq!(
            is_as_wanted(wanted, current, None),
            expected,
            "{wanted} in {current}"
        );
    }

    #[test]
    fn defaults_are_no_drift_and_changes_are() {
        let wanted = json!({"spec": {"replicas": 1, "containers": [{"name": "a"}], "empty": {}}});
        check(
            &wanted,
            &json!({"spec": {"replicas": 1, "containers": [{"name": "a", "pull": "Always"}], "x": 1}}),
            true,
        );
        check(
            &wanted,
            &json!({"spec": {"replicas": 2, "containers": [{"name": "a"}]}}),
            false,
        );
        check(
            &wanted,
            &json!({"spec": {"replicas": 1, "containers": [{"name": "a"}, {"name": "b"}]}}),
            false,
        );
        check(
            &wanted,
            &json!({"spec": {"containers": [{"name": "a"}]}}),
            false,
        );
    }

    #[test]
    fn an_object_on_its_way_out_is_left_alone() {
        let current = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 2}});
        check(&json!({"spec": {"replicas": 1}}), &current, true);
    }

    #[test]
    fn a_value_in_another_form_is_written_once() {
        let wanted = json!({"spec": {"cpu": "1000m"}});
        let result = json!({"metadata": {"resourceVersion": "7"}, "spec": {"cpu": "1"}, "status": {"ready": 0}});
        let last = Fingerprint::new(&wanted, &result);
        let later = json!({"metadata": {"resourceVersion": "9"}, "spec": {"cpu": "1"}, "status": {"ready": 1}});
        assert!(is_as_wanted(&wanted, &later, Some(&last)));
        let edited = json!({"metadata": {"resourceVersion": "9"}, "spec": {"cpu": "2"}});
        assert!(!is_as_wanted(&wanted, &edited, Some(&last)));
        assert!(!is_as_wanted(
            &json!({"spec": {"cpu": "2000m"}}),
            &later,
            Some(&last)
        ));
    }
}
