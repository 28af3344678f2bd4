//! What a client of messages asks for.

use super::decode_content::{decode_messages, decode_system};
use crate::wire::{
    InvalidRequest,
    conversation::{Conversation, Effort, Format, Reasoning, Sampling, Tool, ToolChoice},
    fields::{Fields, Item},
};

/// Fields that change nothing of the answer: hints on speed, on what to keep, and on whom to bill.
const HARMLESS: [&str; 8] = [
    "model",
    "stream",
    "betas",
    "context_management",
    "diagnostics",
    "speed",
    "user_profile_id",
    "workspace_id",
];

/// The name of a schema that comes without one.
const FORMAT_NAME: &str = "answer";

/// Reads a request.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed or asks for what no other API has.
pub(in crate::wire) fn decode_request(body: &[u8]) -> Result<Conversation, InvalidRequest> {
    let mut fields = Fields::of_body(body)?;
    fields.ignore(&HARMLESS);
    for name in ["container", "mcp_servers", "inference_geo"] {
        fields.refuse(name, "is not supported with this model: leave it out")?;
    }
    let mut messages = decode_system(&mut fields)?;
    messages.extend(decode_messages(fields.list("messages")?)?);
    let tools = fields.list("tools")?.into_iter().map(tool);
    let tools = tools.collect::<Result<_, _>>()?;
    let (tool_choice, parallel_calls) = match fields.object("tool_choice")? {
        Some(choice) => choose(choice)?,
        None => (None, None),
    };
    let user = match fields.object("metadata")? {
        Some(mut metadata) => metadata.value("user_id")?,
        None => None,
    };
    let sampling = Sampling {
        temperature: fields.value("temperature")?,
        top_p: fields.value("top_p")?,
        top_k: fields.value("top_k")?,
        stop: fields.value("stop_sequences")?.unwrap_or_default(),
        max_tokens: Some(fields.need("max_tokens")?),
        ..Sampling::default()
    };
    let thoughts = fields.object("thinking")?.map(thinking).transpose()?;
    let (effort, format) = match fields.object("output_config")? {
        Some(output) => output_config(output)?,
        None => (None, None),
    };
    let older = fields.object("output_format")?.map(output_format);
    Ok(Conversation {
        messages,
        tools,
        tool_choice,
        parallel_calls,
        sampling,
        format: format.or(older.transpose()?),
        // An effort says more than that the model may think.
        reasoning: match (thoughts, effort) {
            (None | Some(Reasoning::Adaptive), Some(effort)) => Some(Reasoning::Effort(effort)),
            (thoughts, _) => thoughts,
        },
        user,
        service_tier: tier(fields.value("service_tier")?),
        cache: fields.json("cache_control"),
        extra: fields.rest(),
        ..Conversation::default()
    })
}

fn tool(item: Item<'_>) -> Result<Tool, InvalidRequest> {
    let mut fields = item.fields()?;
    let kind: Option<String> = fields.value("type")?;
    if kind.as_deref().is_some_and(|kind| kind != "custom") {
        let message =
            "must be `custom`: tools that Anthropic runs are not supported with this model";
        return Err(fields.invalid("type", message));
    }
    Ok(Tool {
        at: fields.at().to_owned(),
        name: fields.need("name")?,
        description: fields.value("description")?,
        parameters: fields.json("input_schema"),
        is_strict: fields.value("strict")?,
        cache: fields.json("cache_control"),
    })
}

fn choose(mut fields: Fields<'_>) -> Result<(Option<ToolChoice>, Option<bool>), InvalidRequest> {
    let choice = match fields.need::<String>("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Named(fields.need("name")?),
        "none" => ToolChoice::None,
        _ => return Err(fields.invalid("type", "must be `auto`, `any`, `tool` or `none`")),
    };
    let is_single: Option<bool> = fields.value("disable_parallel_tool_use")?;
    Ok((Some(choice), is_single.map(|is_single| !is_single)))
}

/// How much to think, by `thinking`.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed.
pub(in crate::wire) fn thinking(mut fields: Fields<'_>) -> Result<Reasoning, InvalidRequest> {
    match fields.need::<String>("type")?.as_str() {
        "enabled" => Ok(fields
            .value("budget_tokens")?
            .map_or(Reasoning::Adaptive, Reasoning::Budget)),
        "adaptive" | "between_tools" => Ok(Reasoning::Adaptive),
        "disabled" => Ok(Reasoning::Off),
        _ => Err(fields.invalid("type", "must be `enabled`, `adaptive` or `disabled`")),
    }
}

fn output_config(
    mut fields: Fields<'_>,
) -> Result<(Option<Effort>, Option<Format>), InvalidRequest> {
    let effort = match fields.value::<String>("effort")? {
        None => None,
        Some(word) => Some(Effort::of_word(&word).ok_or_else(|| {
            fields.invalid(
                "effort",
                "must be `low`, `medium`, `high`, `xhigh` or `max`",
            )
        })?),
    };
    let format = fields.object("format")?.map(output_format).transpose()?;
    Ok((effort, format))
}

fn output_format(mut fields: Fields<'_>) -> Result<Format, InvalidRequest> {
    let kind: String = fields.need("type")?;
    if kind != "json_schema" {
        return Err(fields.invalid("type", "must be `json_schema`"));
    }
    let schema = fields.json("schema");
    Ok(Format::JsonSchema {
        name: FORMAT_NAME.to_owned(),
        description: None,
        schema: schema.ok_or_else(|| fields.invalid("schema", "is missing"))?,
        is_strict: Some(true),
    })
}

/// OpenAI's word for a tier.
fn tier(tier: Option<String>) -> Option<String> {
    match tier?.as_str() {
        "standard_only" => Some("default".to_owned()),
        tier => Some(tier.to_owned()),
    }
}
