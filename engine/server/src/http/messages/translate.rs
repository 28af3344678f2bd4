//! From Anthropic's messages to a chat.

use protocol::anthropic::{
    Block, BlockContent, CountRequest, InputMessage, MessagesRequest, Thinking, Tool, ToolChoice,
};
use protocol::openai::{ChatMessage, Content, FunctionCall, Stop, ToolCall};
use serde_json::{Map, Value, json};

use super::super::chat::ChatBody;
use super::super::decode;
use super::super::fault::Fault;
use super::super::format::ResponseFormat;
use super::super::sampling::SamplingBody;

/// The chat that a request means.
pub(super) fn to_chat(request: MessagesRequest) -> Result<ChatBody, Fault> {
    let MessagesRequest {
        model,
        messages,
        max_tokens,
        system,
        temperature,
        top_p,
        top_k,
        stop_sequences,
        stream,
        tools,
        tool_choice,
        thinking,
        mut rest,
    } = request;
    let output = rest.remove("output_config");
    let variables = rest.get("chat_template_kwargs").cloned();
    // Extensions of vLLM have the same names in all APIs; what means something else here is left out.
    for name in [
        "n",
        "stop",
        "response_format",
        "stream_options",
        "prompt_logprobs",
    ] {
        rest.remove(name);
    }
    let mut sampling: SamplingBody = decode::request(rest, &[])?;
    sampling.temperature = temperature;
    sampling.top_p = top_p;
    sampling.top_k = top_k;
    sampling.stop = stop_sequences.map(Stop::Many);
    sampling.stream = stream;
    let schema = output.as_ref().map(|output| &output["format"]["schema"]);
    if let Some(schema) = schema.filter(|schema| !schema.is_null()) {
        let format = ResponseFormat::of_schema(schema.clone(), Some(true));
        sampling.format.response_format = Some(format);
    }
    let is_parallel = !matches!(
        tool_choice,
        Some(
            ToolChoice::Auto {
                disable_parallel_tool_use: true
            } | ToolChoice::Any {
                disable_parallel_tool_use: true
            } | ToolChoice::Tool {
                disable_parallel_tool_use: true,
                ..
            }
        )
    );
    let mut chat = conversation(model, messages, system, tools, thinking)?;
    if let Some(Value::Object(more)) = variables {
        chat.chat_template_kwargs
            .get_or_insert_default()
            .extend(more);
    }
    chat.tool_choice = tool_choice.map(choice);
    chat.parallel_tool_calls = Some(is_parallel);
    chat.max_completion_tokens = Some(max_tokens);
    chat.sampling = sampling;
    Ok(chat)
}

/// The chat whose prompt is to be counted.
pub(super) fn count_to_chat(request: CountRequest) -> Result<ChatBody, Fault> {
    let CountRequest {
        model,
        messages,
        system,
        tools,
        tool_choice,
        thinking,
        rest: _,
    } = request;
    let mut chat = conversation(model, messages, system, tools, thinking)?;
    chat.tool_choice = tool_choice.map(choice);
    Ok(chat)
}

/// What the prompt is made of.
fn conversation(
    model: String,
    said: Vec<InputMessage>,
    system: Option<BlockContent>,
    tools: Option<Vec<Tool>>,
    thinking: Option<Thinking>,
) -> Result<ChatBody, Fault> {
    let mut messages = Vec::new();
    if let Some(system) = system {
        messages.push(ChatMessage::text("system", text_of("system", system)?));
    }
    for (index, message) in said.into_iter().enumerate() {
        add(&mut messages, index, message)?;
    }
    let tools = tools.map(|tools| tools.into_iter().map(tool).collect::<Result<_, _>>());
    let variables = thinking.and_then(|thinking| match thinking {
        Thinking::Adaptive => None,
        Thinking::Enabled { .. } => Some(true),
        Thinking::Disabled => Some(false),
    });
    let variables = variables.map(|thinks| {
        let entry = ("enable_thinking".to_owned(), Value::Bool(thinks));
        Map::from_iter([entry])
    });
    Ok(ChatBody {
        model,
        messages,
        tools: tools.transpose()?,
        chat_template_kwargs: variables,
        ..ChatBody::default()
    })
}

