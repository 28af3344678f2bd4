//! JSON that is passed on as it is written: not a byte of it changes between the two APIs.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use serde_json::value::RawValue;

/// A JSON value as its author wrote it.
#[derive(Clone)]
pub(super) struct Json(Box<RawValue>);

impl Json {
    /// The text.
    pub(super) fn text(&self) -> &str {
        self.0.get()
    }

    /// The text without the space between its tokens.
    pub(super) fn compact(&self) -> String {
        let mut compact = String::with_capacity(self.text().len());
        let (mut is_in_text, mut is_escaped) = (false, false);
        for letter in self.text().chars() {
            if is_in_text || !letter.is_ascii_whitespace() {
                compact.push(letter);
            }
            match letter {
                '"' if !is_escaped => is_in_text = !is_in_text,
                _ => {}
            }
            is_escaped = is_in_text && letter == '\\' && !is_escaped;
        }
        compact
    }

    /// Reads a text as JSON; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str::<&RawValue>(text).ok().map(Self::from)
    }

    /// The object that a text holds: arguments of a call, which may also be left out.
    pub(super) fn object(text: &str) -> Option<Self> {
        match text.trim_ascii() {
            "" => Self::parse("{}"),
            text if text.starts_with('{') => Self::parse(text),
            _ => None,
        }
    }

    /// The value that a type reads from the text.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_str(self.text()).ok()
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        // The text of a value is always JSON.
        Self(RawValue::from_string(value.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

/// A number as its author wrote it: reading it as binary could change its last digit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Numeral(Json);

impl Numeral {
    /// Its value.
    pub(super) fn as_f64(&self) -> Option<f64> {
        self.0.read()
    }
}

impl<'de> Deserialize<'de> for Numeral {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        match json
            .text()
            .starts_with(|first: char| first == '-' || first.is_ascii_digit())
        {
            true => Ok(Self(json)),
            false => Err(de::Error::custom("expected a number")),
        }
    }
}

/// Fields that we do not understand, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extra(Vec<(String, Json)>);

impl Extra {
    /// Those fields.
    pub(super) fn new(fields: Vec<(String, Json)>) -> Self {
        Self(fields)
    }

    /// Leaves out the fields that the body has already, so that none stands there twice.
    pub(super) fn without(&self, names: &[&str]) -> Self {
        let is_free = |(name, _): &&(String, Json)| !names.contains(&name.as_str());
        Self(self.0.iter().filter(is_free).cloned().collect())
    }

    /// Those of these names.
    pub(super) fn only(&self, names: &[&str]) -> Self {
        let is_named = |(name, _): &&(String, Json)| names.contains(&name.as_str());
        Self(self.0.iter().filter(is_named).cloned().collect())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::Json;

    #[test]
    fn compact_json_keeps_the_spaces_in_texts() {
        let json = Json::parse("{ \"a \\\" \\\\\" : [1.50,\n 2] }").unwrap();
        assert_eq!(json.compact(), "{\"a \\\" \\\\\":[1.50,2]}");
    }
}
