//! What must hold of JSON-RPC messages, whatever their bytes.

use serde_json::Value;

use super::message::{Message, Object, notification, request};

/// A message is read as a parser reads it, written as it was read, and edited in one place only.
pub fn messages(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(message) = Message::parse(text) {
        let (written, fields) = match &message {
            Message::Request(asked) => (
                request(&asked.id, &asked.method, asked.params.as_deref()),
                ["id", "method", "params"],
            ),
            Message::Notification { method, params } => (
                notification(method, params.as_deref()),
                ["id", "method", "params"],
            ),
            Message::Response(response) => (response.encode(), ["id", "result", "error"]),
        };
        assert_eq!(Message::parse(&written), Ok(message), "{written}");
        // A parser may refuse what is too deep for it.
        if let Ok(read) = serde_json::from_str::<Value>(text) {
            let again = serde_json::from_str::<Value>(&written).unwrap_or_default();
            for field in fields {
                assert_eq!(read[field], again[field], "{field}");
            }
        }
    }
    if let Ok(object) = Object::parse(text) {
        let edited = object.with("name", "[7]");
        let again = Object::parse(&edited);
        assert!(again.is_ok(), "{edited}");
        if let Ok(again) = again {
            assert_eq!(again.get("name"), Some("[7]"));
            for field in ["jsonrpc", "id", "method", "params"] {
                assert_eq!(again.get(field), object.get(field), "{field}");
            }
        }
    }
}
