//! CEL expressions over `state`, `input` and `run`: compiled once, evaluated on a shared root context.
//!
//! Building CEL's default context costs twenty times an evaluation, so there is one for the process and each
//! evaluation adds a scope to it. JSON integers become CEL `int`, so that `state.tries + 1` means what it says.

use std::{
    collections::{BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Program, Value as CelValue,
    common::ast::{EntryExpr, Expr},
    objects::Key,
};
use serde_json::{Map, Value};
use thiserror::Error;

use super::RunFacts;

/// Longest source of an expression, in bytes.
const SOURCE_BYTES_MAX: usize = 32 * 1024;

/// The names that an expression may use.
const VARIABLES: [&str; 3] = ["state", "input", "run"];

static ROOT: LazyLock<Context<'static>> = LazyLock::new(Context::default);

/// What templates and expressions see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// All channels, `input` among them.
    pub(crate) state: &'a Map<String, Value>,
    pub(crate) run: &'a RunFacts,
}

impl Scope<'_> {
    /// The run's input.
    pub(crate) fn input(&self) -> &Value {
        self.state.get("input").unwrap_or(&Value::Null)
    }
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidExpression {
    #[error("the expression is longer than {SOURCE_BYTES_MAX} bytes")]
    TooLong,
    #[error("`{expression}` is not CEL: {reason}")]
    Syntax { expression: String, reason: String },
    #[error("`{expression}` uses `{name}`; expressions see `state`, `input` and `run`")]
    UnknownVariable { expression: String, name: String },
}

/// Why an expression gave nothing usable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum EvaluationError {
    #[error("evaluating `{expression}`: {reason}")]
    Failed { expression: String, reason: String },
    #[error("`{expression}` gives {value}, which is not a boolean")]
    NotBoolean { expression: String, value: String },
}

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    program: Program,
    uses: BTreeSet<&'static str>,
}

impl Expression {
    pub(crate) fn compile(source: &str) -> Result<Self, InvalidExpression> {
        if SOURCE_BYTES_MAX < source.len() {
            return Err(InvalidExpression::TooLong);
        }
        let syntax = |reason: String| InvalidExpression::Syntax {
            expression: source.to_owned(),
            reason,
        };
        // The parser comes from outside and is fed by users: a panic in it is a bad expression, not our end.
        let program = catch_unwind(|| Program::compile(source))
            .map_err(|_| syntax("the parser gave up".to_owned()))?
            .map_err(|errors| syntax(one_line(&errors.to_string())))?;
        let mut free = BTreeSet::new();
        free_variables(&program.expression().expr, &mut Vec::new(), &mut free);
        let mut uses = BTreeSet::new();
        for name in free {
            let Some(known) = VARIABLES.into_iter().find(|known| *known == name) else {
                return Err(InvalidExpression::UnknownVariable {
                    expression: source.to_owned(),
                    name,
                });
            };
            uses.insert(known);
        }
        Ok(Self {
            source: source.to_owned(),
            program,
            uses,
        })
    }

