//! A request to an upstream that speaks Ollama's API.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::encode_content::{OllamaMessage, encode_messages};
use crate::wire::{
    Exchange, InvalidRequest,
    conversation::{Conversation, Effort, Format, Reasoning, Sampling, Tool, ToolChoice},
    fields::Fields,
    json::{Extra, Json, Numeral},
    refusal, to_body,
};

/// The body of a request.
#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<OllamaMessage>,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<OllamaTool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Value>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    options: Options,
    #[serde(flatten)]
    extra: Extra,
}

/// Fields that the body has already.
const TAKEN: [&str; 7] = [
    "model", "messages", "stream", "tools", "format", "think", "options",
];

#[derive(Serialize)]
struct OllamaTool {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: String,
    description: String,
    parameters: Json,
}

#[derive(Default, PartialEq, Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u64>,
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
    repeat_penalty: Option<Numeral>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<Numeral>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
}

impl Options {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
    let tools = chosen(conversation.tools, conversation.tool_choice.as_ref())?;
    let request = Request {
        model: &exchange.upstream_model,
        messages: encode_messages(conversation.messages)?,
        stream: exchange.stream,
        tools,
        format: conversation.format.map(|format| match format {
            Format::JsonObject => json!("json").into(),
            Format::JsonSchema { schema, .. } => schema,
        }),
        think: conversation.reasoning.map(think),
        options: options(conversation.sampling),
        extra: conversation.extra.without(&TAKEN),
    };
    Ok(to_body(&request))
}

/// A request of a client of this API, with another model's name; all else stays as it is.
///
/// # Errors
/// [`InvalidRequest`] if it is no object.
pub(crate) fn with_model(body: &[u8], model: &str) -> Result<Bytes, InvalidRequest> {
    #[derive(Serialize)]
    struct Renamed<'a> {
        model: &'a str,
        #[serde(flatten)]
        rest: Extra,
    }
    let mut fields = Fields::of_body(body)?;
    fields.ignore(&["model"]);
    let rest = fields.rest();
    Ok(to_body(&Renamed { model, rest }))
}

/// The tools that may be called: this API has no other way to choose.
fn chosen(
    tools: Vec<Tool>,
    choice: Option<&ToolChoice>,
) -> Result<Vec<OllamaTool>, InvalidRequest> {
    match choice {
        None | Some(ToolChoice::Auto) => Ok(tools.into_iter().map(tool).collect()),
        Some(ToolChoice::None) => Ok(Vec::new()),
        Some(ToolChoice::Required | ToolChoice::Named(_)) => Err(InvalidRequest::new(
            "tool_choice",
            "must be `auto` or `none` with this model, which cannot be forced to call a tool",
        )),
    }
}

fn tool(tool: Tool) -> OllamaTool {
    OllamaTool {
        kind: "function",
        function: Function {
            name: tool.name,
            description: tool.description.unwrap_or_default(),
            parameters: tool
                .parameters
                .unwrap_or_else(|| json!({"type": "object", "properties": {}}).into()),
        },
    }
}

fn think(reasoning: Reasoning) -> Value {
    let effort = match reasoning {
        Reasoning::Off => return json!(false),
        Reasoning::Adaptive => return json!(true),
        Reasoning::Effort(effort) => effort,
        Reasoning::Budget(tokens) => Effort::of_budget(tokens),
    };
    match effort {
        Effort::Minimal | Effort::Low => json!("low"),
        Effort::Medium => json!("medium"),
        Effort::High | Effort::XHigh | Effort::Max => json!("high"),
    }
}

fn options(sampling: Sampling) -> Options {
    Options {
        num_predict: sampling.max_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        repeat_penalty: sampling.repetition_penalty,
        seed: sampling.seed,
        stop: sampling.stop,
    }
}
