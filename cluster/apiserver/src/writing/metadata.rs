//! Metadata that every object has: its rules, and what an update may not change.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use crate::status::{Cause, quoted};

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
    for (name, value) in metadata["labels"].as_object().into_iter().flatten() {
        check_key("metadata.labels", name, &mut causes);
        let value = value.as_str().unwrap_or_default();
        if value.len() > 63 {
            causes.push(Cause::invalid(
                "metadata.labels",
                &json!(value),
                "must be no more than 63 bytes",
            ));
        } else if LABEL_VALUE
            .as_ref()
            .is_some_and(|rule| !rule.is_match(value))
        {
            causes.push(Cause::invalid(
                "metadata.labels",
                &json!(value),
                LABEL_VALUE_TEXT,
            ));
        }
    }
    let mut annotation_bytes = 0;
    for (name, value) in metadata["annotations"].as_object().into_iter().flatten() {
        check_key("metadata.annotations", &name.to_lowercase(), &mut causes);
        annotation_bytes += name.len() + value.as_str().map_or(0, str::len);
    }
    if annotation_bytes > ANNOTATION_BYTES_MAX {
        causes.push(Cause::too_long(
            "metadata.annotations",
            &format!("may not be more than {ANNOTATION_BYTES_MAX} bytes"),
        ));
    }
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                causes.push(Cause::invalid(
                    format!("metadata.ownerReferences.{field}"),
                    &json!(""),
                    "must not be empty",
                ));
            }
        }
    }
    let controllers = metadata["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|owner| owner["controller"] == true);
    if controllers.count() > 1 {
        let why = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid(
            "metadata.ownerReferences",
            &metadata["ownerReferences"],
            why,
        ));
    }
    for (index, finalizer) in metadata["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let name = finalizer.as_str().unwrap_or_default();
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) && !name.ends_with(".k8s.io")
        {
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
