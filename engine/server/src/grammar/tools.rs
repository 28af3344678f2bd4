//! Tool calls as rules: the model's way to write them, with each tool's schema for its arguments.

use llguidance::toktrie::TokEnv;
use serde_json::{Map, Value, json};

use crate::parse::{CallFormat, Tool, ToolChoice, ToolFormat};

use super::lark::{ANY_TEXT, Draft, Mark, literal, mark};
use super::source::prepared;
use super::{GrammarError, ToolCalls};

/// The body of the rule for an answer that makes these calls.
pub(super) fn rule(
    calls: &ToolCalls,
    environment: &TokEnv,
    draft: &mut Draft,
) -> Result<String, GrammarError> {
    let tools = chosen(calls)?;
    let names: Vec<_> = (0..tools.len())
        .map(|index| format!("call_{index}"))
        .collect();
    for (name, tool) in names.iter().zip(&tools) {
        let body = call(calls, tool, environment, draft);
        draft.rule(name, &body);
    }
    draft.rule("call", &names.join(" | "));
    let format = calls.format;
    let start = mark(format.start, environment);
    draft.rule("tail", &tail(calls, environment));
    match calls.choice {
        ToolChoice::Auto => Ok(free(calls, &start, draft)),
        ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::None => {
            let start = start.expression();
            let start = if format.is_start_optional {
                format!("{start}?")
            } else {
                start
            };
            draft.rule("block", &format!("{start} tail"));
            let is_single = !calls.parallel || matches!(calls.choice, ToolChoice::Named(_));
            if is_single || format.between.is_some() {
                return Ok("block".to_owned());
            }
            let between = Mark::Text(format.between_blocks.to_owned()).expression();
            Ok(format!("block ( {between} block )*"))
        }
    }
}

/// The tools that may be called.
fn chosen(calls: &ToolCalls) -> Result<Vec<&Tool>, GrammarError> {
    let tools: Vec<_> = match &calls.choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Auto | ToolChoice::Required => calls.tools.iter().collect(),
        ToolChoice::Named(name) => calls
            .tools
            .iter()
            .filter(|tool| tool.name == *name)
            .collect(),
    };
    if tools.is_empty() {
        return Err(GrammarError::invalid("there is no tool to call"));
    }
    Ok(tools)
}

/// A block behind its start.
fn tail(calls: &ToolCalls, environment: &TokEnv) -> String {
    let ToolFormat {
        open,
        between,
        close,
        end,
        ..
    } = calls.format;
    let text = |text: &str| Mark::Text(text.to_owned()).expression();
    let is_single = !calls.parallel || matches!(calls.choice, ToolChoice::Named(_));
    let more = match between {
        Some(between) if !is_single => format!("( {} call )*", text(between)),
        _ => String::new(),
    };
    let end = mark(end, environment).expression();
    format!("{} call {more} {} {end}", text(open), text(close))
}

/// Free text in which a block's start binds what follows.
fn free(calls: &ToolCalls, start: &Mark, draft: &mut Draft) -> String {
    draft.text(&start.rule_up_to("head"));
    draft.rule("rest", ANY_TEXT);
    let repeated = if calls.parallel {
        "( head tail )* rest"
    } else {
        "rest | head tail"
    };
    if !calls.format.is_start_optional {
        return repeated.to_owned();
    }
    // Without a mark, the first character tells a call from an answer in words.
    let opening = match calls.format.call {
        CallFormat::Python => "\\[",
        CallFormat::Object { .. } | CallFormat::Named { .. } => "{",
    };
    draft.rule("words", &format!("/[^{opening}](?s:.*)/"));
    format!("words | ( {} )? tail", start.expression())
}

