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
    #[error("the state would be larger than {limit} bytes")]
    TooLarge { limit: usize },
}

/// Writes `write` over `current`.
pub(crate) fn reduce(
    channel: &str,
    reducer: Reducer,
    current: Value,
    write: Value,
) -> Result<Value, InvalidWrite> {
    match reducer {
        Reducer::Replace => Ok(write),
        Reducer::Append => Ok(append(current, write)),
        Reducer::Merge => merge(channel, current, write),
        Reducer::Sum => sum(channel, &current, &write),
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

fn merge(channel: &str, current: Value, write: Value) -> Result<Value, InvalidWrite> {
    let Value::Object(write) = write else {
        return Err(InvalidWrite::NotObject {
            channel: channel.to_owned(),
            given: kind(&write),
        });
    };
    let mut merged = match current {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    merged.extend(write);
    Ok(Value::Object(merged))
}

fn sum(channel: &str, current: &Value, write: &Value) -> Result<Value, InvalidWrite> {
    let number = |value: &Value| match value {
        Value::Number(number) => Ok(number.clone()),
        Value::Null => Ok(Number::from(0)),
        other => Err(InvalidWrite::NotNumber {
            channel: channel.to_owned(),
            given: kind(other),
        }),
    };
    let (left, right) = (number(current)?, number(write)?);
    let overflow = || InvalidWrite::Overflow {
        channel: channel.to_owned(),
    };
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return left
            .checked_add(right)
            .map(Value::from)
            .ok_or_else(overflow);
    }
    let total = left.as_f64().unwrap_or(f64::NAN) + right.as_f64().unwrap_or(f64::NAN);
    Number::from_f64(total)
        .map(Value::Number)
        .ok_or_else(overflow)
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
