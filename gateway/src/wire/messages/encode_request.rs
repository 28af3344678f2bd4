//! A request to an upstream that speaks messages.

use bytes::Bytes;
use protocol::anthropic::ToolChoice as Choice;
use serde::Serialize;
use serde_json::{Number, Value, json};

use super::{
    encode_content::{Split, WireMessage, encode_messages},
    generation::{ThinkingStyle, max_tokens, thinking_style},
};
use crate::wire::{
    Exchange, InvalidRequest,
    conversation::{Conversation, Effort, Format, Reasoning, Tool, ToolChoice},
    json::{Extra, Json},
    to_body,
};

/// Fewest tokens that a budget of thoughts may have.
const BUDGET_MIN: u64 = 1024;

/// The body of a request.
#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<Value>,
    messages: Vec<WireMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<Number>,
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
    conversation: Conversation,
) -> Result<Bytes, InvalidRequest> {
    refuse(&conversation)?;
    let model = &exchange.upstream_model;
    let thoughts = Thoughts::of(&conversation, model);
    let has_tools = !conversation.tools.is_empty();
    let Split { system, messages } = encode_messages(conversation.messages)?;
    let choice = tool_choice(conversation.tool_choice, conversation.parallel_calls);
    let format = conversation.format.map(format).transpose()?;
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

/// Refuses what would change the answer if it were left out.
fn refuse(conversation: &Conversation) -> Result<(), InvalidRequest> {
    if conversation.logprobs.is_some() {
        let message = "are not given by this model: leave them out";
        return Err(InvalidRequest::new("logprobs", message));
    }
    let sampling = &conversation.sampling;
    let is_set = |number: &Option<Number>, neutral: f64| {
        number
            .as_ref()
            .is_some_and(|number| number.as_f64() != Some(neutral))
    };
    let unsaid = [
        ("presence_penalty", is_set(&sampling.presence_penalty, 0.0)),
        (
            "frequency_penalty",
            is_set(&sampling.frequency_penalty, 0.0),
        ),
        (
            "repetition_penalty",
            is_set(&sampling.repetition_penalty, 1.0),
        ),
        ("min_p", is_set(&sampling.min_p, 0.0)),
    ];
    match unsaid.into_iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => Err(InvalidRequest::new(
            name,
            "is not supported with this model: leave it out",
        )),
        None => Ok(()),
    }
}

/// How the model is told to think.
struct Thoughts {
    thinking: Option<Value>,
    effort: Option<&'static str>,
    /// Tokens of thoughts, where they are counted.
    budget: u64,
}

impl Thoughts {
    const NONE: Self = Self {
        thinking: None,
        effort: None,
        budget: 0,
    };

    fn of(conversation: &Conversation, model: &str) -> Self {
        let Some(reasoning) = conversation.reasoning else {
            return Self::NONE;
        };
        // The API refuses thoughts before a call that is forced; the call is what the client insists on.
        let is_forced = matches!(
            conversation.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Named(_))
        );
        let disabled = Self {
            thinking: Some(json!({"type": "disabled"})),
            ..Self::NONE
        };
        match (reasoning, thinking_style(model)) {
            (Reasoning::Off, _) => disabled,
            _ if is_forced => Self::NONE,
            (Reasoning::Effort(effort), ThinkingStyle::Budget) => {
                Self::budget(conversation, effort.budget())
            }
            (Reasoning::Adaptive, ThinkingStyle::Budget) => {
                Self::budget(conversation, Effort::Medium.budget())
            }
            (Reasoning::Budget(tokens), ThinkingStyle::Budget) => {
                Self::budget(conversation, tokens)
            }
            (Reasoning::Adaptive, ThinkingStyle::Adaptive) => Self::adaptive(None),
            (Reasoning::Effort(effort), ThinkingStyle::Adaptive) => Self::adaptive(Some(effort)),
            (Reasoning::Budget(tokens), ThinkingStyle::Adaptive) => {
                Self::adaptive(Some(Effort::of_budget(tokens)))
            }
        }
    }

    fn adaptive(effort: Option<Effort>) -> Self {
        Self {
            thinking: Some(json!({"type": "adaptive"})),
            effort: effort.map(|effort| match effort {
                // The lowest that this API knows.
                Effort::Minimal => Effort::Low.word(),
                effort => effort.word(),
            }),
            budget: 0,
        }
    }

    /// A budget must leave tokens for the answer; where it cannot, and where the thoughts before the last calls are
    /// lost, the model does not think.
    fn budget(conversation: &Conversation, tokens: u64) -> Self {
        let room = conversation.sampling.max_tokens;
        let tokens = match room {
            Some(room) => tokens.min(room.saturating_sub(1)),
            None => tokens,
        };
        if tokens < BUDGET_MIN || super::encode_content::has_calls_without_thoughts(conversation) {
            return Self::NONE;
        }
        Self {
            thinking: Some(json!({"type": "enabled", "budget_tokens": tokens})),
            effort: None,
            budget: if room.is_none() { tokens } else { 0 },
        }
    }
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

fn tool_choice(choice: Option<ToolChoice>, parallel: Option<bool>) -> Option<Choice> {
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

fn format(format: Format) -> Result<OutputFormat, InvalidRequest> {
    match format {
        Format::JsonSchema { schema, .. } => Ok(OutputFormat {
            kind: "json_schema",
            schema,
        }),
        Format::JsonObject => Err(InvalidRequest::new(
            "response_format.type",
            "`json_object` is not supported with this model: use `json_schema`",
        )),
    }
}

/// Anthropic's word for a tier.
fn tier(tier: &str) -> &'static str {
    match tier {
        "default" => "standard_only",
        _ => "auto",
    }
}
