//! Validation rules in CEL: compiled once per schema node, run where values changed.

mod fields;

use std::cell::OnceCell;

use kube_cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use serde_json::{Map, Value, json};

use super::{Additional, Kind, Structural, child, index};
use crate::status::Cause;

pub(crate) use self::fields::check_rule;

thread_local! {
    // Registering the function libraries costs more than most rules.
    static VALIDATOR: OnceCell<Validator> = const { OnceCell::new() };
}

/// The rules of one schema node.
#[derive(Debug)]
pub(crate) struct Rules {
    compiled: CompiledSchema,
    has_transitions: bool,
}

impl Rules {
    /// Compiles the rules of a node; `None` when it has none.
    pub(super) fn compile(schema: &Value) -> Option<Self> {
        let rules = schema.get("x-kubernetes-validations")?.as_array()?;
        if rules.is_empty() {
            return None;
        }
        let mut own = typed_only(schema);
        own.as_object_mut()?.insert(
            "x-kubernetes-validations".to_owned(),
            Value::Array(rules.clone()),
        );
        let compiled = compile_schema(&own);
        let has_transitions = compiled
            .validations
            .iter()
            .flatten()
            .any(|rule| rule.is_transition_rule);
        Some(Self {
            compiled,
            has_transitions,
        })
    }

    fn evaluate(&self, value: &Value, old: Option<&Value>) -> Vec<ValidationError> {
        VALIDATOR.with(|cell| {
            let validator = cell.get_or_init(Validator::new);
            match validator.validate_compiled(&self.compiled, value, old) {
                Ok(()) => Vec::new(),
                Err(errors) => errors.into_vec(),
            }
        })
    }

    fn cause(&self, error: &ValidationError, path: &str, kind: Option<Kind>) -> Cause {
        let relative = error.field_path.trim_start_matches('.');
        let field = match (relative.is_empty(), path.is_empty()) {
            (true, true) => "<nil>".to_owned(),
            (true, false) => path.to_owned(),
            (false, _) => child(path, relative),
        };
        match error.kind {
            ErrorKind::ValidationFailure => {
                let message = error.message.trim();
                match error.reason.as_deref() {
                    Some("FieldValueForbidden") => Cause::forbidden(field, message),
                    Some("FieldValueRequired") => Cause::required(field, message),
                    Some("FieldValueDuplicate") => Cause {
                        reason: "FieldValueDuplicate",
                        message: format!("Duplicate value: {message}"),
                        field,
                    },
                    _ => Cause::invalid_omitted(field, message),
                }
            }
            _ => {
                let fault = error.message.trim_start_matches("rule evaluation error: ");
                let fault = fault.replacen("No such key", "no such key", 1);
                let rules = self.compiled.validations.iter().flatten();
                let rule = rules
                    .map(|one| &one.rule)
                    .find(|rule| rule.rule == error.rule);
                let said = rule
                    .and_then(|rule| rule.message.clone())
                    .unwrap_or_else(|| error.rule.clone());
                let shown = Value::String(kind_name(kind).to_owned());
                Cause::invalid(field, &shown, &format!("{fault} evaluating rule: {said}"))
            }
        }
    }
}

fn kind_name(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Object) | None => "object",
        Some(Kind::Array) => "array",
        Some(Kind::String) => "string",
        Some(Kind::Integer) => "integer",
        Some(Kind::Number) => "number",
        Some(Kind::Boolean) => "boolean",
    }
}

/// A schema without rules, defaults and limits: what is needed to convert values.
fn typed_only(schema: &Value) -> Value {
    const KEPT: [&str; 6] = [
        "type",
        "format",
        "nullable",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ];
    let Some(fields) = schema.as_object() else {
        return schema.clone();
    };
    let mut out = Map::new();
    for key in KEPT {
        if let Some(value) = fields.get(key) {
            out.insert(key.to_owned(), value.clone());
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(value) = fields.get(key) {
            out.insert(key.to_owned(), typed_only(value));
        }
    }
    if let Some(properties) = fields.get("properties").and_then(Value::as_object) {
        let typed: Map<_, _> = properties
            .iter()
            .map(|(name, one)| (name.clone(), typed_only(one)))
            .collect();
        out.insert("properties".to_owned(), json!(typed));
    }
    Value::Object(out)
}

impl Structural {
    /// Whether this node or one below it has rules; built-in schemas never do.
    pub(super) fn has_rules(&self) -> bool {
        self.has_rules_below
    }

    /// Runs the rules on a value and on what is in it.
    pub(super) fn check_rules(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        causes: &mut Vec<Cause>,
    ) {
        if !self.has_rules_below {
            return;
        }
        if let Some(rules) = &self.rules {
            let is_unchanged = old == Some(value);
            let is_absent = value.is_null() && self.is_nullable;
            if !is_absent && (!is_unchanged || rules.has_transitions) {
                let errors = rules.evaluate(value, old);
                causes.extend(
                    errors
                        .iter()
                        .map(|error| rules.cause(error, path, self.kind)),
                );
            }
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let node = self.properties.get(name).or(match &self.additional {
                        Additional::Schema(node) => Some(node),
                        Additional::None | Additional::Any => None,
                    });
                    if let Some(node) = node {
                        let old = old.and_then(|old| old.get(name));
                        node.schema()
                            .check_rules(field, old, &child(path, name), causes);
                    }
                }
            }
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                for (at, item) in items.iter().enumerate() {
                    node.schema().check_rules(
                        item,
                        self.old_item(old, item),
                        &index(path, at),
                        causes,
                    );
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
