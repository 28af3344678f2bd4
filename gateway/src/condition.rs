//! Conditions: CEL expressions over what is known of a request, which say whether a route or a target answers it.
//!
//! They are compiled with the table. One that fails on a request, or gives anything but true, does not hold: a mistake in
//! a condition closes a way, it never opens one.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
};

use cel::{Context, Program, Value, objects::Key};
use http::HeaderMap;
use memchr::memmem;
use serde::Deserialize;
use serde_json::{Map, value::RawValue};
use thiserror::Error;

use crate::{authorize::Caller, decode::Decoded};

/// Bytes of an expression.
const SOURCE_BYTES_MAX: usize = 1024;
/// Bytes of a header's value that conditions see.
const HEADER_BYTES_MAX: usize = 1024;
/// Headers that hold secrets, or say nothing that a condition could use.
const HIDDEN_HEADERS: [&str; 5] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "cookie",
];

/// Building the default context costs much more than an evaluation, so that there is one for the process.
static ROOT: LazyLock<Context<'static>> = LazyLock::new(Context::default);

/// A compiled condition.
#[derive(Debug)]
pub(crate) struct Condition {
    program: Program,
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidCondition {
    /// Longer than any condition needs to be.
    #[error("the condition is longer than {SOURCE_BYTES_MAX} bytes")]
    TooLong,
    /// Not CEL.
    #[error("the condition `{source_text}` cannot be read: {reason}")]
    Syntax {
        /// The text.
        source_text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a condition gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Undecided {
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// It is neither true nor false.
    #[error("the condition is not a boolean")]
    NotBoolean,
}

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// [`InvalidCondition`].
    pub(crate) fn compile(source: &str) -> Result<Self, InvalidCondition> {
        if SOURCE_BYTES_MAX < source.len() {
            return Err(InvalidCondition::TooLong);
        }
        let syntax = |reason: String| InvalidCondition::Syntax {
            source_text: source.to_owned(),
            reason,
        };
        // The parser comes from outside: a panic in it is a bad expression, not our end.
        match catch_unwind(|| Program::compile(source)) {
            Ok(Ok(program)) => Ok(Self { program }),
            Ok(Err(error)) => {
                let words = error.to_string();
                let words: Vec<&str> = words.split_whitespace().collect();
                Err(syntax(words.join(" ")))
            }
            Err(_) => Err(syntax("the parser gave up".to_owned())),
        }
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// [`Undecided`]: the condition is to be taken for one that does not hold.
    pub(crate) fn holds(&self, facts: &Facts) -> Result<bool, Undecided> {
        let mut scope = ROOT.new_inner_scope();
        for (name, value) in &facts.variables {
            scope.add_variable_from_value(*name, value.clone());
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.program.execute(&scope)));
        match outcome {
            Ok(Ok(Value::Bool(holds))) => Ok(holds),
            Ok(Ok(_)) => Err(Undecided::NotBoolean),
            Ok(Err(error)) => Err(Undecided::Failed(error.to_string())),
            Err(_) => Err(Undecided::Failed("the evaluation gave up".to_owned())),
        }
    }
}

/// What conditions see of a request.
#[derive(Debug)]
pub(crate) struct Facts {
    variables: Vec<(&'static str, Value)>,
}

/// The parts of a body that only conditions look at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parts<'a> {
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    metadata: Option<Map<String, serde_json::Value>>,
}

impl Facts {
    /// Collects what is known of a request.
    pub(crate) fn of(caller: &Caller, headers: &HeaderMap, decoded: &Decoded) -> Self {
        let parts: Parts<'_> = serde_json::from_slice(&decoded.body).unwrap_or_default();
        let tools = parts.tools.map_or(0, |tools| tools.len());
        let metadata = parts.metadata.unwrap_or_default();
        let metadata = metadata.iter().filter_map(|(name, value)| {
            let value = value.as_str()?;
            Some((name.as_str(), value))
        });
        let key = [
            ("id", caller.account()),
            ("team", caller.team().unwrap_or_default()),
            ("user", caller.user().unwrap_or_default()),
        ];
        let fields = &decoded.fields;
        Self {
            variables: vec![
                ("model", text(&fields.model)),
                ("operation", text(decoded.operation.name())),
                ("stream", Value::Bool(fields.stream)),
                ("promptBytes", number(decoded.body.len())),
                ("tools", number(tools)),
                ("hasImages", Value::Bool(has_images(&decoded.body))),
                ("key", map(key.into_iter())),
                ("headers", map(shown(headers))),
                ("metadata", map(metadata)),
            ],
        }
    }
}

/// The headers that conditions see; of equal ones the first.
fn shown(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let names = headers.keys().map(http::HeaderName::as_str);
    let names = names.filter(|name| !HIDDEN_HEADERS.contains(name));
    names.filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        (value.len() <= HEADER_BYTES_MAX).then_some((name, value))
    })
}

/// Whether a body has parts that are images. Quotes in texts are escaped, so that only fields and types are found.
fn has_images(body: &[u8]) -> bool {
    let marks: [&[u8]; 3] = [b"\"image_url\"", b"\"input_image\"", b"\"image\""];
    marks.iter().any(|mark| memmem::find(body, mark).is_some())
}

fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn number(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn map<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let entries = entries.map(|(name, value)| (Key::from(name.to_owned()), text(value)));
    Value::Map(entries.collect::<HashMap<Key, Value>>().into())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{Condition, Facts, InvalidCondition, SOURCE_BYTES_MAX};
    use crate::{
        authorize::{Caller, Unauthorized},
        call::Operation,
        decode::Decoded,
    };

    const BODY: &str = r#"{"model":"m","stream":true,"tools":[{},{}],"metadata":{"tier":"gold","n":1},
        "messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#;

    fn facts() -> Facts {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-tier", "gold"), ("authorization", "Bearer secret")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let decoded = Decoded::of(Operation::Chat, BODY);
        let caller = Caller::Nobody(Unauthorized::Missing);
        Facts::of(&caller, &headers, &decoded)
    }

    /// `None` if the condition fails or is no boolean.
    #[track_caller]
    fn check(source: &str, expected: Option<bool>) {
        let condition = Condition::compile(source).unwrap();
        assert_eq!(condition.holds(&facts()).ok(), expected, "{source}");
    }

    #[test]
    fn conditions_see_what_is_known_of_a_request() {
        check("model == 'm' && operation == 'chat' && stream", Some(true));
        check("tools == 2 && hasImages && promptBytes > 100", Some(true));
        check("headers['x-tier'] == 'gold'", Some(true));
        check("metadata.tier == 'gold' && !('n' in metadata)", Some(true));
        check("key.id == '' && key.team == ''", Some(true));
        check("promptBytes > 100000", Some(false));
    }

    #[test]
    fn secrets_are_hidden_and_mistakes_do_not_hold() {
        check("'authorization' in headers", Some(false));
        check("headers['x-none'] == 'a'", None);
        check("nothing", None);
        check("tools", None);
        check("tools / 0 == 1", None);
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        let refused = |source: &str| Condition::compile(source).err();
        assert!(matches!(
            refused("a &&"),
            Some(InvalidCondition::Syntax { .. })
        ));
        let long = "x".repeat(SOURCE_BYTES_MAX + 1);
        assert_eq!(refused(&long), Some(InvalidCondition::TooLong));
    }

    #[test]
    fn an_image_in_a_text_is_none() {
        let body = r#"{"model":"m","messages":[{"content":"say \"image_url\""}]}"#;
        assert!(!super::has_images(body.as_bytes()));
    }
}
