//! From a request for a response to a chat.

use protocol::openai::{
    ChatMessage, Content, ContentPart, FunctionCall, InputItem, InputItemKind, ResponseContent,
    ResponseFormat, ResponseFunctionTool, ResponseInput, ResponseToolChoice, ResponsesRequest,
    ToolCall,
};
use serde_json::{Map, Value, json};

use super::super::chat::ChatBody;
use super::super::fault::Fault;
use super::super::format;
use super::super::sampling::SamplingBody;

const LOGPROBS: &str = "message.output_text.logprobs";

/// The chat that a request means.
pub(super) fn to_chat(request: ResponsesRequest) -> Result<ChatBody, Fault> {
    let ResponsesRequest {
        model,
        input,
        instructions,
        max_output_tokens,
        temperature,
        top_p,
        top_logprobs,
        stream,
        text,
        tools,
        tool_choice,
        parallel_tool_calls,
        reasoning,
        include,
        metadata: _,
        rest,
    } = request;
    let wants_logprobs = include
        .unwrap_or_default()
        .iter()
        .any(|what| what == LOGPROBS);
    let mut messages: Vec<_> = instructions
        .map(|text| ChatMessage::text("system", text))
        .into_iter()
        .collect();
    match input {
        ResponseInput::Text(text) => messages.push(ChatMessage::text("user", text)),
        ResponseInput::Items(items) => add_items(&mut messages, items)?,
    }
    // Extensions of vLLM have the same names in both APIs.
    let mut sampling: SamplingBody = extensions(rest)?;
    sampling.temperature = temperature;
    sampling.top_p = top_p;
    sampling.stream = stream;
    if let Some(format) = text.and_then(|text| text.format) {
        sampling.format.response_format = Some(response_format(format));
    }
    let tools = tools
        .unwrap_or_default()
        .into_iter()
        .map(|offered| tool(&offered));
    Ok(ChatBody {
        model,
        messages,
        max_completion_tokens: max_output_tokens,
        logprobs: Some(wants_logprobs || top_logprobs.is_some_and(|count| 0 < count)),
        top_logprobs,
        tools: Some(tools.collect::<Result<_, _>>()?),
        tool_choice: tool_choice.map(|choice| match choice {
            ResponseToolChoice::Word(word) => Value::String(word),
            ResponseToolChoice::Function { name, .. } => {
                json!({"type": "function", "function": {"name": name}})
            }
        }),
        parallel_tool_calls,
        reasoning_effort: reasoning.and_then(|reasoning| reasoning.effort),
        sampling,
        ..ChatBody::default()
    })
}

fn extensions(mut rest: Map<String, Value>) -> Result<SamplingBody, Fault> {
    for name in ["n", "stream_options", "prompt_logprobs"] {
        rest.remove(name);
    }
    super::super::decode::request(rest, &[])
}

fn response_format(format: ResponseFormat) -> format::ResponseFormat {
    match format {
        ResponseFormat::Text => format::ResponseFormat::Text,
        ResponseFormat::JsonObject => format::ResponseFormat::JsonObject,
        ResponseFormat::JsonSchema { schema, strict, .. } => {
            format::ResponseFormat::of_schema(schema, strict)
        }
    }
}

fn tool(tool: &ResponseFunctionTool) -> Result<Value, Fault> {
    if tool.kind != "function" {
        let message = format!(
            "Tools of the type `{}` are not supported; functions are.",
            tool.kind
        );
        return Err(Fault::parameter("tools", message));
    }
    Ok(json!({
        "type": "function",
        "function": {
            "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            "strict": tool.strict,
        },
    }))
}

/// Adds the items of a conversation. Thoughts and calls that follow each other are one message of the assistant.
fn add_items(messages: &mut Vec<ChatMessage>, items: Vec<InputItem>) -> Result<(), Fault> {
    for (index, item) in items.into_iter().enumerate() {
        let missing = |name: &str| {
            let message = format!("Item {index} of `input` has no `{name}`.");
            Fault::parameter("input", message)
        };
        match item.kind {
            InputItemKind::Message => {
                let role = item.role.ok_or_else(|| missing("role"))?;
                let content = item.content.ok_or_else(|| missing("content"))?;
                let content = Some(to_content(index, content)?);
                // What the assistant says after its thoughts is the same message.
                match messages.last_mut() {
                    Some(last) if role == "assistant" && is_open(last) => last.content = content,
                    _ => messages.push(ChatMessage {
                        role,
                        content,
                        ..ChatMessage::default()
                    }),
                }
            }
            InputItemKind::FunctionCall => {
                let call = ToolCall {
                    id: item.call_id.ok_or_else(|| missing("call_id"))?,
                    kind: "function".to_owned(),
                    function: FunctionCall {
                        name: item.name.ok_or_else(|| missing("name"))?,
                        arguments: item.arguments.ok_or_else(|| missing("arguments"))?,
                    },
                };
                assistant(messages)
                    .tool_calls
                    .get_or_insert_default()
                    .push(call);
            }
            InputItemKind::FunctionCallOutput => {
                let output = item.output.ok_or_else(|| missing("output"))?;
                messages.push(ChatMessage {
                    role: "tool".to_owned(),
                    content: Some(to_content(index, output)?),
                    tool_call_id: Some(item.call_id.ok_or_else(|| missing("call_id"))?),
                    ..ChatMessage::default()
                });
            }
            InputItemKind::Reasoning => {
                let thoughts = item.content.map(|content| to_content(index, content));
                let message = ChatMessage {
                    content: thoughts.transpose()?,
                    ..ChatMessage::default()
                };
                messages.push(ChatMessage {
                    role: "assistant".to_owned(),
                    reasoning_content: Some(message.to_text()),
                    ..ChatMessage::default()
                });
            }
            InputItemKind::Other(kind) => {
                let message = format!(
                    "Item {index} of `input` is of the type `{kind}`, which is not supported."
                );
                return Err(Fault::parameter("input", message));
            }
        }
    }
    Ok(())
}

/// Whether a message of the assistant has thoughts and no text as yet.
fn is_open(message: &ChatMessage) -> bool {
    message.role == "assistant" && message.content.is_none() && message.tool_calls.is_none()
}

/// The last message, if it is the assistant's, or a new one.
fn assistant(messages: &mut Vec<ChatMessage>) -> &mut ChatMessage {
    if messages.last().is_none_or(|last| last.role != "assistant") {
        messages.push(ChatMessage {
            role: "assistant".to_owned(),
            ..ChatMessage::default()
        });
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

fn to_content(index: usize, content: ResponseContent) -> Result<Content, Fault> {
    let parts = match content {
        ResponseContent::Text(text) => return Ok(Content::Text(text)),
        ResponseContent::Parts(parts) => parts,
    };
    let text = |part: ContentPart| match part.kind.as_str() {
        "input_text" | "output_text" | "reasoning_text" | "summary_text" | "text" => {
            Ok(part.text.unwrap_or_default())
        }
        kind => {
            let message = format!(
                "Item {index} of `input` has content of type `{kind}`; only text is supported."
            );
            Err(Fault::parameter("input", message))
        }
    };
    let texts: String = parts.into_iter().map(text).collect::<Result<_, _>>()?;
    Ok(Content::Text(texts))
}
