//! JSON schemas in the words of OpenAPI 3.0, which is what Gemini before 2.5 takes.

use serde_json::{Map, Value, json};

use crate::wire::{InvalidRequest, json::Json};

/// How deep schemas may be; one that is deeper, or that has itself within it, cannot be written without references.
const DEPTH_MAX: usize = 24;
/// Schemas that one may hold, references written out.
const SCHEMAS_MAX: usize = 4096;

/// Words that both know, and mean the same.
const SHARED: [&str; 11] = [
    "title",
    "description",
    "required",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "nullable",
];
/// Formats that are known; others are refused by the API, though they are only hints.
const FORMATS: [&str; 6] = ["date-time", "enum", "int32", "int64", "float", "double"];

/// The schema in the words of OpenAPI. What only JSON schemas can say, as `additionalProperties`, is left out.
///
/// # Errors
/// [`InvalidRequest`] if it is no schema, or one that has itself within it.
pub(super) fn openapi(at: &str, schema: &Json) -> Result<Value, InvalidRequest> {
    let root: Value = schema.read().unwrap_or_default();
    let mut writer = Writer {
        root: &root,
        left: SCHEMAS_MAX,
    };
    let written = writer.write(&root, 0);
    written.map_err(|message| InvalidRequest::new(at, message))
}

/// What writes one schema.
struct Writer<'a> {
    root: &'a Value,
    /// Schemas that may still be written.
    left: usize,
}

impl Writer<'_> {
    fn write(&mut self, schema: &Value, depth: usize) -> Result<Value, &'static str> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || DEPTH_MAX < depth {
            return Err("is too deep for this model, or has itself within it");
        }
        let Value::Object(fields) = schema else {
            return match schema {
                Value::Bool(true) => Ok(json!({})),
                _ => Err("is no schema that this model knows"),
            };
        };
        if let Some(reference) = fields.get("$ref") {
            let found = reference
                .as_str()
                .and_then(|reference| reference.strip_prefix('#'))
                .and_then(|pointer| self.root.pointer(pointer));
            let found = found.ok_or("has a reference to what is not in it")?.clone();
            return self.write(&found, depth + 1);
        }
        let mut written = Map::new();
        for name in SHARED {
            if let Some(value) = fields.get(name) {
                written.insert(name.to_owned(), value.clone());
            }
        }
        let format = fields.get("format").filter(|format| {
            format
                .as_str()
                .is_some_and(|format| FORMATS.contains(&format))
        });
        if let Some(format) = format {
            written.insert("format".to_owned(), format.clone());
        }
        self.write_type(fields, &mut written);
        write_values(fields, &mut written);
        self.write_inner(fields, &mut written, depth)?;
        Ok(Value::Object(written))
    }

    /// `type`: one word in capitals; `null` among several is another word here.
    fn write_type(&self, fields: &Map<String, Value>, written: &mut Map<String, Value>) {
        let words: Vec<&str> = match fields.get("type") {
            Some(Value::String(word)) => vec![word],
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let (nulls, types): (Vec<&str>, Vec<&str>) =
            words.into_iter().partition(|word| *word == "null");
        if !nulls.is_empty() {
            written.insert("nullable".to_owned(), json!(true));
        }
        match &*types {
            [] => {}
            [one] => {
                written.insert("type".to_owned(), json!(one.to_uppercase()));
            }
            several => {
                let several = several.iter();
                let each: Vec<_> = several
                    .map(|one| json!({"type": one.to_uppercase()}))
                    .collect();
                written.insert("anyOf".to_owned(), json!(each));
            }
        }
    }

    /// The schemas within.
    fn write_inner(
        &mut self,
        fields: &Map<String, Value>,
        written: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), &'static str> {
        if let Some(Value::Object(properties)) = fields.get("properties") {
            let mut inner = Map::new();
            for (name, schema) in properties {
                inner.insert(name.clone(), self.write(schema, depth + 1)?);
            }
            // Without it the model has an order of its own.
            let order: Vec<_> = properties.keys().cloned().collect();
            written.insert("properties".to_owned(), Value::Object(inner));
            written.insert("propertyOrdering".to_owned(), json!(order));
        }
        if let Some(items) = fields.get("items") {
            written.insert("items".to_owned(), self.write(items, depth + 1)?);
        }
        if let Some(Value::Array(all)) = fields.get("allOf") {
            for schema in all {
                if let Value::Object(more) = self.write(schema, depth + 1)? {
                    written.extend(more);
                }
            }
        }
        let either = fields.get("anyOf").or_else(|| fields.get("oneOf"));
        let Some(Value::Array(either)) = either else {
            return Ok(());
        };
        let mut others = Vec::new();
        for schema in either {
            if schema["type"] == "null" {
                written.insert("nullable".to_owned(), json!(true));
            } else {
                others.push(self.write(schema, depth + 1)?);
            }
        }
        match <[Value; 1]>::try_from(others) {
            Ok([Value::Object(only)]) => written.extend(only),
            Ok([_]) => {}
            Err(others) => drop(written.insert("anyOf".to_owned(), Value::Array(others))),
        }
        Ok(())
    }
}

