//! JSON-RPC messages, read and edited without changing a byte of what is not meant.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A message of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Something is asked.
    Request(Request),
    /// Something is told.
    Notification {
        /// What.
        method: String,
        /// The parameters' text.
        params: Option<String>,
    },
    /// Something is answered.
    Response(Response),
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// The id's text, of a string or an integer.
    pub(super) id: String,
    /// What is asked.
    pub(super) method: String,
    /// The parameters' text.
    pub(super) params: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    /// The text of the request's id; `null` if the answer is to nothing that could be read.
    pub(super) id: String,
    /// The text of the result or of the error.
    pub(super) outcome: Result<String, String>,
}

/// Why something is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InvalidMessage {
    /// No JSON.
    Syntax,
    /// JSON, but no message of JSON-RPC 2.0.
    Shape,
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// [`InvalidMessage`].
    pub(super) fn parse(text: &str) -> Result<Self, InvalidMessage> {
        let object = Object::parse(text)?;
        if object.string("jsonrpc").as_deref() != Some("2.0") {
            return Err(InvalidMessage::Shape);
        }
        let id = object.get("id");
        let params = object.get("params");
        if params.is_some_and(|params| !params.starts_with(['{', '['])) {
            return Err(InvalidMessage::Shape);
        }
        let params = params.map(str::to_owned);
        match (
            object.get("method"),
            object.get("result"),
            object.get("error"),
        ) {
            (Some(_), None, None) => {
                let method = object.string("method").ok_or(InvalidMessage::Shape)?;
                match id {
                    None => Ok(Self::Notification { method, params }),
                    Some(id) if is_id(id) => Ok(Self::Request(Request {
                        id: id.to_owned(),
                        method,
                        params,
                    })),
                    Some(_) => Err(InvalidMessage::Shape),
                }
            }
            (None, Some(result), None) => Self::response(id, Ok(result)),
            (None, None, Some(error)) => Self::response(id, Err(error)),
            _ => Err(InvalidMessage::Shape),
        }
    }

    fn response(id: Option<&str>, outcome: Result<&str, &str>) -> Result<Self, InvalidMessage> {
        let id = id.unwrap_or("null");
        if id != "null" && !is_id(id) {
            return Err(InvalidMessage::Shape);
        }
        Ok(Self::Response(Response {
            id: id.to_owned(),
            outcome: outcome.map(str::to_owned).map_err(str::to_owned),
        }))
    }
}

/// Whether this is a string or an integer.
fn is_id(text: &str) -> bool {
    text.starts_with('"') || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
}

impl Response {
    /// The text of the message.
    pub(super) fn encode(&self) -> String {
        let (field, value) = match &self.outcome {
            Ok(result) => ("result", result),
            Err(error) => ("error", error),
        };
        format!(r#"{{"jsonrpc":"2.0","id":{},"{field}":{value}}}"#, self.id)
    }
}

/// The text of a request.
pub(super) fn request(id: &str, method: &str, params: Option<&str>) -> String {
    let method = quoted(method);
    match params {
        Some(params) => {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#)
        }
        None => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}}}"#),
    }
}

/// The text of a notification.
pub(super) fn notification(method: &str, params: Option<&str>) -> String {
    let method = quoted(method);
    match params {
        Some(params) => format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#),
        None => format!(r#"{{"jsonrpc":"2.0","method":{method}}}"#),
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text from JSON.
pub(super) fn unquoted(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// A JSON object whose fields are read where they stand. A name that comes twice makes it invalid: two readers could take
/// two different values for the one that counts.
#[derive(Debug)]
pub(super) struct Object<'a> {
    text: &'a str,
    fields: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> Object<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// [`InvalidMessage`].
    pub(super) fn parse(text: &'a str) -> Result<Self, InvalidMessage> {
        let text = text.trim_ascii();
        let fields = serde_json::from_str::<Fields<'a>>(text).map_err(|error| {
            if error.is_syntax() || error.is_eof() {
                InvalidMessage::Syntax
            } else {
                InvalidMessage::Shape
            }
        })?;
        Ok(Self {
            text,
            fields: fields.0,
        })
    }

    /// A field's text.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| *value)
    }

    /// A field that is a string.
    pub(super) fn string(&self, name: &str) -> Option<String> {
        self.get(name).and_then(unquoted)
    }

    /// The text of the object with this value in a field; every other byte stays.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        if let Some(old) = self.get(name)
            && let Some(start) = (old.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)
            && let (Some(before), Some(after)) =
                (self.text.get(..start), self.text.get(start + old.len()..))
        {
            return [before, value, after].concat();
        }
        let rest = self.text.strip_prefix('{').unwrap_or(self.text);
        let comma = if self.fields.is_empty() { "" } else { "," };
        [r"{", &quoted(name), ":", value, comma, rest].concat()
    }
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de str)> = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if fields.iter().any(|(field, _)| *field == name) {
                        return Err(M::Error::custom("a field comes twice"));
                    }
                    if FIELDS_MAX <= fields.len() {
                        return Err(M::Error::custom("too many fields"));
                    }
                    fields.push((name, map.next_value::<&'de RawValue>()?.get()));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// Fields of an object that is read here; those that are passed on only may have any number.
const FIELDS_MAX: usize = 64;

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::{InvalidMessage, Message, Object, Request, Response};

    #[track_caller]
    fn check(text: &str, expected: &Result<Message, InvalidMessage>) {
        assert_eq!(Message::parse(text), *expected, "{text}");
    }

    #[test]
    fn messages_are_requests_notifications_or_responses() {
        let request = |id: &str, params: Option<&str>| {
            Ok(Message::Request(Request {
                id: id.to_owned(),
                method: "m".to_owned(),
                params: params.map(str::to_owned),
            }))
        };
        let response = |id: &str, outcome: Result<&str, &str>| {
            Ok(Message::Response(Response {
                id: id.to_owned(),
                outcome: outcome.map(str::to_owned).map_err(str::to_owned),
            }))
        };
        check(
            r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
            &request("1", None),
        );
        check(
            r#" {"method":"m","params":{ "a" : 1.0 },"id":"x\"y","jsonrpc":"2.0"} "#,
            &request(r#""x\"y""#, Some(r#"{ "a" : 1.0 }"#)),
        );
        check(
            r#"{"jsonrpc":"2.0","method":"m"}"#,
            &Ok(Message::Notification {
                method: "m".to_owned(),
                params: None,
            }),
        );
        check(
            r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#,
            &response("7", Ok(r#"{"a":1}"#)),
        );
        check(
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#,
            &response("null", Err(r#"{"code":1}"#)),
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in ["", "{", "nonsense", r#"{"jsonrpc":"2.0",}"#] {
            check(text, &Err(InvalidMessage::Syntax));
        }
        for text in [
            "[]",
            "7",
            r#"{"id":1,"method":"m"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
        ] {
            check(text, &Err(InvalidMessage::Shape));
        }
    }

    #[test]
    fn an_edit_changes_one_value_only() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(Object::parse(text).unwrap().with("name", "7"), expected);
        }
        check(
            r#"{"a": [1 ,2], "name" : "x" }"#,
            r#"{"a": [1 ,2], "name" : 7 }"#,
        );
        check(r#"{"n\u0061me":"x"}"#, r#"{"n\u0061me":7}"#);
        check(r#"{ "a":1.50}"#, r#"{"name":7, "a":1.50}"#);
        check("{}", r#"{"name":7}"#);
    }
}
