//! Variables that chat templates get beside the chat: those of the engine, and over them those of a request.

use serde_json::{Map, Value};

/// Variables that are the chat itself, which nobody can replace.
const OWN: [&str; 5] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
];

/// The first of these variables that cannot be set.
pub(crate) fn own(variables: &Map<String, Value>) -> Option<&'static str> {
    OWN.into_iter().find(|name| variables.contains_key(*name))
}

/// Reads the engine's variables.
pub(crate) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    let Ok(Value::Object(variables)) = serde_json::from_str(text) else {
        return Err("must be a JSON object, as {\"enable_thinking\": false}".to_owned());
    };
    match own(&variables) {
        None => Ok(variables),
        Some(name) => Err(format!("cannot set {name:?}, which is made of the chat")),
    }
}