/// `enum` and `const`: here values are texts.
fn write_values(fields: &Map<String, Value>, written: &mut Map<String, Value>) {
    let values = match (fields.get("enum"), fields.get("const")) {
        (Some(Value::Array(values)), _) => values.clone(),
        (_, Some(value)) => vec![value.clone()],
        _ => return,
    };
    let (nulls, values): (Vec<Value>, Vec<Value>) = values.into_iter().partition(Value::is_null);
    if !nulls.is_empty() {
        written.insert("nullable".to_owned(), json!(true));
    }
    if !values.is_empty() && values.iter().all(Value::is_string) {
        written.insert("type".to_owned(), json!("STRING"));
        written.insert("enum".to_owned(), Value::Array(values));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::openapi;
    use crate::wire::json::Json;

    #[track_caller]
    fn check(schema: &Value, expected: &Value) {
        let written = openapi("schema", &Json::from(schema.clone()));
        let written = written.unwrap_or_else(|invalid| json!(invalid.to_string()));
        assert_eq!(written, *expected);
    }

    #[test]
    fn a_schema_is_written_in_the_words_of_openapi() {
        check(
            &json!({
                "$schema": "x", "type": "object", "additionalProperties": false, "required": ["b"],
                "properties": {
                    "b": {"type": ["string", "null"], "format": "email", "description": "d"},
                    "a": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "maxItems": 3},
                    "c": {"anyOf": [{"type": "integer", "format": "int32"}, {"type": "null"}]},
                    "d": {"anyOf": [{"type": "string"}, {"type": "number"}]},
                    "e": {"const": "x"},
                    "f": {"enum": ["y", "z", null]},
                    "g": {"enum": [1, 2], "type": "integer"},
                    "h": {"type": ["string", "boolean"]},
                },
                "$defs": {"Item": {"type": "string", "format": "date-time"}},
            }),
            &json!({
                "type": "OBJECT", "required": ["b"],
                "properties": {
                    "b": {"description": "d", "nullable": true, "type": "STRING"},
                    "a": {"maxItems": 3, "type": "ARRAY", "items": {"format": "date-time", "type": "STRING"}},
                    "c": {"nullable": true, "format": "int32", "type": "INTEGER"},
                    "d": {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]},
                    "e": {"type": "STRING", "enum": ["x"]},
                    "f": {"nullable": true, "type": "STRING", "enum": ["y", "z"]},
                    "g": {"type": "INTEGER"},
                    "h": {"anyOf": [{"type": "STRING"}, {"type": "BOOLEAN"}]},
                },
                "propertyOrdering": ["b", "a", "c", "d", "e", "f", "g", "h"],
            }),
        );
    }

    #[test]
    fn what_cannot_be_written_out_is_refused() {
        let list = json!({"type": "array", "items": {"$ref": "#"}});
        check(
            &list,
            &json!("`schema` is too deep for this model, or has itself within it"),
        );
        let wide = json!({
            "anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}],
            "$defs": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}},
        });
        check(
            &wide,
            &json!("`schema` is too deep for this model, or has itself within it"),
        );
        check(
            &json!({"$ref": "#/$defs/x"}),
            &json!("`schema` has a reference to what is not in it"),
        );
        check(
            &json!("x"),
            &json!("`schema` is no schema that this model knows"),
        );
    }
}