/// One call of a tool.
fn call(calls: &ToolCalls, tool: &Tool, environment: &TokEnv, draft: &mut Draft) -> String {
    // Where the model may answer in words, only strict tools are bound by their schema.
    let is_bound = calls.choice != ToolChoice::Auto || tool.strict;
    let any = json!({"type": "object"});
    let schema = tool.parameters.clone().filter(|_| is_bound).unwrap_or(any);
    let schema = as_object(schema);
    match calls.format.call {
        CallFormat::Object { arguments } => {
            let name = Value::String(tool.name.clone());
            let head = literal(&format!("{{\"name\": {name}, \"{arguments}\": "));
            let schema = draft.schema(prepared(&schema, tool.strict));
            format!("{head} {schema} \"}}\"")
        }
        CallFormat::Named { separator } => {
            let schema = draft.schema(prepared(&schema, tool.strict));
            let separator = mark(separator, environment).expression();
            format!("{} {separator} {schema}", literal(&tool.name))
        }
        CallFormat::Python => {
            let head = literal(&format!("{}(", tool.name));
            format!(
                "{head} {} \")\"",
                keywords(&tool.name, &schema, tool.strict, draft)
            )
        }
    }
}

/// Arguments are an object, even if the schema does not say so.
fn as_object(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut()
        && !object.contains_key("type")
        && !object.contains_key("$ref")
    {
        object.insert("type".to_owned(), json!("object"));
    }
    schema
}

/// Arguments as Python writes them, in the order of the schema. Returns the name of the rule.
fn keywords(tool: &str, schema: &Value, strict: bool, draft: &mut Draft) -> String {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let prefix = format!("arguments_{}", draft.next_index());
    if properties.is_empty() {
        if schema["additionalProperties"] == false || tool.is_empty() {
            draft.rule(&prefix, "\"\"");
        } else {
            let value = draft.schema(prepared(&json!({}), strict));
            draft.rule(
                &format!("{prefix}_item"),
                &format!("/[A-Za-z_][A-Za-z0-9_]*=/ {value}"),
            );
            draft.rule(
                &prefix,
                &format!("( {prefix}_item ( \", \" {prefix}_item )* )?"),
            );
        }
        return prefix;
    }
    // For every place in the list two rules: for when nothing stands before it yet, and for when something does.
    let count = properties.len();
    for (index, (name, property)) in properties.iter().enumerate() {
        let value = keyword_value(property, schema, strict, draft);
        draft.rule(
            &format!("{prefix}_item_{index}"),
            &format!("{} {value}", literal(&format!("{name}="))),
        );
        let is_required = required.iter().any(|required| required == name);
        let skip = |stage: &str| {
            if is_required {
                String::new()
            } else {
                format!(" | {prefix}_{stage}_{}", index + 1)
            }
        };
        let next = format!("{prefix}_next_{}", index + 1);
        let item = format!("{prefix}_item_{index}");
        draft.rule(
            &format!("{prefix}_first_{index}"),
            &format!("{item} {next}{}", skip("first")),
        );
        draft.rule(
            &format!("{prefix}_next_{index}"),
            &format!("\", \" {item} {next}{}", skip("next")),
        );
    }
    draft.rule(&format!("{prefix}_first_{count}"), "\"\"");
    draft.rule(&format!("{prefix}_next_{count}"), "\"\"");
    format!("{prefix}_first_0")
}

/// The value of an argument. Python writes truth with a capital letter; everything else is written as in JSON.
fn keyword_value(property: &Value, schema: &Value, strict: bool, draft: &mut Draft) -> String {
    if property["type"] == "boolean"
        && property.get("enum").is_none()
        && property.get("const").is_none()
    {
        return "( \"True\" | \"False\" )".to_owned();
    }
    let mut property = property.clone();
    if let Some(object) = property.as_object_mut() {
        // References are to the whole schema.
        for definitions in ["$defs", "definitions"] {
            if let Some(found) = schema.get(definitions) {
                object.entry(definitions).or_insert_with(|| found.clone());
            }
        }
    }
    draft.schema(prepared(&property, strict))
}
