//! What an answer must look like: one meaning for the many parameters that say so.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::grammar::{GrammarError, GrammarSpec, Structure};

use super::fault::Fault;

/// Bytes of a schema, pattern, grammar or list of choices.
const SPECIFICATION_BYTES_MAX: usize = 256 << 10;
const CHOICES_MAX: usize = 1024;

/// The parameters of the body.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct FormatBody {
    pub(super) response_format: Option<ResponseFormat>,
    pub(super) structured_outputs: Option<StructuredOutputs>,
    pub(super) guided_json: Option<Value>,
    pub(super) guided_regex: Option<String>,
    pub(super) guided_choice: Option<Vec<String>>,
    pub(super) guided_grammar: Option<String>,
}

/// OpenAI's `response_format`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema {
        json_schema: JsonSchema,
    },
    /// vLLM's extension.
    StructuralTag(StructuralTag),
}

/// Free text in which some beginnings bind what follows.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StructuralTag {
    structures: Vec<StructureBody>,
    triggers: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct StructureBody {
    begin: String,
    #[serde(default)]
    schema: Value,
    end: String,
}

/// `json_schema` in a `response_format`. Without `strict` what cannot be enforced is ignored.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct JsonSchema {
    #[serde(default)]
    schema: Option<Value>,
    #[serde(default)]
    strict: Option<bool>,
}

/// vLLM's `structured_outputs`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct StructuredOutputs {
    json: Option<Value>,
    regex: Option<String>,
    choice: Option<Vec<String>>,
    grammar: Option<String>,
    json_object: Option<bool>,
    structural_tag: Option<Value>,
}

impl ResponseFormat {
    /// The format for a schema.
    pub(super) const fn of_schema(schema: Value, strict: Option<bool>) -> Self {
        Self::JsonSchema {
            json_schema: JsonSchema {
                schema: Some(schema),
                strict,
            },
        }
    }
}

impl FormatBody {
    /// The one format that is asked for, with the name of the parameter that does.
    pub(super) fn read(&self) -> Result<Option<(&'static str, GrammarSpec)>, Fault> {
        let mut found = Vec::new();
        if let Some(format) = self.response_format.as_ref().and_then(ResponseFormat::read) {
            found.push(("response_format", format));
        }
        if let Some(outputs) = &self.structured_outputs {
            let formats = outputs.read()?;
            found.extend(formats.map(|format| ("structured_outputs", format)));
        }
        let schema = self.guided_json.clone();
        found.extend(schema.map(|schema| ("guided_json", strict(schema))));
        let regex = self.guided_regex.clone().map(GrammarSpec::Regex);
        found.extend(regex.map(|format| ("guided_regex", format)));
        let choice = self.guided_choice.clone().map(GrammarSpec::Choice);
        found.extend(choice.map(|format| ("guided_choice", format)));
        let grammar = self.guided_grammar.clone().map(GrammarSpec::Lark);
        found.extend(grammar.map(|format| ("guided_grammar", format)));
        if let [_, (name, _), ..] = found.as_slice() {
            return Err(Fault::parameter(
                name,
                "An answer has one format: the request asks for several.",
            ));
        }
        let Some((name, format)) = found.pop() else {
            return Ok(None);
        };
        check(name, &format)?;
        Ok(Some((name, format)))
    }
}

impl ResponseFormat {
    fn read(&self) -> Option<GrammarSpec> {
        match self {
            Self::Text => None,
            Self::JsonObject => Some(GrammarSpec::JsonObject),
            Self::JsonSchema { json_schema } => {
                let schema = json_schema.schema.clone();
                Some(GrammarSpec::JsonSchema {
                    schema: schema.unwrap_or_else(|| json!({})),
                    strict: json_schema.strict.unwrap_or(false),
                })
            }
            Self::StructuralTag(tag) => Some(tag.read()),
        }
    }
}

impl StructuralTag {
    fn read(&self) -> GrammarSpec {
        let structures = self.structures.iter().map(|structure| Structure {
            begin: structure.begin.clone(),
            schema: structure.schema.clone(),
            end: structure.end.clone(),
        });
        GrammarSpec::StructuralTag {
            structures: structures.collect(),
            triggers: self.triggers.clone(),
        }
    }
}

impl StructuredOutputs {
    fn read(&self) -> Result<impl Iterator<Item = GrammarSpec>, Fault> {
        let tag = self.structural_tag.clone().map(parsed);
        let tag: Option<StructuralTag> =
            tag.map(serde_json::from_value)
                .transpose()
                .map_err(|error| {
                    Fault::parameter(
                        "structured_outputs",
                        format!("Invalid value for `structured_outputs.structural_tag`: {error}."),
                    )
                })?;
        let formats = [
            self.json.clone().map(strict),
            self.regex.clone().map(GrammarSpec::Regex),
            self.choice.clone().map(GrammarSpec::Choice),
            self.grammar.clone().map(GrammarSpec::Lark),
            (self.json_object == Some(true)).then_some(GrammarSpec::JsonObject),
            tag.map(|tag| tag.read()),
        ];
        Ok(formats.into_iter().flatten())
    }
}

