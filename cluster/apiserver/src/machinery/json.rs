//! Request bodies in: JSON and YAML read once, with the duplicate fields that strict validation reports.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting of a body that is read.
const DEPTH_MAX: usize = 200;

/// A body that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The value; of duplicate fields the last one.
    pub value: Value,
    /// One sentence per duplicate field: `duplicate field "spec.image"`.
    pub duplicates: Vec<String>,
}

/// A body that is no JSON or YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What Go's decoder says about it.
    pub message: String,
}

/// Reads a JSON body.
///
/// # Errors
/// [`ParseError`] in the wording of Go's decoder.
pub fn parse_json(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let mut reader = Reader::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = ValueSeed {
        reader: &mut reader,
        depth: 0,
    };
    let parsed = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    match parsed {
        Ok(value) => Ok(Parsed {
            value,
            duplicates: reader.duplicates,
        }),
        Err(error) => Err(ParseError {
            message: go_wording(bytes, &error),
        }),
    }
}

/// Reads a YAML body (or JSON, which is YAML too).
///
/// # Errors
/// [`ParseError`] when it is neither.
pub fn parse_yaml(bytes: &[u8]) -> Result<Parsed, ParseError> {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && let Ok(parsed) = parse_json(bytes)
    {
        return Ok(parsed);
    }
    let mut reader = Reader::default();
    let Some(document) = serde_norway::Deserializer::from_slice(bytes).next() else {
        return Ok(Parsed {
            value: Value::Null,
            duplicates: Vec::new(),
        });
    };
    let value = ValueSeed {
        reader: &mut reader,
        depth: 0,
    }
    .deserialize(document)
    .map_err(|error| ParseError {
        message: format!("error converting YAML to JSON: yaml: {error}"),
    })?;
    Ok(Parsed {
        value,
        duplicates: reader.duplicates,
    })
}

/// What Go's `encoding/json` says about the same fault.
fn go_wording(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let line_start = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len);
    let at = line_start.sum::<usize>() + error.column().saturating_sub(1);
    let symbol = bytes
        .get(at)
        .map_or_else(|| "EOF".to_owned(), |byte| go_char(*byte));
    let text = error.to_string();
    let place = if text.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if text.starts_with("expected `,` or `]`") {
        "after array element"
    } else if text.starts_with("expected `:`") {
        "after object key"
    } else if text.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if text.starts_with("trailing characters") {
        "after top-level value"
    } else {
        "looking for beginning of value"
    };
    format!("invalid character {symbol} {place}")
}

/// A byte in Go's `%q` form for characters.
fn go_char(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".to_owned(),
        b'\n' => "'\\n'".to_owned(),
        0x20..=0x7e => format!("'{}'", char::from(byte)),
        other => format!("'\\x{other:02x}'"),
    }
}

/// A value in Go's `%v` form.
pub(crate) fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(go_value).collect::<Vec<_>>().join(" ")
        ),
        Value::Object(fields) => {
            let mut parts: Vec<String> = fields
                .iter()
                .map(|(name, field)| format!("{name}:{}", go_value(field)))
                .collect();
            parts.sort();
            format!("map[{}]", parts.join(" "))
        }
    }
}

/// Where the reader is, and what it has met twice.
#[derive(Debug, Default)]
struct Reader {
    path: String,
    duplicates: Vec<String>,
}

struct ValueSeed<'a> {
    reader: &'a mut Reader,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > DEPTH_MAX {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        let length = self.reader.path.len();
        loop {
            self.reader.path.push_str(&format!("[{}]", out.len()));
            let item = items.next_element_seed(ValueSeed {
                reader: self.reader,
                depth: self.depth + 1,
            })?;
            self.reader.path.truncate(length);
            match item {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        let length = self.reader.path.len();
        while let Some(key) = entries.next_key_seed(KeySeed)? {
            if length > 0 {
                self.reader.path.push('.');
            }
            self.reader.path.push_str(&key);
            if out.contains_key(&key) {
                let sentence = format!("duplicate field \"{}\"", self.reader.path);
                self.reader.duplicates.push(sentence);
            }
            let value = entries.next_value_seed(ValueSeed {
                reader: self.reader,
                depth: self.depth + 1,
            })?;
            self.reader.path.truncate(length);
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

/// Whole floats become integers, as they are written by Go.
fn number(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "bounded above by 2^53")]
        return Value::Number((value as i64).into());
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Keys are strings in JSON; YAML may write them as numbers or booleans.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = String;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a field name")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check_duplicates(body: &str, expected: &[&str]) {
        let json = parse_json(body.as_bytes()).unwrap();
        let yaml = parse_yaml(body.as_bytes()).unwrap();
        assert_eq!(json.duplicates, expected);
        assert_eq!(json, yaml);
    }

    #[test]
    fn duplicates_are_named_by_their_path() {
        check_duplicates(r#"{"a": 1, "b": {"c": [1, {"d": 1}]}}"#, &[]);
        check_duplicates(r#"{"a": 1, "a": 2}"#, &["duplicate field \"a\""]);
        check_duplicates(
            r#"{"s": {"i": "x", "i": "y"}}"#,
            &["duplicate field \"s.i\""],
        );
        check_duplicates(
            r#"{"l": [{}, {"x": 1, "x": 1}]}"#,
            &["duplicate field \"l[1].x\""],
        );
    }

    #[track_caller]
    fn check_fault(body: &str, expected: &str) {
        assert_eq!(parse_json(body.as_bytes()).unwrap_err().message, expected);
    }

    #[test]
    fn faults_are_worded_as_go_words_them() {
        check_fault("{\"apiVersion\":", "unexpected end of JSON input");
        check_fault("", "unexpected end of JSON input");
        check_fault(
            "hello",
            "invalid character 'h' looking for beginning of value",
        );
        check_fault("{} x", "invalid character 'x' after top-level value");
    }

    #[test]
    fn yaml_scalars_become_json_scalars() {
        let parsed =
            parse_yaml(b"a: 1\nb: {c: true, d: 1.0, e: 0.5}\nf: [x, null]\n1: y\n").unwrap();
        assert_eq!(
            parsed.value,
            json!({"a": 1, "b": {"c": true, "d": 1, "e": 0.5}, "f": ["x", null], "1": "y"})
        );
    }
}