fn tool(tool: Tool) -> Result<Value, Fault> {
    if let Some(kind) = tool.kind.filter(|kind| kind != "custom") {
        let message = format!("Tools of the type `{kind}` are not supported; custom ones are.");
        return Err(Fault::parameter("tools", message));
    }
    let strict = tool.rest.get("strict").and_then(Value::as_bool);
    Ok(json!({
        "type": "function",
        "function": {
            "name": tool.name, "description": tool.description, "parameters": tool.input_schema,
            "strict": strict,
        },
    }))
}

fn choice(choice: ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto { .. } => "auto".into(),
        ToolChoice::Any { .. } => "required".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Tool { name, .. } => json!({"type": "function", "function": {"name": name}}),
    }
}

/// Adds a message. The results of calls are messages of their own, before what the user says.
fn add(messages: &mut Vec<ChatMessage>, index: usize, message: InputMessage) -> Result<(), Fault> {
    let InputMessage { role, content } = message;
    if !["user", "assistant", "system"].contains(&role.as_str()) {
        let message = format!("Message {index} has the unknown role `{role}`.");
        return Err(Fault::parameter("messages", message));
    }
    let blocks = match content {
        BlockContent::Text(text) => {
            messages.push(ChatMessage::text(role, text));
            return Ok(());
        }
        BlockContent::Blocks(blocks) => blocks,
    };
    let mut own = ChatMessage {
        role,
        ..ChatMessage::default()
    };
    let mut text: Option<String> = None;
    for block in blocks {
        match block {
            Block::Text { text: more } => text.get_or_insert_default().push_str(&more),
            Block::Thinking { thinking, .. } => {
                own.reasoning_content
                    .get_or_insert_default()
                    .push_str(&thinking);
            }
            // Only its maker could read it.
            Block::RedactedThinking { .. } => {}
            Block::ToolUse { id, name, input } => {
                let function = FunctionCall {
                    name,
                    arguments: input.to_string(),
                };
                let kind = "function".to_owned();
                let call = ToolCall { id, kind, function };
                own.tool_calls.get_or_insert_default().push(call);
            }
            Block::ToolResult {
                tool_use_id,
                content,
                is_error,
            } => messages.push(result(tool_use_id, content, is_error)?),
            other @ (Block::Image { .. } | Block::Document(_)) => {
                let kind = other.kind();
                let message = format!(
                    "Message {index} has a block of the type `{kind}`; only text is supported."
                );
                return Err(Fault::parameter("messages", message));
            }
        }
    }
    if text.is_some() || own.tool_calls.is_some() || own.reasoning_content.is_some() {
        own.content = text.map(Content::Text);
        messages.push(own);
    }
    Ok(())
}

fn result(
    id: String,
    content: Option<BlockContent>,
    is_error: Option<bool>,
) -> Result<ChatMessage, Fault> {
    let text = content.map(|content| text_of("messages", content));
    let mut text = text.transpose()?.unwrap_or_default();
    if is_error == Some(true) {
        text.insert_str(0, "Error: ");
    }
    Ok(ChatMessage {
        tool_call_id: Some(id),
        ..ChatMessage::text("tool", text)
    })
}

fn text_of(parameter: &str, content: BlockContent) -> Result<String, Fault> {
    let blocks = match content {
        BlockContent::Text(text) => return Ok(text),
        BlockContent::Blocks(blocks) => blocks,
    };
    let texts = blocks.into_iter().map(|block| match block {
        Block::Text { text } => Ok(text),
        other => {
            let kind = other.kind();
            let message = format!(
                "A block of the type `{kind}` is not supported in `{parameter}` here; text is."
            );
            Err(Fault::parameter(parameter, message))
        }
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}
