//! What may be wrong with a wish, and where in its schema.

use std::slice;

use llguidance::api::TopLevelGrammar;
use serde_json::Value;

use super::source::prepared;
use super::{Compiler, GrammarError, GrammarSpec};

/// Bytes of a regular expression, a grammar, all choices or all schemas together.
const BYTES_MAX: usize = 1 << 20;
/// Levels of a schema, where each object or list is one. What comes over HTTP has at most 128.
const DEPTH_MAX: usize = 256;
/// What bounds a number.
const BOUNDS: [&str; 4] = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"];
/// Parts of a schema that are tried to find the one at fault.
const ATTEMPTS_MAX: usize = 64;

/// Checks the size of a wish before anything is done about it.
pub(super) fn check(spec: &GrammarSpec) -> Result<(), GrammarError> {
    let bytes = match spec {
        GrammarSpec::JsonObject => 0,
        GrammarSpec::Regex(text) | GrammarSpec::Lark(text) => text.len(),
        GrammarSpec::Choice(choices) => choices.iter().map(String::len).sum(),
        GrammarSpec::StructuralTag { triggers, .. } => triggers.iter().map(String::len).sum(),
        GrammarSpec::JsonSchema { .. } | GrammarSpec::ToolCalls(_) => 0,
        GrammarSpec::Either(specs) => return specs.iter().try_for_each(check),
    };
    let mut total = bytes;
    for schema in schemas(spec) {
        let (bytes, depth) = measure(schema);
        total += bytes;
        limit("the depth of the schema", depth, DEPTH_MAX)?;
    }
    limit("the size in bytes", total, BYTES_MAX)?;
    schemas(spec).into_iter().try_for_each(check_bounds)
}

/// Refuses bounds that the compiler breaks at: a panic is caught, but its backtrace takes seconds on a busy machine.
fn check_bounds(schema: &Value) -> Result<(), GrammarError> {
    let mut rest = vec![schema];
    while let Some(schema) = rest.pop() {
        let kind = &schema["type"];
        let kinds = kind.as_array().map_or(slice::from_ref(kind), Vec::as_slice);
        let is_too_low = |name: &&str| {
            let bound = schema[*name].as_f64();
            bound.is_some_and(|bound| bound <= i64::MIN as f64)
        };
        if kinds.iter().any(|kind| kind == "integer")
            && let Some(name) = BOUNDS.iter().find(|name| is_too_low(name))
        {
            let message = format!(
                "`{name}` is {}, and no 64-bit integer lies below",
                schema[name]
            );
            return Err(GrammarError::invalid(message));
        }
        rest.extend(parts(schema).into_iter().map(|(_, part)| part));
    }
    Ok(())
}

fn schemas(spec: &GrammarSpec) -> Vec<&Value> {
    match spec {
        GrammarSpec::JsonSchema { schema, .. } => vec![schema],
        GrammarSpec::ToolCalls(calls) => calls
            .tools
            .iter()
            .filter_map(|tool| tool.parameters.as_ref())
            .collect(),
        GrammarSpec::StructuralTag { structures, .. } => structures
            .iter()
            .map(|structure| &structure.schema)
            .collect(),
        GrammarSpec::JsonObject
        | GrammarSpec::Regex(_)
        | GrammarSpec::Choice(_)
        | GrammarSpec::Lark(_)
        | GrammarSpec::Either(_) => Vec::new(),
    }
}

const fn limit(what: &'static str, value: usize, limit: usize) -> Result<(), GrammarError> {
    if limit < value {
        return Err(GrammarError::TooLarge { what, value, limit });
    }
    Ok(())
}

/// About how many bytes a value has as text, and how deep it is. Does not recurse.
fn measure(value: &Value) -> (usize, usize) {
    let (mut bytes, mut deepest) = (0, 0);
    let mut rest = vec![(value, 1)];
    while let Some((value, depth)) = rest.pop() {
        deepest = deepest.max(depth);
        bytes += 1;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => bytes += 4,
            Value::String(text) => bytes += text.len() + 2,
            Value::Array(items) => rest.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => {
                bytes += members.keys().map(|key| key.len() + 4).sum::<usize>();
                rest.extend(members.values().map(|member| (member, depth + 1)));
            }
        }
        if DEPTH_MAX < deepest {
            break;
        }
    }
    (bytes, deepest)
}

/// The error for a wish that did not compile: names the innermost part of the schema that has the same fault alone.
pub(super) fn locate(compiler: &Compiler, spec: &GrammarSpec, message: String) -> GrammarError {
    if let GrammarSpec::Either(specs) = spec {
        let mut alone = specs.iter().map(|spec| compiler.compile(spec, None));
        let fault = alone.find_map(Result::err);
        return fault.unwrap_or_else(|| GrammarError::invalid(message));
    }
    let GrammarSpec::JsonSchema { schema, strict } = spec else {
        return GrammarError::invalid(message);
    };
    let mut search = Search {
        compiler,
        root: schema,
        strict: *strict,
        attempts: 0,
    };
    let mut path = "$".to_owned();
    let mut place = schema;
    let mut fault = message;
    while let Some((step, part, message)) = search.faulty_part(place, &fault) {
        path.push_str(&step);
        place = part;
        fault = message;
    }
    GrammarError::invalid_at(path, fault)
}

struct Search<'a> {
    compiler: &'a Compiler,
    root: &'a Value,
    strict: bool,
    attempts: usize,
}

impl<'a> Search<'a> {
    /// The first part of a schema that has this fault, with the step to it.
    fn faulty_part(
        &mut self,
        schema: &'a Value,
        fault: &str,
    ) -> Option<(String, &'a Value, String)> {
        for (step, part) in parts(schema) {
            self.attempts += 1;
            if ATTEMPTS_MAX < self.attempts {
                return None;
            }
            let grammar = TopLevelGrammar::from_json_schema(self.alone(part));
            // A part may well be impossible in itself where the whole is not; it is at fault only if the whole
            // says the same.
            if let Err(message) = self.compiler.matcher(grammar)
                && fault.contains(core(&message))
            {
                return Some((step, part, message));
            }
        }
        None
    }

    /// A part with the definitions that it may refer to.
    fn alone(&self, part: &Value) -> Value {
        let mut part = prepared(part, self.strict);
        if let Some(object) = part.as_object_mut() {
            for key in ["$defs", "definitions", "$schema", "$id"] {
                if let Some(value) = self.root.get(key) {
                    object.entry(key).or_insert_with(|| value.clone());
                }
            }
        }
        part
    }
}

/// The message without what was being done.
fn core(message: &str) -> &str {
    let end = message.find("  while processing").unwrap_or(message.len());
    message[..end].trim()
}

/// The schemas in a schema, with the step to each.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match key.as_str() {
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                let members = value.as_object().into_iter().flatten();
                parts.extend(members.map(|(name, part)| (format!(".{key}.{name}"), part)));
            }
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                parts.extend(items.map(|(index, part)| (format!(".{key}[{index}]"), part)));
            }
            "items"
            | "additionalProperties"
            | "contains"
            | "not"
            | "if"
            | "then"
            | "else"
            | "propertyNames"
                if value.is_object() =>
            {
                parts.push((format!(".{key}"), value));
            }
            _ => {}
        }
    }
    parts
}
