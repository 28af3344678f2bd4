//! OpenAI's document, as `cargo xtask openapi` left it: what requests and answers must be.

use std::{collections::HashMap, fs};

use anyhow::{Context, Result};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::harness::root;

/// Faults shown of a value: the first ones tell.
const FAULTS_MAX: usize = 4;

/// The operations and the schemas.
pub(crate) struct Document {
    paths: Value,
    schemas: Value,
    validators: HashMap<String, Validator>,
}

impl Document {
    /// Reads it.
    pub(crate) fn read() -> Result<Self> {
        let read = |name: &str| -> Result<Value> {
            let path = root().join("gateway/testdata/openapi").join(name);
            let text =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            serde_json::from_str(&text).context("parsing the document")
        };
        Ok(Self {
            paths: read("paths.json")?,
            schemas: read("schemas.json")?,
            validators: HashMap::new(),
        })
    }

    /// The document as a program reads it: of a server that answers every fault with an error in OpenAI's shape.
    pub(crate) fn whole(&self, server: &str) -> Value {
        let error = json!({"content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}});
        let mut paths = self.paths.clone();
        let methods = paths
            .as_object_mut()
            .into_iter()
            .flatten()
            .filter_map(|(_, path)| path.as_object_mut());
        for (_, operation) in methods.flatten() {
            operation["responses"]["default"] = error.clone();
            let responses = operation["responses"].as_object_mut();
            for (_, response) in responses.into_iter().flatten() {
                response["description"] = json!("an answer");
                if let Some(events) = response.pointer_mut("/content/text~1event-stream") {
                    // The document describes an event's data, programs read it as the event; taps look at the data.
                    *events = json!({});
                }
            }
        }
        let mut schemas = self.schemas.clone();
        amend(&mut paths, &mut schemas);
        json!({"openapi": "3.1.0", "info": {"title": "gateway", "version": "1"}, "servers": [{"url": server}],
            "paths": paths, "security": [{"key": []}], "components": {"schemas": schemas,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}})
    }

    /// What is wrong with a request in JSON; nothing, if the document does not know the path.
    pub(crate) fn faults_of_request(&mut self, path: &str, body: &Value) -> Result<Vec<String>> {
        let content = &self.paths[below_v1(path)]["post"]["requestBody"]["content"];
        let schema = content["application/json"]["schema"].clone();
        self.faults(&schema, body)
    }

    /// What is wrong with an answer in JSON, or with one event of it.
    pub(crate) fn faults_of_answer(
        &mut self,
        path: &str,
        status: u16,
        media: &str,
        body: &Value,
    ) -> Result<Vec<String>> {
        let schema = if (200..300).contains(&status) {
            let methods = self.paths[below_v1(path)].as_object();
            let operation = methods.and_then(|methods| {
                // A path that can be both asked and told is told by these clients.
                methods.get("post").or_else(|| methods.get("get"))
            });
            let Some(operation) = operation else {
                return Ok(Vec::new());
            };
            operation["responses"]["200"]["content"][media]["schema"].clone()
        } else {
            json!({"$ref": "#/components/schemas/ErrorResponse"})
        };
        self.faults(&schema, body)
    }

    fn faults(&mut self, schema: &Value, value: &Value) -> Result<Vec<String>> {
        if schema.is_null() {
            return Ok(Vec::new());
        }
        let name = schema.to_string();
        if !self.validators.contains_key(&name) {
            let mut schema = schema.clone();
            schema["components"] = json!({"schemas": self.schemas});
            let validator = jsonschema::validator_for(&schema).context("compiling a schema")?;
            self.validators.insert(name.clone(), validator);
        }
        let validator = self
            .validators
            .get(&name)
            .context("the schema was just put there")?;
        let faults = validator.iter_errors(value).take(FAULTS_MAX);
        Ok(faults
            .map(|fault| format!("{}: {fault}", fault.instance_path))
            .collect())
    }
}

/// A path as the document has it.
fn below_v1(path: &str) -> &str {
    path.strip_prefix("/v1").unwrap_or(path)
}

/// Mends what the document says against itself or against OpenAI's servers.
fn amend(paths: &mut Value, schemas: &mut Value) {
    // Files come as the bytes that they are, sounds in their format, transcriptions as plain text and completions as
    // events if asked for so.
    for (path, method, media) in [
        (
            "/files/{file_id}/content",
            "get",
            "application/octet-stream",
        ),
        ("/audio/speech", "post", "audio/mpeg"),
        ("/audio/transcriptions", "post", "text/plain"),
        ("/audio/translations", "post", "text/plain"),
        ("/completions", "post", "text/event-stream"),
    ] {
        paths[path][method]["responses"]["200"]["content"][media] = json!({});
    }
    // Embeddings may be asked for as text of their bytes.
    let embedding = &mut schemas["Embedding"]["properties"]["embedding"];
    *embedding = json!({"anyOf": [embedding.take(), {"type": "string"}]});
    // A purpose that may be given is the one that is told.
    let purposes = &mut schemas["OpenAIFile"]["properties"]["purpose"]["enum"];
    if let Some(purposes) = purposes.as_array_mut() {
        purposes.push(json!("evals"));
    }
    without_discriminators(schemas);
}

/// Takes away what names a schema by a value without saying which value names which.
fn without_discriminators(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_said = |named: &Value| named["propertyName"].is_string();
            if fields.get("discriminator").is_some_and(is_said) {
                fields.remove("discriminator");
            }
            fields.values_mut().for_each(without_discriminators);
        }
        Value::Array(entries) => entries.iter_mut().for_each(without_discriminators),
        _ => {}
    }
}