/// A schema that is followed to the letter.
fn strict(schema: Value) -> GrammarSpec {
    GrammarSpec::JsonSchema {
        schema: parsed(schema),
        strict: true,
    }
}

/// A schema may come as the text of its JSON.
fn parsed(schema: Value) -> Value {
    match &schema {
        Value::String(text) => serde_json::from_str(text).unwrap_or(schema),
        _ => schema,
    }
}

/// Refuses what is too large to look at.
fn check(name: &str, format: &GrammarSpec) -> Result<(), Fault> {
    let invalid = |message: String| Err(Fault::parameter(name, message));
    let bytes = match format {
        GrammarSpec::JsonObject | GrammarSpec::ToolCalls(_) | GrammarSpec::Either(_) => 0,
        GrammarSpec::JsonSchema { schema, .. } if !schema.is_object() && !schema.is_boolean() => {
            return invalid("A JSON schema is an object.".to_owned());
        }
        GrammarSpec::JsonSchema { schema, .. } => schema.to_string().len(),
        GrammarSpec::Regex(text) | GrammarSpec::Lark(text) => text.len(),
        GrammarSpec::Choice(choices) if choices.is_empty() || CHOICES_MAX < choices.len() => {
            return invalid(format!("There must be 1 to {CHOICES_MAX} choices."));
        }
        GrammarSpec::Choice(choices) => choices.iter().map(String::len).sum(),
        GrammarSpec::StructuralTag { structures, .. } => structures
            .iter()
            .map(|structure| structure.schema.to_string().len())
            .sum(),
    };
    if SPECIFICATION_BYTES_MAX < bytes {
        return invalid(format!(
            "The format is described in {bytes} bytes; at most {SPECIFICATION_BYTES_MAX} are allowed."
        ));
    }
    Ok(())
}

/// The fault of a format that makes no grammar; `name` is the parameter that asks for it.
pub(super) fn fault(name: &str, error: &GrammarError) -> Fault {
    if error.is_callers_fault() {
        return Fault::parameter(name, format!("Invalid value for `{name}`: {error}."));
    }
    Fault::unavailable(format!("`{name}` cannot be followed: {error}."))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{FormatBody, GrammarSpec};

    #[track_caller]
    fn check(body: Value, expected: Result<Option<GrammarSpec>, &str>) {
        let body: FormatBody = serde_json::from_value(body).unwrap();
        let got = body.read().map(|found| found.map(|(_, format)| format));
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(fault), Err(name)) => assert_eq!(fault.parameter_name(), Some(name)),
            (got, expected) => panic!("{got:?} is not {expected:?}"),
        }
    }

    #[test]
    fn all_ways_to_name_a_format_mean_the_same() {
        let schema = json!({"type": "integer"});
        let is_schema = |strict| {
            let schema = json!({"type": "integer"});
            Ok(Some(GrammarSpec::JsonSchema { schema, strict }))
        };
        check(json!({}), Ok(None));
        check(json!({"response_format": {"type": "text"}}), Ok(None));
        check(
            json!({"response_format": {"type": "json_object"}}),
            Ok(Some(GrammarSpec::JsonObject)),
        );
        check(
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
            is_schema(false),
        );
        check(
            json!({"structured_outputs": {"json": schema}}),
            is_schema(true),
        );
        check(
            json!({"structured_outputs": {"json": schema.to_string()}}),
            is_schema(true),
        );
        check(json!({"guided_json": schema}), is_schema(true));
        let choice = || {
            Ok(Some(GrammarSpec::Choice(vec![
                "a".to_owned(),
                "b".to_owned(),
            ])))
        };
        check(json!({"guided_choice": ["a", "b"]}), choice());
        check(
            json!({"structured_outputs": {"choice": ["a", "b"]}}),
            choice(),
        );
        check(
            json!({"guided_regex": "a+"}),
            Ok(Some(GrammarSpec::Regex("a+".to_owned()))),
        );
    }

    #[test]
    fn a_format_that_cannot_be_meant_is_refused() {
        check(json!({"guided_choice": []}), Err("guided_choice"));
        check(json!({"guided_json": "no"}), Err("guided_json"));
        check(
            json!({"guided_regex": "a".repeat(super::SPECIFICATION_BYTES_MAX + 1)}),
            Err("guided_regex"),
        );
        check(
            json!({"guided_regex": "a", "guided_choice": ["a"]}),
            Err("guided_choice"),
        );
        check(
            json!({"structured_outputs": {"regex": "a", "json_object": true}}),
            Err("structured_outputs"),
        );
        check(
            json!({"structured_outputs": {"structural_tag": "{}"}}),
            Err("structured_outputs"),
        );
    }
}
