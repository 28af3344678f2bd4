//! Reducers: how a write meets the value of a channel.

use protocol::agent::Reducer;
use serde_json::{Number, Value};
use thiserror::Error;

/// Why a write does not fit its channel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidWrite {
    #[error("no channel is named `{channel}`")]
    UnknownChannel { channel: String },
    #[error("`{channel}` merges objects and was given {given}")]
    NotObject {
        channel: String,
        given: &'static str,
    },
    #[error("`{channel}` sums numbers and was given {given}")]
    NotNumber {
        channel: String,
        given: &'static str,
    },
    #[error("the sum in `{channel}` is too large")]
    Overflow { channel: String },
    #[error("the run has written more than {limit} bytes")]
    LogTooLarge { limit: usize },
    #[error("the state would be larger than {limit} bytes")]
    TooLarge { limit: usize },
}

/// Whether a write fits its channel.
pub(crate) fn check(
    channel: &str,
    reducer: Reducer,
    current: &Value,
    write: &Value,
) -> Result<(), InvalidWrite> {
    match reducer {
        Reducer::Replace | Reducer::Append => Ok(()),
        Reducer::Merge if write.is_object() => Ok(()),
        Reducer::Merge => Err(InvalidWrite::NotObject {
            channel: channel.to_owned(),
            given: kind(write),
        }),
        Reducer::Sum => {
            let other = [current, write]
                .into_iter()
                .find(|value| !value.is_number() && !value.is_null());
            if let Some(other) = other {
                return Err(InvalidWrite::NotNumber {
                    channel: channel.to_owned(),
                    given: kind(other),
                });
            }
            match sum(current, write) {
                Some(_) => Ok(()),
                None => Err(InvalidWrite::Overflow {
                    channel: channel.to_owned(),
                }),
            }
        }
    }
}

/// Writes over the current value what [`check`] found to fit.
pub(crate) fn reduce(reducer: Reducer, current: Value, write: Value) -> Value {
    match reducer {
        Reducer::Replace => write,
        Reducer::Append => append(current, write),
        Reducer::Merge => merge(current, write),
        Reducer::Sum => sum(&current, &write).unwrap_or(current),
    }
}

fn append(current: Value, write: Value) -> Value {
    let mut items = match current {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => vec![other],
    };
    match write {
        Value::Array(more) => items.extend(more),
        one => items.push(one),
    }
    Value::Array(items)
}

fn merge(current: Value, write: Value) -> Value {
    match (current, write) {
        (Value::Object(mut merged), Value::Object(write)) => {
            merged.extend(write);
            Value::Object(merged)
        }
        (_, write) => write,
    }
}

/// The sum, null counting as nothing; `None` if it is no JSON number.
fn sum(left: &Value, right: &Value) -> Option<Value> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.clone(),
        _ => Number::from(0),
    };
    let (left, right) = (number(left), number(right));
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return left.checked_add(right).map(Value::from);
    }
    let total = left.as_f64()? + right.as_f64()?;
    Number::from_f64(total).map(Value::Number)
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
