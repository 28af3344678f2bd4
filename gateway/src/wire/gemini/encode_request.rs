//! A request to an upstream that speaks `generateContent`.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::{
    encode_content::{Content, GeminiPart, encode_contents},
    generation::{knows_json_schemas, thinking_config},
    schema::openapi,
};
use crate::wire::{
    Exchange, InvalidRequest,
    conversation::{Conversation, Format, Sampling, Tool, ToolChoice},
    json::{Extra, Json, Numeral},
    refusal, to_body,
};

/// The body of a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    contents: Vec<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Instruction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig>,
    generation_config: GenerationConfig,
    #[serde(flatten)]
    extra: Extra,
}

/// Fields that the body has already, or that mean something else here.
const TAKEN: [&str; 6] = [
    "model",
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
];

#[derive(Serialize)]
struct Instruction {
    parts: Vec<GeminiPart>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools {
    function_declarations: Vec<Declaration>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<Json>,
    /// The same in the words of OpenAPI.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig {
    function_calling_config: CallingConfig,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallingConfig {
    mode: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_function_names: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<Json>,
    /// The same in the words of OpenAPI.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Value>,
}

/// The body for the upstream.
///
/// # Errors
/// [`InvalidRequest`] if this API has no words for something.
pub(in crate::wire) fn encode_request(
    exchange: &Exchange,
    conversation: Conversation,
) -> Result<Bytes, InvalidRequest> {
    refusal::logprobs(&conversation)?;
    refusal::repetition(&conversation)?;
    if conversation.parallel_calls == Some(false) && !conversation.tools.is_empty() {
        return Err(refusal::parallel_calls());
    }
    let model = &exchange.upstream_model;
    let reasoning = conversation.reasoning;
    let thinking = reasoning.and_then(|reasoning| thinking_config(model, reasoning));
    let has_tools = !conversation.tools.is_empty();
    let (system, contents) = encode_contents(conversation.messages, model)?;
    let declarations = conversation.tools.into_iter();
    let declarations = declarations.map(|tool| declaration(model, tool));
    let declarations: Vec<_> = declarations.collect::<Result<_, _>>()?;
    let format = (conversation.format, thinking);
    let request = Request {
        contents,
        system_instruction: (!system.is_empty()).then_some(Instruction { parts: system }),
        tools: match declarations.is_empty() {
            true => Vec::new(),
            false => vec![Tools {
                function_declarations: declarations,
            }],
        },
        tool_config: conversation
            .tool_choice
            .filter(|_| has_tools)
            .map(tool_config),
        generation_config: generation_config(model, conversation.sampling, format)?,
        extra: conversation.extra.without(&TAKEN),
    };
    Ok(to_body(&request))
}

fn generation_config(
    model: &str,
    sampling: Sampling,
    (format, thinking_config): (Option<Format>, Option<Value>),
) -> Result<GenerationConfig, InvalidRequest> {
    let has_format = format.is_some();
    let schema = match format {
        Some(Format::JsonSchema { schema, .. }) => Some(schema),
        Some(Format::JsonObject) | None => None,
    };
    let (response_json_schema, response_schema) = match schema {
        Some(schema) if !knows_json_schemas(model) => {
            let at = "response_format.json_schema.schema";
            (None, Some(openapi(at, &schema)?))
        }
        schema => (schema, None),
    };
    Ok(GenerationConfig {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        max_output_tokens: sampling.max_tokens,
        stop_sequences: sampling.stop,
        seed: sampling.seed,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        response_mime_type: has_format.then_some("application/json"),
        response_json_schema,
        response_schema,
        thinking_config,
    })
}

fn declaration(model: &str, tool: Tool) -> Result<Declaration, InvalidRequest> {
    let (parameters_json_schema, parameters) = match tool.parameters {
        Some(schema) if !knows_json_schemas(model) => {
            let at = format!("{}.parameters", tool.at);
            (None, Some(openapi(&at, &schema)?))
        }
        schema => (schema, None),
    };
    Ok(Declaration {
        name: tool.name,
        description: tool.description,
        parameters_json_schema,
        parameters,
    })
}

fn tool_config(choice: ToolChoice) -> ToolConfig {
    let (mode, allowed_function_names) = match choice {
        ToolChoice::Auto => ("AUTO", Vec::new()),
        ToolChoice::None => ("NONE", Vec::new()),
        ToolChoice::Required => ("ANY", Vec::new()),
        ToolChoice::Named(name) => ("ANY", vec![name]),
    };
    ToolConfig {
        function_calling_config: CallingConfig {
            mode,
            allowed_function_names,
        },
    }
}
