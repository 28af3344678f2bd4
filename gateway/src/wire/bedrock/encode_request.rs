//! A request to an upstream that speaks `Converse`.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    encode_content::{BedrockMessage, Block, cache_point, encode_messages},
    model_fields::{ModelFields, model_fields},
};
use crate::wire::{
    Exchange, InvalidRequest, answer_tool,
    conversation::{Conversation, Format, Sampling, Tool, ToolChoice},
    json::{Extra, Json, Numeral},
    messages::knows_formats,
    refusal, to_body,
};

/// The body of a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    messages: Vec<BedrockMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block>,
    inference_config: InferenceConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
    #[serde(skip_serializing_if = "ModelRequest::is_empty")]
    additional_model_request_fields: ModelRequest,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Value>,
    #[serde(flatten)]
    own: Extra,
}

/// Fields of `Converse` itself, which stay where they are.
const OWN: [&str; 5] = [
    "guardrailConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "additionalModelResponseFieldPaths",
];

/// Fields for the model: ours, and those that we do not understand.
#[derive(Serialize)]
struct ModelRequest {
    #[serde(flatten)]
    ours: Map<String, Value>,
    #[serde(flatten)]
    extra: Extra,
}

impl ModelRequest {
    fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.extra.is_empty()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InferenceConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Numeral>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig {
    tools: Vec<BedrockTool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum BedrockTool {
    ToolSpec(ToolSpec),
    CachePoint(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    input_schema: InputSchema,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct InputSchema {
    json: Json,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    text_format: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
}

/// The body for the upstream.
///
/// # Errors
/// [`InvalidRequest`] if neither this API nor its model has words for something.
pub(in crate::wire) fn encode_request(
    exchange: &Exchange,
    mut conversation: Conversation,
) -> Result<Bytes, InvalidRequest> {
    refusal::logprobs(&conversation)?;
    refusal::penalties(&conversation)?;
    refusal::json_object(&conversation)?;
    if !knows_formats(&exchange.upstream_model) {
        answer_tool::put_in(&mut conversation)?;
    }
    let ModelFields { fields, effort } = model_fields(&conversation, &exchange.upstream_model)?;
    let is_chosen_by_model = fields.contains_key("tool_choice");
    let choice = conversation
        .tool_choice
        .filter(|_| !is_chosen_by_model)
        .and_then(tool_choice);
    let text_format = conversation.format.and_then(text_format);
    let (system, messages) = encode_messages(conversation.messages)?;
    let names: Vec<_> = fields.keys().map(String::as_str).chain(OWN).collect();
    let request = Request {
        messages,
        system,
        inference_config: inference_config(conversation.sampling),
        tool_config: tool_config(conversation.tools, choice),
        output_config: (text_format.is_some() || effort.is_some()).then_some(OutputConfig {
            text_format,
            effort,
        }),
        additional_model_request_fields: ModelRequest {
            extra: conversation.extra.without(&names),
            ours: fields,
        },
        service_tier: conversation.service_tier.as_deref().and_then(tier),
        own: conversation.extra.only(&OWN),
    };
    Ok(to_body(&request))
}

fn inference_config(sampling: Sampling) -> InferenceConfig {
    InferenceConfig {
        max_tokens: sampling.max_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        stop_sequences: sampling.stop,
    }
}

fn tool_config(tools: Vec<Tool>, tool_choice: Option<Value>) -> Option<ToolConfig> {
    let mut specs = Vec::with_capacity(tools.len());
    for tool in tools {
        let json = tool
            .parameters
            .unwrap_or_else(|| json!({"type": "object", "properties": {}}).into());
        specs.push(BedrockTool::ToolSpec(ToolSpec {
            name: tool.name,
            // An empty text is refused.
            description: tool.description.filter(|text| !text.is_empty()),
            input_schema: InputSchema { json },
            strict: tool.is_strict,
        }));
        let mark = tool.cache.as_ref().map(cache_point);
        specs.extend(mark.map(BedrockTool::CachePoint));
    }
    (!specs.is_empty()).then_some(ToolConfig {
        tools: specs,
        tool_choice,
    })
}

fn tool_choice(choice: ToolChoice) -> Option<Value> {
    match choice {
        ToolChoice::Auto => Some(json!({"auto": {}})),
        ToolChoice::Required => Some(json!({"any": {}})),
        ToolChoice::Named(name) => Some(json!({"tool": {"name": name}})),
        ToolChoice::None => None,
    }
}

/// Here the schema is a text.
fn text_format(format: Format) -> Option<Value> {
    let Format::JsonSchema {
        name,
        description,
        schema,
        ..
    } = format
    else {
        return None;
    };
    let mut definition = json!({"schema": schema.compact(), "name": name});
    if let Some(description) = description {
        definition["description"] = json!(description);
    }
    Some(json!({"type": "json_schema", "structure": {"jsonSchema": definition}}))
}

/// Amazon's word for a tier; `None` leaves it to the account.
fn tier(tier: &str) -> Option<Value> {
    match tier {
        "auto" => None,
        tier => Some(json!({"type": tier})),
    }
}
