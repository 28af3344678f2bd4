//! JSON to CEL and back.

use std::{collections::HashMap, sync::Arc};

use cel::{Value as CelValue, objects::Key};
use serde_json::{Map, Value};

pub(super) fn to_cel(value: &Value) -> CelValue {
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
    entries_to_cel(map.iter())
}

/// A CEL map of these entries.
pub(super) fn entries_to_cel<'a>(
    entries: impl Iterator<Item = (&'a String, &'a Value)>,
) -> CelValue {
    let map: HashMap<Key, CelValue> = entries
        .map(|(key, value)| (Key::from(key.clone()), to_cel(value)))
        .collect();
    CelValue::Map(map.into())
}

/// JSON of a CEL value; maps in the order of their keys, so that equal values are equal text. `None` for what JSON lacks.
pub(super) fn from_cel(value: &CelValue) -> Option<Value> {
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
