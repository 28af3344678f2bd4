//! A request to an upstream that speaks chat completions.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::encode_content::{ChatMessage, encode_messages};
use crate::wire::{
    Exchange, InvalidRequest,
    conversation::{Conversation, Effort, Format, Reasoning, Tool, ToolChoice},
    json::{Extra, Json, Numeral},
    to_body,
};

/// The body of a request.
#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<ChatMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<Numeral>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<FunctionTool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(flatten)]
    extra: Extra,
}

/// Fields that the body has already, or that mean something else in chats.
const TAKEN: [&str; 27] = [
    "model",
    "messages",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "user",
    "service_tier",
    "logprobs",
    "top_logprobs",
    "n",
    "functions",
];

/// A tool.
#[derive(Serialize)]
struct FunctionTool {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// What the text looks like.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat {
    JsonObject,
    JsonSchema { json_schema: Schema },
}

#[derive(Serialize)]
struct Schema {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    schema: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// The body for the upstream; streams are always asked for their usage.
///
/// # Errors
/// [`InvalidRequest`] if chats have no words for something.
pub(in crate::wire) fn encode_request(
    exchange: &Exchange,
    conversation: Conversation,
) -> Result<Bytes, InvalidRequest> {
    let sampling = conversation.sampling;
    let has_tools = !conversation.tools.is_empty();
    let request = Request {
        model: &exchange.upstream_model,
        messages: encode_messages(conversation.messages)?,
        max_completion_tokens: sampling.max_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        repetition_penalty: sampling.repetition_penalty,
        seed: sampling.seed,
        stop: sampling.stop,
        stream: exchange.stream.then_some(true),
        stream_options: exchange.stream.then(|| json!({"include_usage": true})),
        tools: conversation.tools.into_iter().map(tool).collect(),
        // Without tools neither may be there.
        tool_choice: conversation
            .tool_choice
            .filter(|_| has_tools)
            .map(tool_choice),
        parallel_tool_calls: conversation.parallel_calls.filter(|_| has_tools),
        response_format: conversation.format.map(format),
        reasoning_effort: conversation.reasoning.and_then(effort),
        verbosity: conversation.verbosity,
        user: conversation.user,
        service_tier: conversation.service_tier,
        logprobs: conversation.logprobs.map(|_| true),
        top_logprobs: conversation.logprobs.and_then(|logprobs| logprobs.top),
        extra: conversation.extra.without(&TAKEN),
    };
    Ok(to_body(&request))
}

fn tool(tool: Tool) -> FunctionTool {
    FunctionTool {
        kind: "function",
        function: Function {
            name: tool.name,
            description: tool.description,
            parameters: tool.parameters,
            strict: tool.is_strict,
        },
    }
}

fn tool_choice(choice: ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    }
}

fn format(format: Format) -> ResponseFormat {
    match format {
        Format::JsonObject => ResponseFormat::JsonObject,
        Format::JsonSchema {
            name,
            description,
            schema,
            is_strict,
        } => ResponseFormat::JsonSchema {
            json_schema: Schema {
                name,
                description,
                schema,
                strict: is_strict,
            },
        },
    }
}

/// The effort; `None` leaves it to the model.
fn effort(reasoning: Reasoning) -> Option<&'static str> {
    match reasoning {
        Reasoning::Off => Some("none"),
        Reasoning::Adaptive => None,
        Reasoning::Effort(effort) => Some(effort.word()),
        Reasoning::Budget(tokens) => Some(Effort::of_budget(tokens).word()),
    }
}
