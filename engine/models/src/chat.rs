//! Chat templates: the Jinja text in a model file, rendered to the prompt that the model was trained on.
//!
//! Templates are written for Python's Jinja2 as Hugging Face sets it up: blocks are trimmed, `raise_exception`,
//! `strftime_now` and an unescaped `tojson` exist, and strings and maps have some methods of Python.

mod python;
#[cfg(test)]
mod tests;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use thiserror::Error;

/// Steps that a template may take; real ones take a few thousand.
const FUEL: u64 = 10_000_000;
const NAME: &str = "chat";

/// Why a chat does not become a prompt.
#[derive(Debug, Error)]
pub enum InvalidChat {
    /// The template itself is broken: the file's fault.
    #[error("the chat template does not parse: {0}")]
    Template(String),
    /// The template refuses these messages: the caller's fault.
    #[error("the model's chat template refuses the messages: {0}")]
    Refused(String),
}

/// What a template is rendered with.
#[derive(Debug, Clone, Serialize)]
pub struct ChatInput<'a> {
    /// The messages as JSON objects.
    pub messages: Vec<serde_json::Value>,
    /// The tools as JSON objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<serde_json::Value>>,
    /// Whether the prompt ends where the assistant begins to speak.
    pub add_generation_prompt: bool,
    /// The text of the token that begins a sequence.
    pub bos_token: &'a str,
    /// The text of the token that ends a sequence.
    pub eos_token: &'a str,
    /// Further variables of the template, as `enable_thinking`; they cannot replace the others.
    #[serde(skip)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// A parsed template.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`InvalidChat::Template`].
    pub fn new(source: &str) -> Result<Self, InvalidChat> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(python::call_method);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        let parsed = environment.add_template_owned(NAME, source.to_owned());
        parsed.map_err(|error| InvalidChat::Template(error.to_string()))?;
        Ok(Self {
            source: source.to_owned(),
            environment,
        })
    }

    /// The text that the template was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a chat. `strftime` formats the time of the request, for templates that name the date.
    ///
    /// # Errors
    /// [`InvalidChat::Refused`] with the words of the template.
    pub fn render(
        &self,
        input: &ChatInput<'_>,
        strftime: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Result<String, InvalidChat> {
        let refused = |error: Error| InvalidChat::Refused(innermost(&error));
        let template = self.environment.get_template(NAME).map_err(refused)?;
        let strftime = Value::from_function(move |format: String| strftime(&format));
        let mut variables = input.extra.clone();
        if let Ok(serde_json::Value::Object(input)) = serde_json::to_value(input) {
            variables.extend(input);
        }
        let context = minijinja::context! {
            strftime_now => strftime, ..Value::from_serialize(variables)
        };
        template.render(context).map_err(refused)
    }
}

/// The message of a template error without its place in the template, which the user does not see.
fn innermost(error: &Error) -> String {
    error
        .detail()
        .map_or_else(|| error.to_string(), str::to_owned)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// JSON as Python's `json.dumps` writes it: `, ` and `: ` between things, nothing escaped for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Other options (`ensure_ascii`, `separators`) change nothing that a model would notice.
    drop(options);
    let invalid =
        |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut out, formatter,
            ))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut out,
            python::Separators,
        )),
    };
    written.map_err(invalid)?;
    String::from_utf8(out)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}
