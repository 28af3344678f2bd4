//! The versions of a definition: their names, schemas, columns and scale subresources.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{is_label, text};
use crate::machinery::jsonpath::JsonPath;
use crate::machinery::schema::check_crd_schema;
use crate::status::Cause;

/// The faults of all versions.
pub(super) fn check_versions(versions: &[Value], causes: &mut Vec<Cause>) {
    if versions.is_empty() {
        causes.push(Cause::required("spec.versions", ""));
    }
    check_names(versions, causes);
    check_schemas(versions, causes);
    for (version, path) in places(versions, "additionalPrinterColumns") {
        check_columns(version, &path, causes);
    }
    for (version, path) in places(versions, "subresources") {
        check_scale(version, &path, causes);
    }
    check_storage(versions, causes);
}

/// Where a part of versions stands: what is equal in all of them is kept, and complained about, once.
fn places<'a>(versions: &'a [Value], part: &str) -> Vec<(&'a Value, String)> {
    let first = versions.first().and_then(|version| version.get(part));
    if versions.iter().all(|version| version.get(part) == first) {
        return versions
            .first()
            .map(|version| (version, format!("spec.{part}")))
            .into_iter()
            .collect();
    }
    let each = versions.iter().enumerate();
    each.map(|(at, version)| (version, format!("spec.versions[{at}].{part}")))
        .collect()
}

fn check_names(versions: &[Value], causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (at, version) in versions.iter().enumerate() {
        let name = text(version, "name");
        if !is_label(name) {
            let detail = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                '[a-z]([-a-z0-9]*[a-z0-9])?')";
            causes.push(Cause::invalid(
                format!("spec.versions[{at}].name"),
                &json!(name),
                detail,
            ));
        }
        if !seen.insert(name) {
            let shown = Value::Array(versions.iter().map(go_version).collect());
            causes.push(Cause::invalid(
                "spec.versions",
                &shown,
                "must contain unique version names",
            ));
        }
    }
}

fn check_columns(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    let columns = version
        .get("additionalPrinterColumns")
        .and_then(Value::as_array);
    for (at, column) in columns.into_iter().flatten().enumerate() {
        let field = |name: &str| format!("{path}[{at}].{name}");
        if text(column, "name").is_empty() {
            causes.push(Cause::required(field("name"), ""));
        }
        let kind = text(column, "type");
        if kind.is_empty() {
            causes.push(Cause::required(
                field("type"),
                &format!("must be one of {}", TYPES.join(",")),
            ));
        } else if !TYPES.contains(&kind) {
            let detail = format!("must be one of {}", TYPES.join(","));
            causes.push(Cause::invalid(field("type"), &json!(kind), &detail));
        }
        let source = text(column, "jsonPath");
        if source.is_empty() {
            causes.push(Cause::required(field("jsonPath"), ""));
        } else if let Err(fault) = JsonPath::parse(source) {
            causes.push(Cause::invalid(
                field("jsonPath"),
                &json!(source),
                &format!("is invalid: {fault}"),
            ));
        }
    }
}

fn check_scale(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(scale) = version.pointer("/subresources/scale") else {
        return;
    };
    let paths = [
        ("specReplicasPath", ".spec."),
        ("statusReplicasPath", ".status."),
    ];
    for (key, prefix) in paths {
        let value = text(scale, key);
        let field = format!("{path}.scale.{key}");
        if value.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if !value.starts_with(prefix) {
            causes.push(Cause::invalid(
                field,
                &json!(value),
                &format!(
                    "should be a json path under {}",
                    prefix.trim_end_matches('.')
                ),
            ));
        }
    }
}

fn check_schemas(versions: &[Value], causes: &mut Vec<Cause>) {
    let schema = |version: &Value| {
        version
            .get("schema")
            .and_then(|schema| schema.get("openAPIV3Schema"))
            .cloned()
    };
    let mut schemas: Vec<Option<Value>> = versions.iter().map(schema).collect();
    let are_equal = schemas.windows(2).all(|pair| pair.first() == pair.last());
    if are_equal {
        // Equal schemas are kept, and complained about, once.
        schemas.truncate(1);
    }
    for (at, schema) in schemas.iter().enumerate() {
        let parent = if are_equal {
            "spec.validation".to_owned()
        } else {
            format!("spec.versions[{at}].schema")
        };
        match schema {
            Some(schema) => causes.extend(check_crd_schema(
                schema,
                &format!("{parent}.openAPIV3Schema"),
            )),
            None => causes.push(Cause::required(
                format!("spec.versions[{at}].schema.openAPIV3Schema"),
                "schemas are required",
            )),
        }
    }
}

fn check_storage(versions: &[Value], causes: &mut Vec<Cause>) {
    let storages = versions
        .iter()
        .filter(|version| version.get("storage") == Some(&Value::Bool(true)))
        .count();
    if storages != 1 {
        let shown = Value::Array(versions.iter().map(go_version).collect());
        causes.push(Cause::invalid(
            "spec.versions",
            &shown,
            "must have exactly one version marked as storage version",
        ));
    }
    if storages == 0 {
        causes.push(Cause::invalid(
            "status.storedVersions",
            &Value::Null,
            "must have at least one stored version",
        ));
    }
}

/// A version as Go prints its internal type once schema, subresources and columns are hoisted out of it.
fn go_version(version: &Value) -> Value {
    json!({
        "Name": text(version, "name"),
        "Served": version.get("served") == Some(&Value::Bool(true)),
        "Storage": version.get("storage") == Some(&Value::Bool(true)),
        "Deprecated": version.get("deprecated") == Some(&Value::Bool(true)),
        "DeprecationWarning": version.get("deprecationWarning").unwrap_or(&Value::Null),
        "Schema": null,
        "Subresources": null,
        "AdditionalPrinterColumns": null,
        "SelectableFields": null,
    })
}
