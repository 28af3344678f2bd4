//! Whether an applied configuration fits its schema, in the words of the merging library.

use std::collections::BTreeSet;

use serde_json::Value;

use super::shape::{Shape, Type};
use crate::machinery::json::go_value;
use crate::machinery::schema::{Kind, Structural};

/// Complains about undeclared fields, wrong types and ambiguous list items.
pub(super) fn check(value: &Value, schema: &Structural) -> Result<(), String> {
    let mut faults = Vec::new();
    walk(value, Type::Known(schema), "", &mut faults);
    match faults.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!(
            "errors:\n{}",
            many.iter()
                .map(|fault| format!("  {fault}"))
                .collect::<Vec<_>>()
                .join("\n")
        )),
    }
}

fn walk(value: &Value, kind: Type<'_>, path: &str, faults: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let mut complain = |fault: &str| {
        faults.push(if path.is_empty() {
            fault.to_owned()
        } else {
            format!("{path}: {fault}")
        });
    };
    match (kind.shape(value), value) {
        (Shape::Scalar, _) => {
            if let Some(fault) = scalar_fault(value, kind) {
                complain(&fault);
            }
        }
        (Shape::Map { .. }, Value::Object(fields)) => {
            for (name, field) in fields {
                let at = format!("{path}.{name}");
                if kind.admits(name) {
                    walk(field, kind.field(name), &at, faults);
                } else {
                    faults.push(format!("{at}: field not declared in schema"));
                }
            }
        }
        (Shape::Map { .. }, other) => {
            complain(&format!("expected map, got &{{{}}}", go_value(other)));
        }
        (Shape::List { is_atomic }, Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (at, item) in items.iter().enumerate() {
                let step = match kind.step(item, at) {
                    Ok(step) => step,
                    Err(fault) => {
                        faults.push(format!("{path}: element {at}: {fault}"));
                        continue;
                    }
                };
                let display = step.display();
                if !is_atomic && !seen.insert(step) {
                    faults.push(format!("{path}: duplicate entries for key {display}"));
                }
                walk(item, kind.item(), &format!("{path}{display}"), faults);
            }
        }
        (Shape::List { .. }, other) => {
            complain(&format!("expected list, got &{{{}}}", go_value(other)));
        }
    }
}

fn scalar_fault(value: &Value, kind: Type<'_>) -> Option<String> {
    let Type::Known(schema) = kind else {
        return None;
    };
    let shown = || format!("&value.valueUnstructured{{Value:{}}}", go_syntax(value));
    match schema.kind {
        Some(Kind::String) if !value.is_string() => {
            Some(format!("expected string, got {}", shown()))
        }
        Some(Kind::Boolean) if !value.is_boolean() => {
            Some(format!("expected boolean, got {}", shown()))
        }
        Some(Kind::Integer | Kind::Number) if !value.is_number() => Some(format!(
            "expected numeric (int or float), got {}",
            go_type(value)
        )),
        None if value.is_object() || value.is_array() => {
            Some(format!("expected scalar, got &{{{}}}", go_value(value)))
        }
        _ => None,
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value in Go's `%#v` form.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut parts: Vec<String> = fields
                .iter()
                .map(|(name, field)| format!("\"{name}\":{}", go_syntax(field)))
                .collect();
            parts.sort();
            format!("map[string]interface {{}}{{{}}}", parts.join(", "))
        }
        Value::Array(items) => format!(
            "[]interface {{}}{{{}}}",
            items.iter().map(go_syntax).collect::<Vec<_>>().join(", ")
        ),
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
