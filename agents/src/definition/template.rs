//! Minijinja templates: compiled once per revision, rendered with a limit on work and on output.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use minijinja::{Environment, Template, UndefinedBehavior, Value};
use thiserror::Error;

use super::{Scope, uses::Uses};

/// Longest source of a template, in bytes.
const SOURCE_BYTES_MAX: usize = 256 * 1024;
/// Most instructions of one rendering.
const FUEL: u64 = 2_000_000;
/// Most bytes of one rendering.
pub(crate) const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidTemplate {
    #[error("the template is longer than {SOURCE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the template is not minijinja: {reason}")]
    Syntax { reason: String },
}

/// Why a template could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("rendering the template of {place}: {reason}")]
pub(crate) struct RenderError {
    place: String,
    reason: String,
}

/// A compiled template of a [`Templates`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateName {
    place: String,
    uses: Uses,
}

/// The templates of one definition.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
}

impl Default for Templates {
    fn default() -> Self {
        let mut environment = Environment::new();
        // A misspelt channel must fail the step instead of asking the model about nothing.
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_keep_trailing_newline(true);
        environment.set_fuel(Some(FUEL));
        Self { environment }
    }
}

impl Templates {
    /// Compiles a template; `place` says where it stands, for messages, and is unique in the definition.
    pub(crate) fn add(
        &mut self,
        place: &str,
        source: &str,
    ) -> Result<TemplateName, InvalidTemplate> {
        if SOURCE_BYTES_MAX < source.len() {
            return Err(InvalidTemplate::TooLong);
        }
        let invalid = |error: minijinja::Error| InvalidTemplate::Syntax {
            reason: reason(&error),
        };
        self.environment
            .add_template_owned(place.to_owned(), source.to_owned())
            .map_err(invalid)?;
        let template = self.environment.get_template(place).map_err(invalid)?;
        Ok(TemplateName {
            place: place.to_owned(),
            uses: uses(&template, source),
        })
    }

    pub(crate) fn render(
        &self,
        name: &TemplateName,
        scope: Scope<'_>,
    ) -> Result<String, RenderError> {
        let failed = |error: &minijinja::Error| RenderError {
            place: name.place.clone(),
            reason: reason(error),
        };
        let template = self
            .environment
            .get_template(&name.place)
            .map_err(|error| failed(&error))?;
        let channels: BTreeMap<&str, &serde_json::Value> = name
            .uses
            .channels(scope)
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        let input = name.uses.input().then(|| scope.input());
        let context = minijinja::context! {
            state => Value::from_serialize(channels),
            input => Value::from_serialize(input),
            run => Value::from_serialize(scope.run),
        };
        let mut output = Bounded(Vec::new());
        template
            .render_captured_to(context, &mut output)
            .map_err(|error| failed(&error))?;
        String::from_utf8(output.0).map_err(|_| RenderError {
            place: name.place.clone(),
            reason: "the output is not UTF-8".to_owned(),
        })
    }
}

/// What a template reads, as far as can be told from its text.
fn uses(template: &Template<'_, '_>, source: &str) -> Uses {
    // Templates that lead to others are not looked into.
    if ["include", "import", "extends"]
        .iter()
        .any(|word| source.contains(word))
    {
        return Uses::all();
    }
    let names = template.undeclared_variables(true);
    let scope = names.iter().map(String::as_str).filter(|name| {
        // Others are functions, or undefined, which the rendering tells.
        let root = name.split('.').next().unwrap_or_default();
        matches!(root, "state" | "input" | "run")
    });
    Uses::of(scope).unwrap_or_else(|_| Uses::all())
}

fn reason(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text.push_str(": ");
        text.push_str(&source.to_string());
    }
    text
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if OUTPUT_BYTES_MAX < self.0.len() + bytes.len() {
            return Err(io::Error::other(format!(
                "the output is longer than {OUTPUT_BYTES_MAX} bytes"
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
