//! Every example in the documentation would be taken by an API server: schema, no unknown fields, and rules.

use std::{fs, path::Path};

use kube_cel::{Validator, apply_defaults};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::schema_of;
use crate::GROUP;

/// Fewer examples than there are would mean that they are not found any more.
const EXAMPLES_MIN: usize = 20;

/// Texts between fences that say that they are YAML.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match &mut open {
            None if line == "```yaml" => open = Some(String::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

fn documents(block: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(block);
    documents
        .map(|document| {
            Value::deserialize(document).unwrap_or_else(|error| panic!("{error}: {block}"))
        })
        .collect()
}

/// The object that an example is, or is a part of: the specification of a Route or fields of it, of a Model, or a
/// provider. `None` for objects that are not ours.
fn object(example: Value) -> Option<Value> {
    if let Some(version) = example.get("apiVersion").and_then(Value::as_str) {
        return version.starts_with(GROUP).then_some(example);
    }
    let fields = example.as_object().cloned().unwrap_or_default();
    if fields.contains_key("provider") || fields.contains_key("vendor") {
        let engine = json!({"type": "External", "external": fields});
        return Some(
            json!({"kind": "Model", "metadata": {"name": "x"}, "spec": {"engine": engine}}),
        );
    }
    let given = match fields.get("spec") {
        Some(spec) => spec.as_object().cloned().unwrap_or_default(),
        None => fields,
    };
    if is_of("Model", &given) && !is_of("Route", &given) {
        let mut spec = given;
        if spec
            .get("engine")
            .is_none_or(|engine| engine["type"] != "External")
        {
            let source = json!({"uri": "file:///weights.gguf"});
            spec.entry("source").or_insert(source);
        }
        return Some(json!({"kind": "Model", "metadata": {"name": "x"}, "spec": spec}));
    }
    if !given.keys().any(|field| is_field("Route", field)) {
        // The configuration of something else.
        return None;
    }
    let mut spec = Map::new();
    spec.insert("match".to_owned(), json!({"models": ["chat"]}));
    let backend = json!({"name": "local", "modelRef": {"name": "chat"}});
    spec.insert("targets".to_owned(), json!({"backends": [backend]}));
    spec.extend(given);
    Some(json!({"kind": "Route", "metadata": {"name": "x"}, "spec": spec}))
}

/// Whether a kind's specification has these fields.
fn is_of(kind: &str, fields: &Map<String, Value>) -> bool {
    fields.keys().all(|field| is_field(kind, field))
}

/// Whether a kind's specification has this field.
fn is_field(kind: &str, field: &str) -> bool {
    let schema = schema_of(kind);
    let known = &schema["properties"]["spec"]["properties"];
    known.get(field).is_some()
}

/// The schema, with every object closed: an API server would drop what it does not know, and so mean something else.
fn closed(schema: &Value) -> Value {
    let mut schema = schema.clone();
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    let is_open = fields.contains_key("x-kubernetes-preserve-unknown-fields");
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
        if !is_open {
            fields.insert("additionalProperties".to_owned(), json!(false));
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(inner) {
            close(inner);
        }
    }
}

/// What an API server would say against an object.
fn faults(object: &Value) -> Vec<String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let schema = schema_of(kind);
    let specification = closed(&schema["properties"]["spec"]);
    let validator = jsonschema::validator_for(&specification).expect("a schema");
    let errors = validator.iter_errors(&object["spec"]);
    let mut faults: Vec<String> = errors
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    let whole = apply_defaults(&schema, object);
    if let Err(errors) = Validator::new().validate(&schema, &whole, None) {
        let errors = errors.into_vec();
        let told = errors
            .iter()
            .map(|error| format!("{}: {}", error.field_path, error.message));
        faults.extend(told);
    }
    faults
}

#[test]
fn every_example_of_the_documentation_is_taken() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/concepts");
    let mut checked = 0;
    for entry in fs::read_dir(folder).expect("the folder of pages") {
        let path = entry.expect("an entry").path();
        let page = fs::read_to_string(&path).expect("a page");
        for example in blocks(&page).iter().flat_map(|block| documents(block)) {
            let Some(object) = object(example) else {
                continue;
            };
            let faults = faults(&object);
            assert!(
                faults.is_empty(),
                "{}: {object}: {faults:?}",
                path.display()
            );
            checked += 1;
        }
    }
    assert!(EXAMPLES_MIN <= checked, "only {checked} examples");
}

#[test]
fn an_example_that_is_wrong_is_found() {
    for (example, part) in [
        ("queue: {concurency: 1}", "concurency"),
        ("queue: {concurrency: 0}", "less than"),
        ("retries: {attempts: three}", "integer"),
        ("spec: {targets: {strategy: Random}}", "Random"),
        (
            "guards: [{name: g, type: Regex}]",
            "regex goes with type Regex",
        ),
        ("coldStart: {timeout: soon}", "does not match"),
    ] {
        let found = documents(example).into_iter().filter_map(object);
        let told: Vec<String> = found.flat_map(|object| faults(&object)).collect();
        assert!(
            told.iter().any(|fault| fault.contains(part)),
            "{example}: {told:?}"
        );
    }
}