    pub(crate) fn evaluate(&self, scope: Scope<'_>) -> Result<Value, EvaluationError> {
        let mut context = ROOT.new_inner_scope();
        for name in &self.uses {
            let value = match *name {
                "state" => object_to_cel(scope.state),
                "input" => to_cel(scope.input()),
                _ => to_cel(&serde_json::json!(scope.run)),
            };
            context.add_variable_from_value(*name, value);
        }
        let failed = |reason: String| EvaluationError::Failed {
            expression: self.source.clone(),
            reason,
        };
        let value = catch_unwind(AssertUnwindSafe(|| self.program.execute(&context)))
            .map_err(|_| failed("the evaluator gave up".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        from_cel(&value).ok_or_else(|| failed("the result is not JSON".to_owned()))
    }

    /// Evaluates a condition.
    pub(crate) fn holds(&self, scope: Scope<'_>) -> Result<bool, EvaluationError> {
        match self.evaluate(scope)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(EvaluationError::NotBoolean {
                expression: self.source.clone(),
                value: other.to_string().chars().take(80).collect(),
            }),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Collects the names that no comprehension binds.
fn free_variables(expression: &Expr, bound: &mut Vec<String>, found: &mut BTreeSet<String>) {
    match expression {
        Expr::Unspecified | Expr::Literal(_) => {}
        // Names with an `@` are the compiler's own.
        Expr::Ident(name) => {
            if !name.starts_with('@') && !bound.contains(name) {
                found.insert(name.clone());
            }
        }
        Expr::Call(call) => {
            for part in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
                free_variables(&part.expr, bound, found);
            }
        }
        Expr::Select(select) => free_variables(&select.operand.expr, bound, found),
        Expr::List(list) => {
            for element in &list.elements {
                free_variables(&element.expr, bound, found);
            }
        }
        Expr::Map(map) => entries(map.entries.iter().map(|entry| &entry.expr), bound, found),
        Expr::Struct(message) => entries(
            message.entries.iter().map(|entry| &entry.expr),
            bound,
            found,
        ),
        Expr::Comprehension(comprehension) => {
            free_variables(&comprehension.iter_range.expr, bound, found);
            free_variables(&comprehension.accu_init.expr, bound, found);
            let outer = bound.len();
            bound.push(comprehension.iter_var.clone());
            bound.extend(comprehension.iter_var2.clone());
            bound.push(comprehension.accu_var.clone());
            for part in [
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ] {
                free_variables(&part.expr, bound, found);
            }
            bound.truncate(outer);
        }
    }
}

fn entries<'a>(
    entries: impl Iterator<Item = &'a EntryExpr>,
    bound: &mut Vec<String>,
    found: &mut BTreeSet<String>,
) {
    for entry in entries {
        match entry {
            EntryExpr::StructField(field) => free_variables(&field.value.expr, bound, found),
            EntryExpr::MapEntry(pair) => {
                free_variables(&pair.key.expr, bound, found);
                free_variables(&pair.value.expr, bound, found);
            }
        }
    }
}

fn to_cel(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(value) => CelValue::Bool(*value),
        Value::Number(number) => number_to_cel(number),
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => object_to_cel(map),
    }
}

fn number_to_cel(number: &serde_json::Number) -> CelValue {
    if let Some(integer) = number.as_i64() {
        return CelValue::Int(integer);
    }
    if let Some(integer) = number.as_u64() {
        return CelValue::UInt(integer);
    }
    CelValue::Float(number.as_f64().unwrap_or(f64::NAN))
}

fn object_to_cel(map: &Map<String, Value>) -> CelValue {
    let map: HashMap<Key, CelValue> = map
        .iter()
        .map(|(key, value)| (Key::from(key.clone()), to_cel(value)))
        .collect();
    CelValue::Map(map.into())
}

/// JSON of a CEL value; maps in the order of their keys, so that equal values are equal text. `None` for what JSON lacks.
fn from_cel(value: &CelValue) -> Option<Value> {
    Some(match value {
        CelValue::Null => Value::Null,
        CelValue::Bool(value) => Value::Bool(*value),
        CelValue::Int(integer) => Value::from(*integer),
        CelValue::UInt(integer) => Value::from(*integer),
        CelValue::Float(float) => Value::Number(serde_json::Number::from_f64(*float)?),
        CelValue::String(text) => Value::String(text.as_ref().clone()),
        CelValue::Timestamp(time) => Value::String(time.to_rfc3339()),
        CelValue::Duration(duration) => {
            Value::String(format!("{}s", duration.num_milliseconds() as f64 / 1000.0))
        }
        CelValue::List(items) => Value::Array(items.iter().map(from_cel).collect::<Option<_>>()?),
        CelValue::Map(map) => {
            let mut pairs: Vec<(String, &CelValue)> = map
                .map
                .iter()
                .map(|(key, value)| (key.to_string(), value))
                .collect();
            pairs.sort_by(|left, right| left.0.cmp(&right.0));
            let pairs = pairs
                .into_iter()
                .map(|(key, value)| Some((key, from_cel(value)?)));
            Value::Object(pairs.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
