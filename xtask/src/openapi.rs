//! What the tests check requests and answers against: the operations of OpenAI's document that the gateway answers, and
//! their schemas.
//!
//! The document has megabytes; what is written holds the operations named here and the schemas that they refer to, without
//! the words in them, one schema a line.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::root;

/// Where the tests read schemas.
const SCHEMAS: &str = "gateway/testdata/openapi/schemas.json";
/// Where the tests read operations.
const PATHS: &str = "gateway/testdata/openapi/paths.json";
/// What the gateway answers.
const OPERATIONS: [(&str, &[&str]); 20] = [
    ("/audio/speech", &["post"]),
    ("/audio/transcriptions", &["post"]),
    ("/audio/translations", &["post"]),
    ("/batches", &["get", "post"]),
    ("/batches/{batch_id}", &["get"]),
    ("/batches/{batch_id}/cancel", &["post"]),
    ("/chat/completions", &["post"]),
    ("/completions", &["post"]),
    ("/embeddings", &["post"]),
    ("/files", &["get", "post"]),
    ("/files/{file_id}", &["get", "delete"]),
    ("/files/{file_id}/content", &["get"]),
    ("/images/edits", &["post"]),
    ("/images/generations", &["post"]),
    ("/images/variations", &["post"]),
    ("/models", &["get"]),
    ("/models/{model}", &["get"]),
    ("/moderations", &["post"]),
    ("/responses", &["post"]),
    ("/responses/input_tokens", &["post"]),
];
/// What no operation refers to by name.
const MORE: [&str; 1] = ["ErrorResponse"];
/// What a schema says to people.
const WORDS: [&str; 5] = ["description", "example", "examples", "title", "x-oaiMeta"];

/// Takes operations and schemas out of a document.
pub(crate) fn run(document: &Path) -> Result<()> {
    let text =
        fs::read_to_string(document).with_context(|| format!("reading {}", document.display()))?;
    let document: Value = serde_json::from_str(&text).context("parsing the document")?;
    let paths = operations(&document)?;
    let mut wanted: Vec<String> = MORE.map(str::to_owned).to_vec();
    paths
        .values()
        .for_each(|path| references(path, &mut wanted));
    let schemas = &document["components"]["schemas"];
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let schema = schemas
            .get(&name)
            .with_context(|| format!("the document has no schema {name}"))?;
        let schema = bare(schema);
        references(&schema, &mut wanted);
        found.insert(name, schema);
    }
    write(PATHS, &paths)?;
    write(SCHEMAS, &found)
}

/// The operations, with what they refer to beside schemas in its place.
fn operations(document: &Value) -> Result<BTreeMap<String, Value>> {
    let mut paths = BTreeMap::new();
    for (path, methods) in OPERATIONS {
        let mut kept = Map::new();
        for method in methods {
            let operation = &document["paths"][path][method];
            let name = || format!("the document has no operation {method} {path}");
            operation.as_object().with_context(name)?;
            let operation = json!({
                "operationId": operation["operationId"],
                "parameters": operation.get("parameters").unwrap_or(&json!([])),
                "requestBody": operation["requestBody"],
                "responses": operation["responses"],
            });
            let mut operation = bare(&inlined(document, &operation));
            if let Some(fields) = operation.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            kept.insert((*method).to_owned(), operation);
        }
        paths.insert(path.to_owned(), Value::Object(kept));
    }
    Ok(paths)
}

/// A value in which references to anything but schemas are replaced by what they refer to.
fn inlined(document: &Value, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str);
            let target = reference
                .and_then(|reference| reference.strip_prefix('#'))
                .filter(|pointer| !pointer.starts_with("/components/schemas/"))
                .and_then(|pointer| document.pointer(pointer));
            if let Some(target) = target {
                return inlined(document, target);
            }
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name.clone(), inlined(document, value)))
                    .collect(),
            )
        }
        Value::Array(entries) => entries
            .iter()
            .map(|entry| inlined(document, entry))
            .collect(),
        other => other.clone(),
    }
}

/// Writes values by their names, one a line.
fn write(file: &str, values: &BTreeMap<String, Value>) -> Result<()> {
    let lines: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
        .collect();
    let path = root().join(file);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(&path, format!("{{\n{}\n}}\n", lines.join(",\n")))
        .with_context(|| format!("writing {file}"))
}

/// A schema without words, and with null where version 3.0 of the language says it in another way. Properties may be
/// called as words are: those are schemas themselves.
fn bare(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let is_kept = |(name, value): &(&String, &Value)| {
                value.is_object() || !WORDS.contains(&name.as_str())
            };
            let kept = fields.iter().filter(is_kept);
            let mut kept: Map<String, Value> = kept
                .map(|(name, value)| (name.clone(), bare(value)))
                .collect();
            if kept.remove("nullable") == Some(Value::Bool(true)) {
                return json!({"anyOf": [kept, {"type": "null"}]});
            }
            Value::Object(kept)
        }
        Value::Array(entries) => Value::Array(entries.iter().map(bare).collect()),
        other => other.clone(),
    }
}

fn references(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref")
                && reference.starts_with("#/components/schemas/")
            {
                names.extend(reference.rsplit('/').next().map(str::to_owned));
            }
            fields.values().for_each(|value| references(value, names));
        }
        Value::Array(entries) => entries.iter().for_each(|entry| references(entry, names)),
        _ => {}
    }
}
