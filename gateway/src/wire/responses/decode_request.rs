//! What a client of responses asks for.

use super::decode_items::decode_input;
use crate::wire::{
    InvalidRequest,
    conversation::{
        Conversation, Effort, Format, Logprobs, Message, Part, PartKind, Role, Sampling, Tool,
        ToolChoice,
    },
    fields::{Fields, Item},
};

/// Fields that change nothing of the answer: where it is kept, and what a cache may save.
const HARMLESS: [&str; 12] = [
    "model",
    "stream",
    "stream_options",
    "store",
    "metadata",
    "truncation",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "moderation",
    "max_tool_calls",
    "context_management",
];

/// What needs a store of answers, which nobody keeps here.
const STORED: [&str; 4] = [
    "previous_response_id",
    "conversation",
    "prompt",
    "item_reference",
];

/// Reads a request.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed or asks for what no other API has.
pub(in crate::wire) fn decode_request(body: &[u8]) -> Result<Conversation, InvalidRequest> {
    let mut fields = Fields::of_body(body)?;
    fields.ignore(&HARMLESS);
    for name in STORED {
        let message = "is not supported with this model: send the whole conversation as `input`";
        fields.refuse(name, message)?;
    }
    if fields.value::<bool>("background")? == Some(true) {
        return Err(fields.invalid("background", "is not supported with this model"));
    }
    let mut messages = Vec::new();
    if let Some(text) = fields.value("instructions")? {
        let part = Part::new("instructions", PartKind::Text(text));
        messages.push(Message {
            role: Role::System,
            parts: vec![part],
        });
    }
    let input = fields
        .take("input")
        .ok_or_else(|| fields.invalid("input", "is missing"))?;
    messages.extend(decode_input(input)?);
    let tools = fields.list("tools")?.into_iter().map(tool);
    let tools = tools.collect::<Result<_, _>>()?;
    let (format, verbosity) = match fields.object("text")? {
        Some(mut text) => (format(&mut text)?, text.value("verbosity")?),
        None => (None, None),
    };
    let logprobs = logprobs(&mut fields)?;
    let user: Option<String> = fields.value("user")?;
    Ok(Conversation {
        messages,
        tools,
        tool_choice: fields.take("tool_choice").map(tool_choice).transpose()?,
        parallel_calls: fields.value("parallel_tool_calls")?,
        sampling: Sampling {
            temperature: fields.value("temperature")?,
            top_p: fields.value("top_p")?,
            max_tokens: fields.value("max_output_tokens")?,
            ..Sampling::default()
        },
        format,
        reasoning: reasoning(&mut fields)?,
        verbosity,
        user: fields.value("safety_identifier")?.or(user),
        service_tier: fields.value("service_tier")?,
        logprobs,
        extra: fields.rest(),
        ..Conversation::default()
    })
}

fn tool(item: Item<'_>) -> Result<Tool, InvalidRequest> {
    let mut fields = item.fields()?;
    let kind: String = fields.need("type")?;
    if kind != "function" {
        let message =
            "must be `function`: tools that OpenAI runs are not supported with this model";
        return Err(fields.invalid("type", message));
    }
    Ok(Tool {
        at: fields.at().to_owned(),
        name: fields.need("name")?,
        description: fields.value("description")?,
        parameters: fields.json("parameters"),
        is_strict: fields.value("strict")?,
        cache: None,
    })
}

fn tool_choice(item: Item<'_>) -> Result<ToolChoice, InvalidRequest> {
    if item.is_object() {
        let mut fields = item.fields()?;
        let kind: String = fields.need("type")?;
        if kind != "function" {
            let message =
                "must be `function` with this model: pass the tools that may be called in `tools`";
            return Err(fields.invalid("type", message));
        }
        return Ok(ToolChoice::Named(fields.need("name")?));
    }
    match item.read::<String>()?.as_str() {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => Err(InvalidRequest::new(
            item.at,
            "must be `auto`, `none`, `required` or a function",
        )),
    }
}

fn format(text: &mut Fields<'_>) -> Result<Option<Format>, InvalidRequest> {
    let Some(mut format) = text.object("format")? else {
        return Ok(None);
    };
    match format.need::<String>("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::JsonObject)),
        "json_schema" => Ok(Some(Format::JsonSchema {
            name: format.need("name")?,
            description: format.value("description")?,
            is_strict: format.value("strict")?,
            schema: format
                .json("schema")
                .ok_or_else(|| format.invalid("schema", "is missing"))?,
        })),
        _ => Err(format.invalid("type", "must be `text`, `json_object` or `json_schema`")),
    }
}

fn reasoning(
    fields: &mut Fields<'_>,
) -> Result<Option<crate::wire::conversation::Reasoning>, InvalidRequest> {
    let Some(mut reasoning) = fields.object("reasoning")? else {
        return Ok(None);
    };
    let Some(word) = reasoning.value::<String>("effort")? else {
        return Ok(None);
    };
    let effort = Effort::reasoning(&word);
    let message = "must be `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`";
    effort
        .map(Some)
        .ok_or_else(|| reasoning.invalid("effort", message))
}

/// Log probabilities are asked for in `include`, beside what is given in any case.
fn logprobs(fields: &mut Fields<'_>) -> Result<Option<Logprobs>, InvalidRequest> {
    let include: Vec<String> = fields.value("include")?.unwrap_or_default();
    let top: Option<u64> = fields.value("top_logprobs")?;
    let is_wanted = include
        .iter()
        .any(|what| what == "message.output_text.logprobs");
    Ok(is_wanted.then_some(Logprobs { top }))
}
