//! The definitions hold what the API promises: generated files, sizes, descriptions, bounds, defaults.

mod documents;
mod rules;

use serde_json::{Value, json};

use crate::{GROUP, all, yaml};

/// Bytes of one definition's YAML; kubectl keeps it in an annotation, which may have 256 KiB.
const DEFINITION_BYTES_MAX: usize = 96 << 10;

/// The root schema of a kind, as the API server has it.
fn schema_of(kind: &str) -> Value {
    let definition = all()
        .into_iter()
        .find(|definition| definition.spec.names.kind == kind)
        .expect("the kind exists");
    let value = serde_json::to_value(definition).expect("a definition is JSON");
    value
        .pointer("/spec/versions/0/schema/openAPIV3Schema")
        .expect("it has a schema")
        .clone()
}

/// Visits each schema below `schema` with its path, properties and items alike.
fn visit(schema: &Value, path: &str, check: &mut dyn FnMut(&str, &Value)) {
    check(path, schema);
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        visit(property, &format!("{path}.{name}"), check);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(key).filter(|inner| inner.is_object()) {
            visit(inner, &format!("{path}{suffix}"), check);
        }
    }
}

#[test]
fn checked_in_files_equal_the_types() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    for definition in all() {
        let path = folder.join(format!("{}.{GROUP}.yaml", definition.spec.names.plural));
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == yaml(&definition),
            "{} is out of date, run `cargo xtask crds`",
            path.display()
        );
    }
}

#[test]
fn a_definition_is_small() {
    for definition in all() {
        let bytes = yaml(&definition).len();
        assert!(
            bytes < DEFINITION_BYTES_MAX,
            "{} has {bytes} bytes",
            definition.spec.names.kind
        );
    }
}

#[test]
fn every_field_is_described_and_bounded() {
    let mut faults = Vec::new();
    for definition in all() {
        let kind = definition.spec.names.kind;
        visit(&schema_of(&kind), &kind, &mut |path, schema| {
            let is_field =
                !path.ends_with(']') && !path.ends_with('}') && !path.ends_with(".metadata");
            if is_field
                && schema
                    .get("description")
                    .and_then(Value::as_str)
                    .is_none_or(str::is_empty)
            {
                faults.push(format!("{path} has no description"));
            }
            let has = |key: &str| schema.get(key).is_some();
            match schema.get("type").and_then(Value::as_str) {
                Some("string") if !has("maxLength") && !has("enum") && !has("format") => {
                    faults.push(format!("{path} is a string without bound"));
                }
                Some("array") if !has("maxItems") => {
                    faults.push(format!("{path} is a list without bound"));
                }
                Some("object") if has("additionalProperties") && !has("maxProperties") => {
                    faults.push(format!("{path} is a map without bound"));
                }
                Some(_) => {}
                None if has("x-kubernetes-preserve-unknown-fields") => {}
                None => faults.push(format!("{path} has no type")),
            }
            for forbidden in [
                "oneOf",
                "anyOf",
                "allOf",
                "not",
                "$ref",
                "nullable",
                "uniqueItems",
            ] {
                if has(forbidden) {
                    faults.push(format!("{path} uses {forbidden}"));
                }
            }
        });
    }
    faults.retain(|fault| {
        ![
            "apiVersion has no",
            "kind has no",
            "apiVersion is",
            "kind is",
        ]
        .iter()
        .any(|own| fault.contains(own))
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_fresh_object_is_in_progress() {
    for definition in all() {
        let kind = definition.spec.names.kind;
        let status = schema_of(&kind)
            .pointer("/properties/status/default")
            .cloned();
        assert_eq!(status, Some(json!({"observedGeneration": -1})), "{kind}");
    }
}

#[test]
fn every_kind_has_a_short_name_a_category_and_a_ready_column() {
    let names: Vec<_> = all()
        .into_iter()
        .map(|definition| {
            let version = &definition.spec.versions[0];
            let columns = version
                .additional_printer_columns
                .as_ref()
                .expect("columns");
            assert!(columns.iter().any(|column| column.name == "Ready"));
            assert!(
                columns
                    .iter()
                    .filter(|column| column.priority.unwrap_or(0) == 0)
                    .count()
                    <= 6
            );
            assert!(
                version
                    .subresources
                    .as_ref()
                    .expect("subresources")
                    .status
                    .is_some()
            );
            assert_eq!(
                definition.spec.names.categories.as_deref(),
                Some(&["quarterdeck".to_owned()][..])
            );
            definition
                .spec
                .names
                .short_names
                .expect("short names")
                .join(",")
        })
        .collect();
    assert_eq!(names, ["mdl", "rt", "wst", "ws", "agt"]);
}

#[test]
fn a_model_can_be_scaled() {
    let model = all().remove(0);
    let scale = model.spec.versions[0]
        .subresources
        .clone()
        .and_then(|subresources| subresources.scale)
        .expect("scale");
    assert_eq!(scale.spec_replicas_path, ".spec.replicas");
    assert_eq!(scale.status_replicas_path, ".status.replicas");
    assert_eq!(
        scale.label_selector_path.as_deref(),
        Some(".status.selector")
    );
}
