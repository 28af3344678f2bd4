//! Tells a model about tools in words, where its chat template does not.

use std::fmt::Write;

use serde_json::json;

use super::format::{CallFormat, ToolFormat};
use super::tool::Tool;

/// A text for the system message: which tools there are and how to write a call.
pub fn describe_tools(tools: &[Tool], format: &ToolFormat) -> String {
    let mut text = "You can call functions. These are the functions, one a line, with the JSON schema of their \
                    parameters:\n"
        .to_owned();
    for tool in tools {
        let parameters = tool
            .parameters
            .clone()
            .unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        let mut described = json!({"name": tool.name});
        if let Some(description) = &tool.description {
            described["description"] = json!(description);
        }
        described["parameters"] = parameters;
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{described}");
    }
    let example = example(format);
    let _ = write!(
        text,
        "\nTo call a function, answer with nothing but the call, written like this:\n{example}\nPut the function's \
         name in place of NAME and its parameters, as JSON, in place of the object behind it. Call a function only \
         if it is needed to answer; otherwise answer in words."
    );
    text
}

fn example(format: &ToolFormat) -> String {
    let call = match format.call {
        CallFormat::Object { arguments } => {
            format!("{{\"name\": \"NAME\", \"{arguments}\": {{\"parameter\": \"value\"}}}}")
        }
        CallFormat::Named { separator } => format!("NAME{separator}{{\"parameter\": \"value\"}}"),
        CallFormat::Python => "NAME(parameter=\"value\")".to_owned(),
    };
    let start = if format.is_start_optional {
        ""
    } else {
        format.start
    };
    let end = if format.is_start_optional {
        ""
    } else {
        format.end
    };
    format!("{start}{}{call}{}{end}", format.open, format.close)
}
