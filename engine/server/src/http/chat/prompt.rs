//! From messages to the tokens of a prompt, by the model's chat template.

use engine_core::TokenId;
use engine_models::ChatInput;
use jiff::Zoned;
use protocol::openai::{ChatMessage, Content, FunctionCall};
use serde_json::{Map, Value, json};

use crate::parse::{CallFormat, Tool, ToolFormat, describe_tools};
use crate::state::Engine;
use crate::template;

use super::super::check_length;
use super::super::fault::Fault;

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// How a chat is rendered.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct TemplateOptions {
    /// Leaves out the beginning of an answer.
    pub(in crate::http) skips_generation_prompt: bool,
    /// Goes on with the last message instead of answering it.
    pub(in crate::http) continues_final_message: bool,
    /// Variables of the template, as `enable_thinking`.
    pub(in crate::http) variables: Map<String, Value>,
}

/// A prompt.
#[derive(Debug)]
pub(in crate::http) struct Rendered {
    pub(in crate::http) text: String,
    pub(in crate::http) tokens: Vec<TokenId>,
}

/// Renders a chat with the model's template and encodes it. Takes its time.
pub(in crate::http) fn render(
    engine: &Engine,
    messages: &[ChatMessage],
    tools: &[Tool],
    options: TemplateOptions,
) -> Result<Rendered, Fault> {
    let Some(template) = &engine.template else {
        let message =
            "The model has no chat template: it is not made for chats. Use /v1/completions.";
        return Err(Fault::parameter("messages", message));
    };
    let Some(last) = messages.last() else {
        return Err(Fault::parameter(
            "messages",
            "`messages` must have at least one message.",
        ));
    };
    let last_text = check_options(last, &options)?;
    if let Some(name) = template::own(&options.variables) {
        let message = format!("`chat_template_kwargs` cannot set `{name}`.");
        return Err(Fault::parameter("chat_template_kwargs", message));
    }
    let written = if engine.formats.template_has_tools {
        None
    } else {
        Some(engine.formats.tools)
    };
    let mut messages = messages
        .iter()
        .enumerate()
        .map(|(index, message)| to_json(index, message, written))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(format) = written
        && !tools.is_empty()
    {
        instruct(&mut messages, &describe_tools(tools, format));
    }
    let mut variables = engine.template_variables.clone();
    variables.extend(options.variables);
    let input = ChatInput {
        messages,
        tools: (written.is_none() && !tools.is_empty())
            .then(|| tools.iter().map(tool_json).collect()),
        add_generation_prompt: last_text.is_none() && !options.skips_generation_prompt,
        bos_token: engine.tokenizer.begin_text(),
        eos_token: engine.tokenizer.end_text(),
        extra: variables,
    };
    let mut text = template.render(&input, |format| Zoned::now().strftime(format).to_string())?;
    if let Some(last) = last_text {
        cut_behind(&mut text, &last)?;
    }
    check_length(engine, &text, "messages")?;
    let tokens = engine.tokenizer.encode_chat(&text);
    Ok(Rendered { text, tokens })
}

/// The text of the final message, if it is to be continued.
fn check_options(last: &ChatMessage, options: &TemplateOptions) -> Result<Option<String>, Fault> {
    if !options.continues_final_message {
        return Ok(None);
    }
    let text = last.to_text();
    if last.role != "assistant" || text.trim().is_empty() {
        return Err(Fault::parameter(
            "continue_final_message",
            "`continue_final_message` needs a last message of the assistant, with a text.",
        ));
    }
    Ok(Some(text))
}

/// Cuts off what the template writes behind the final message.
fn cut_behind(text: &mut String, last: &str) -> Result<(), Fault> {
    let wanted = if text.contains(last) {
        last
    } else {
        last.trim()
    };
    let Some(start) = text.rfind(wanted) else {
        return Err(Fault::parameter(
            "continue_final_message",
            "The model's chat template changes the last message, so that it cannot be continued.",
        ));
    };
    text.truncate(start + wanted.len());
    Ok(())
}

