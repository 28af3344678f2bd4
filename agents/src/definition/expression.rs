//! CEL expressions over `state`, `input` and `run`: compiled once, evaluated on a shared root context.
//!
//! Building CEL's default context costs twenty times an evaluation, so there is one for the process and each
//! evaluation adds a scope to it. JSON integers become CEL `int`, so that `state.tries + 1` means what it says.

mod convert;
mod free;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use cel::{Context, Program};
use serde_json::{Map, Value};
use thiserror::Error;

use self::{
    convert::{entries_to_cel, from_cel, to_cel},
    free::free_variables,
};
use super::{RunFacts, uses::Uses};

/// Longest source of an expression, in bytes.
const SOURCE_BYTES_MAX: usize = 32 * 1024;

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
    uses: Uses,
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
        let uses = Uses::of(free.iter().map(String::as_str)).map_err(|name| {
            InvalidExpression::UnknownVariable {
                expression: source.to_owned(),
                name,
            }
        })?;
        Ok(Self {
            source: source.to_owned(),
            program,
            uses,
        })
    }

    pub(crate) fn evaluate(&self, scope: Scope<'_>) -> Result<Value, EvaluationError> {
        let mut context = ROOT.new_inner_scope();
        if self.uses.state() {
            context.add_variable_from_value("state", entries_to_cel(self.uses.channels(scope)));
        }
        if self.uses.input() {
            context.add_variable_from_value("input", to_cel(scope.input()));
        }
        if self.uses.run() {
            context.add_variable_from_value("run", to_cel(&serde_json::json!(scope.run)));
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
