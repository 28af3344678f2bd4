//! Metadata that every object has: its rules, and what an update may not change.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use crate::status::{Cause, quoted};
use crate::values::{list, text};

const ANNOTATION_BYTES_MAX: usize = 256 * 1024;
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_PART_TEXT: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PREFIX_TEXT: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

static LABEL_VALUE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$").ok());
static NAME_PART: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$").ok());
static PREFIX: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok()
});

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Faults of an object's metadata, but for its name.
pub(super) fn check(object: &Value) -> Vec<Cause> {
    let metadata = &object["metadata"];
    let mut causes = Vec::new();
    check_labels(&metadata["labels"], &mut causes);
    check_annotations(&metadata["annotations"], &mut causes);
    check_owners(&metadata["ownerReferences"], &mut causes);
    for (index, finalizer) in list(&metadata["finalizers"]).iter().enumerate() {
        let name = text(finalizer);
        let standard = STANDARD_FINALIZERS.contains(&name) || name.ends_with(".k8s.io");
        if !name.contains('/') && !standard {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(
                format!("metadata.finalizers[{index}]"),
                finalizer,
                why,
            ));
        }
    }
    causes
}

fn check_labels(labels: &Value, causes: &mut Vec<Cause>) {
    for (name, value) in labels.as_object().into_iter().flatten() {
        check_key("metadata.labels", name, causes);
        let fits = |rule: &Regex| rule.is_match(text(value));
        if text(value).len() > 63 {
            causes.push(Cause::invalid(
                "metadata.labels",
                value,
                "must be no more than 63 bytes",
            ));
        } else if !LABEL_VALUE.as_ref().is_none_or(fits) {
            causes.push(Cause::invalid("metadata.labels", value, LABEL_VALUE_TEXT));
        }
    }
}

fn check_annotations(annotations: &Value, causes: &mut Vec<Cause>) {
    let mut total = 0;
    for (name, value) in annotations.as_object().into_iter().flatten() {
        check_key("metadata.annotations", &name.to_lowercase(), causes);
        total += name.len() + text(value).len();
    }
    if total > ANNOTATION_BYTES_MAX {
        let why = format!("may not be more than {ANNOTATION_BYTES_MAX} bytes");
        causes.push(Cause::too_long("metadata.annotations", &why));
    }
}

fn check_owners(owners: &Value, causes: &mut Vec<Cause>) {
    for owner in list(owners) {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(&owner[field]).is_empty() {
                let path = format!("metadata.ownerReferences.{field}");
                causes.push(Cause::invalid(path, &json!(""), "must not be empty"));
            }
        }
    }
    if list(owners)
        .iter()
        .filter(|owner| owner["controller"] == true)
        .count()
        > 1
    {
        let why = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid("metadata.ownerReferences", owners, why));
    }
}

fn check_key(path: &str, key: &str, causes: &mut Vec<Cause>) {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let mut refuse = |why: &str| causes.push(Cause::invalid(path, &json!(key), why));
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            refuse("prefix part must be non-empty");
        } else if PREFIX.as_ref().is_some_and(|rule| !rule.is_match(prefix)) {
            refuse(PREFIX_TEXT);
        }
    }
    if name.is_empty() {
        refuse("name part must be non-empty");
    } else if name.len() > 63 {
        refuse("name part must be no more than 63 bytes");
    }
    if NAME_PART.as_ref().is_some_and(|rule| !rule.is_match(name)) {
        refuse(NAME_PART_TEXT);
    }
}

/// Faults of a change of metadata.
pub(super) fn check_update(old: &Value, new: &Value) -> Vec<Cause> {
    let (before, after) = (&old["metadata"], &new["metadata"]);
    let mut causes = check(new);
    let known = check(old);
    causes.retain(|cause| !known.contains(cause));
    if before.get("deletionTimestamp").is_some() {
        let had = before["finalizers"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let added: Vec<String> = after["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|finalizer| !had.contains(finalizer))
            .map(|finalizer| quoted(finalizer.as_str().unwrap_or_default()))
            .collect();
        if !added.is_empty() {
            let list = added.join(", ");
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            );
            // The real server finds this fault on two ways.
            causes.push(Cause::forbidden("metadata.finalizers", &why));
            if !is_built_in(new) {
                causes.push(Cause::forbidden("metadata.finalizers", &why));
            }
        }
    }
    causes
}

fn is_built_in(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    !group.contains('.') || group.ends_with(".k8s.io")
}