/// Puts instructions into the system message, or in front.
fn instruct(messages: &mut Vec<Value>, instructions: &str) {
    match messages.first_mut() {
        Some(first) if first["role"] == "system" => {
            let said = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{said}\n\n{instructions}").into();
        }
        _ => messages.insert(0, json!({"role": "system", "content": instructions})),
    }
}

/// A tool as templates know it.
fn tool_json(tool: &Tool) -> Value {
    let parameters = tool.parameters.clone();
    json!({
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description.clone().unwrap_or_default(),
            "parameters": parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        },
    })
}

/// A message as templates know it: `content` is text, whatever parts it came in. Where the template knows no calls,
/// they are `written` into the text.
fn to_json(
    index: usize,
    message: &ChatMessage,
    written: Option<&ToolFormat>,
) -> Result<Value, Fault> {
    check_message(index, message)?;
    let mut object = Map::new();
    // Templates know `system`; `developer` is OpenAI's newer word for it.
    let role = match message.role.as_str() {
        "developer" => "system",
        role => role,
    };
    object.insert("role".to_owned(), role.into());
    let mut text = message.to_text();
    if let Some(calls) = &message.tool_calls {
        if let Some(format) = written {
            let calls = calls.iter().map(|call| write_call(&call.function, format));
            let calls: Vec<_> = calls.collect();
            text.push_str(&calls.join(format.between_blocks));
        }
        let calls = calls.iter().map(|call| {
            json!({
                "id": call.id, "type": call.kind,
                "function": {"name": call.function.name, "arguments": arguments(&call.function)},
            })
        });
        object.insert("tool_calls".to_owned(), calls.collect());
    }
    object.insert("content".to_owned(), text.into());
    if let Some(thoughts) = &message.reasoning_content {
        object.insert("reasoning_content".to_owned(), thoughts.clone().into());
    }
    if let Some(id) = &message.tool_call_id {
        object.insert("tool_call_id".to_owned(), id.clone().into());
    }
    if let Some(name) = message.rest.get("name") {
        object.insert("name".to_owned(), name.clone());
    }
    Ok(Value::Object(object))
}

fn check_message(index: usize, message: &ChatMessage) -> Result<(), Fault> {
    if let Some(Content::Parts(parts)) = &message.content
        && let Some(part) = parts.iter().find(|part| part.kind != "text")
    {
        let kind = &part.kind;
        return Err(Fault::parameter(
            "messages",
            format!("Message {index} has content of type `{kind}`; only text is supported."),
        ));
    }
    if !ROLES.contains(&message.role.as_str()) {
        return Err(Fault::parameter(
            "messages",
            format!("Message {index} has the unknown role `{}`.", message.role),
        ));
    }
    Ok(())
}

/// Templates write arguments as JSON, so they get the value that the text stands for.
fn arguments(function: &FunctionCall) -> Value {
    let text = &function.arguments;
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.clone()))
}

/// A call as the model would write it.
fn write_call(function: &FunctionCall, format: &ToolFormat) -> String {
    let (name, value) = (&function.name, arguments(function));
    let call = match format.call {
        CallFormat::Object { arguments } => json!({"name": name, arguments: value}).to_string(),
        CallFormat::Named { separator } => format!("{name}{separator}{value}"),
        CallFormat::Python => {
            let pairs = value.as_object().map(|object| {
                let pairs = object.iter().map(|(key, value)| format!("{key}={value}"));
                pairs.collect::<Vec<_>>().join(", ")
            });
            format!("{name}({})", pairs.unwrap_or_default())
        }
    };
    let (start, end) = if format.is_start_optional {
        ("", "")
    } else {
        (format.start, format.end)
    };
    format!("{start}{}{call}{}{end}", format.open, format.close)
}
