//! The schemas of OpenAI's document that the gateway's tests check answers and requests against.
//!
//! The document has megabytes; what is written holds the schemas named here and those that they refer to, without the
//! words in them, one schema a line.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::root;

/// Where the tests read them.
const FILE: &str = "gateway/testdata/openapi/schemas.json";
/// What the gateway answers itself, and what it sends.
const WANTED: [&str; 15] = [
    "Batch",
    "CreateChatCompletionRequest",
    "CreateCompletionRequest",
    "CreateEmbeddingRequest",
    "CreateImageRequest",
    "CreateModerationRequest",
    "CreateResponse",
    "CreateSpeechRequest",
    "DeleteFileResponse",
    "ErrorResponse",
    "ListBatchesResponse",
    "ListFilesResponse",
    "ListModelsResponse",
    "Model",
    "OpenAIFile",
];
/// What a schema says to people.
const WORDS: [&str; 5] = ["description", "example", "examples", "title", "x-oaiMeta"];

/// Takes the schemas out of a document.
pub(crate) fn run(document: &Path) -> Result<()> {
    let text =
        fs::read_to_string(document).with_context(|| format!("reading {}", document.display()))?;
    let document: Value = serde_json::from_str(&text).context("parsing the document")?;
    let schemas = &document["components"]["schemas"];
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    let mut wanted: Vec<String> = WANTED.iter().map(|name| (*name).to_owned()).collect();
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
    let lines: Vec<String> = found
        .iter()
        .map(|(name, schema)| format!("{}:{schema}", Value::from(name.as_str())))
        .collect();
    let path = root().join(FILE);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(&path, format!("{{\n{}\n}}\n", lines.join(",\n")))
        .with_context(|| format!("writing {FILE}"))
}

/// A schema without words. Properties may be called as words are: those are schemas themselves.
fn bare(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let is_kept = |(name, value): &(&String, &Value)| {
                value.is_object() || !WORDS.contains(&name.as_str())
            };
            let fields = fields.iter().filter(is_kept);
            Value::Object(
                fields
                    .map(|(name, value)| (name.clone(), bare(value)))
                    .collect(),
            )
        }
        Value::Array(entries) => Value::Array(entries.iter().map(bare).collect()),
        other => other.clone(),
    }
}

fn references(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                names.extend(reference.rsplit('/').next().map(str::to_owned));
            }
            fields.values().for_each(|value| references(value, names));
        }
        Value::Array(entries) => entries.iter().for_each(|entry| references(entry, names)),
        _ => {}
    }
}
