//! Tools as a request names them, and which of them the answer may or must call.

use serde_json::Value;
use thiserror::Error;

const NAME_BYTES_MAX: usize = 128;
/// Most tools of a request, as in the OpenAI API.
const TOOLS_MAX: usize = 128;

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, in words.
    pub description: Option<String>,
    /// The JSON schema of its arguments; none means any object.
    pub parameters: Option<Value>,
    /// Whether the arguments must follow the schema even where the model may also answer in words.
    pub strict: bool,
}

/// Which tools an answer calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// The one of this name.
    Named(String),
}

/// Why tools or the choice among them cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct InvalidTools {
    /// The parameter at fault, as `tools[0].function.name`.
    pub parameter: String,
    /// What is wrong with it.
    pub message: String,
}

impl InvalidTools {
    fn new(parameter: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            parameter: parameter.into(),
            message: message.into(),
        }
    }
}

impl Tool {
    /// Reads the tools of a chat request: `{"type": "function", "function": {"name": …}}`.
    ///
    /// # Errors
    /// [`InvalidTools`] for the first that is not such an object or whose name was there before.
    pub fn read_all(tools: &[Value]) -> Result<Vec<Self>, InvalidTools> {
        if TOOLS_MAX < tools.len() {
            let message = format!(
                "There are {} tools; at most {TOOLS_MAX} are allowed.",
                tools.len()
            );
            return Err(InvalidTools::new("tools", message));
        }
        let mut read: Vec<Self> = Vec::with_capacity(tools.len());
        for (index, tool) in tools.iter().enumerate() {
            let tool = Self::read(tool, &format!("tools[{index}]"))?;
            if read.iter().any(|other| other.name == tool.name) {
                let message = format!("The tool `{}` is defined twice.", tool.name);
                return Err(InvalidTools::new(
                    format!("tools[{index}].function.name"),
                    message,
                ));
            }
            read.push(tool);
        }
        Ok(read)
    }

    fn read(tool: &Value, place: &str) -> Result<Self, InvalidTools> {
        if tool["type"] != "function" {
            let message = "Only tools of the type `function` are supported.";
            return Err(InvalidTools::new(format!("{place}.type"), message));
        }
        let place = format!("{place}.function");
        let Some(function) = tool["function"].as_object() else {
            return Err(InvalidTools::new(place, "`function` must be an object."));
        };
        let name = function.get("name").and_then(Value::as_str);
        let Some(name) = name.filter(|name| is_name(name)) else {
            let message = format!(
                "A function needs a name of letters, digits and `_-.:/`, at most {NAME_BYTES_MAX} bytes long."
            );
            return Err(InvalidTools::new(format!("{place}.name"), message));
        };
        let parameters = function
            .get("parameters")
            .filter(|schema| !schema.is_null());
        if parameters.is_some_and(|schema| !schema.is_object()) {
            let message = "`parameters` must be a JSON schema, which is an object.";
            return Err(InvalidTools::new(format!("{place}.parameters"), message));
        }
        let description = function.get("description").and_then(Value::as_str);
        Ok(Self {
            name: name.to_owned(),
            description: description.map(str::to_owned),
            parameters: parameters.cloned(),
            strict: function.get("strict").and_then(Value::as_bool) == Some(true),
        })
    }

    /// The names of the arguments in the order of the schema, for calls that give them by place.
    pub(super) fn arguments(&self) -> Vec<&str> {
        let properties = self
            .parameters
            .as_ref()
            .and_then(|schema| schema["properties"].as_object());
        properties.map_or_else(Vec::new, |properties| {
            properties.keys().map(String::as_str).collect()
        })
    }
}

/// Whether this may be a function's name.
pub(super) fn is_name(name: &str) -> bool {
    let is_allowed = |character: char| character.is_alphanumeric() || "_-.:/".contains(character);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_allowed)
}

impl ToolChoice {
    /// Reads `tool_choice`: a word, or `{"type": "function", "function": {"name": …}}`. Without one the model decides.
    ///
    /// # Errors
    /// [`InvalidTools`] if it is neither, or asks for a tool that is not among `tools`.
    pub fn read(choice: Option<&Value>, tools: &[Tool]) -> Result<Self, InvalidTools> {
        let invalid = |message: String| Err(InvalidTools::new("tool_choice", message));
        let choice = match choice {
            None | Some(Value::Null) => Self::Auto,
            Some(Value::String(word)) => match word.as_str() {
                "auto" => Self::Auto,
                "none" => Self::None,
                "required" | "any" => Self::Required,
                other => {
                    return invalid(format!(
                        "`{other}` is none of `auto`, `none`, `required` and the name of a function."
                    ));
                }
            },
            Some(object) => {
                // The Responses API leaves out the inner object.
                let name = object["function"]["name"]
                    .as_str()
                    .or_else(|| object["name"].as_str());
                let Some(name) = name else {
                    return invalid("`tool_choice` names no function.".to_owned());
                };
                Self::Named(name.to_owned())
            }
        };
        match &choice {
            Self::Required if tools.is_empty() => {
                invalid("A call is required, but there are no tools.".to_owned())
            }
            Self::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
                invalid(format!("The function `{name}` is not among the tools."))
            }
            Self::Auto | Self::None | Self::Required | Self::Named(_) => Ok(choice),
        }
    }
}
