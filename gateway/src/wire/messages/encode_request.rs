//! A request to an upstream that speaks messages.

use bytes::Bytes;
use protocol::anthropic::ToolChoice as Choice;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    encode_content::{Split, WireMessage, encode_messages},
    generation::{knows_formats, max_tokens},
    thoughts::{ThinkingRoom, Thoughts},
};
use crate::wire::{
    Exchange, InvalidRequest, answer_tool,
    conversation::{Conversation, Format, Tool, ToolChoice},
    json::{Extra, Json, Numeral},
    refusal, to_body,
};

/// The body of a request.
#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<Value>,
    messages: Vec<WireMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<Numeral>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Json>,
    #[serde(flatten)]
    extra: Extra,
}

/// Fields that the body has already, or that mean something else here.
const TAKEN: [&str; 17] = [
    "model",
    "max_tokens",
    "system",
    "messages",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "stream",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "output_format",
    "metadata",
    "service_tier",
    "cache_control",
];

/// A tool.
#[derive(Serialize)]
struct WireTool {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    input_schema: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Json>,
}

/// How the answer is made.
#[derive(Serialize)]
struct OutputConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutputFormat>,
}

#[derive(Serialize)]
struct OutputFormat {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: Json,
}

/// The body for the upstream.
///
/// # Errors
/// [`InvalidRequest`] if messages have no words for something.
pub(in crate::wire) fn encode_request(
    exchange: &Exchange,
    mut conversation: Conversation,
) -> Result<Bytes, InvalidRequest> {
    refusal::logprobs(&conversation)?;
    refusal::penalties(&conversation)?;
    refusal::json_object(&conversation)?;
    let model = &exchange.upstream_model;
    if !knows_formats(model) {
        answer_tool::put_in(&mut conversation)?;
    }
    let thoughts = Thoughts::of(&conversation, model, ThinkingRoom::Counted);
    let has_tools = !conversation.tools.is_empty();
    let Split { system, messages } = encode_messages(conversation.messages)?;
    let choice = tool_choice(conversation.tool_choice, conversation.parallel_calls);
    let format = conversation.format.and_then(format);
    let sampling = conversation.sampling;
    let request = Request {
        model,
        max_tokens: sampling
            .max_tokens
            .unwrap_or_else(|| max_tokens(model).saturating_add(thoughts.budget)),
        system,
        messages,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        stop_sequences: sampling.stop,
        stream: exchange.stream.then_some(true),
        tools: conversation.tools.into_iter().map(tool).collect(),
        tool_choice: choice.filter(|_| has_tools),
        output_config: (thoughts.effort.is_some() || format.is_some()).then_some(OutputConfig {
            effort: thoughts.effort,
            format,
        }),
        thinking: thoughts.thinking,
        metadata: conversation.user.map(|user| json!({"user_id": user})),
        service_tier: conversation.service_tier.as_deref().map(tier),
        cache_control: conversation.cache,
        extra: conversation.extra.without(&TAKEN),
    };
    Ok(to_body(&request))
}

fn tool(tool: Tool) -> WireTool {
    WireTool {
        name: tool.name,
        description: tool.description,
        input_schema: tool
            .parameters
            .unwrap_or_else(|| json!({"type": "object", "properties": {}}).into()),
        strict: tool.is_strict,
        cache_control: tool.cache,
    }
}

/// `tool_choice`, in which it also stands whether the model may call several tools at once.
pub(in crate::wire) fn tool_choice(
    choice: Option<ToolChoice>,
    parallel: Option<bool>,
) -> Option<Choice> {
    let disable_parallel_tool_use = parallel == Some(false);
    match choice {
        None if disable_parallel_tool_use => Some(Choice::Auto {
            disable_parallel_tool_use,
        }),
        None => None,
        Some(ToolChoice::Auto) => Some(Choice::Auto {
            disable_parallel_tool_use,
        }),
        Some(ToolChoice::Required) => Some(Choice::Any {
            disable_parallel_tool_use,
        }),
        Some(ToolChoice::Named(name)) => Some(Choice::Tool {
            name,
            disable_parallel_tool_use,
        }),
        Some(ToolChoice::None) => Some(Choice::None),
    }
}

/// The format; a JSON object without a schema was refused before.
fn format(format: Format) -> Option<OutputFormat> {
    match format {
        Format::JsonSchema { schema, .. } => Some(OutputFormat {
            kind: "json_schema",
            schema,
        }),
        Format::JsonObject => None,
    }
}

/// Anthropic's word for a tier.
fn tier(tier: &str) -> &'static str {
    match tier {
        "default" => "standard_only",
        _ => "auto",
    }
}
