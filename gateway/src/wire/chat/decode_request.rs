//! What a client of chat completions asks for.

use serde::Deserialize;

use super::decode_content::decode_messages;
use crate::wire::{
    InvalidRequest,
    conversation::{Conversation, Effort, Format, Logprobs, Reasoning, Sampling, Tool, ToolChoice},
    fields::{Fields, Item},
    json::Numeral,
};

/// Fields that change nothing of the answer: where it is kept, and what a cache or a guess may save.
const HARMLESS: [&str; 10] = [
    "model",
    "stream",
    "stream_options",
    "store",
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "moderation",
];

/// Reads a request.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed or asks for what no other API has.
pub(in crate::wire) fn decode_request(body: &[u8]) -> Result<Conversation, InvalidRequest> {
    let mut fields = Fields::of_body(body)?;
    fields.ignore(&HARMLESS);
    refuse(&mut fields)?;
    let messages = decode_messages(fields.list("messages")?)?;
    let tools = fields.list("tools")?.into_iter().map(tool);
    let tools = tools.collect::<Result<_, _>>()?;
    let mut user = fields.value("user")?;
    if let Some(identifier) = fields.value("safety_identifier")? {
        user = Some(identifier);
    }
    Ok(Conversation {
        messages,
        tools,
        tool_choice: fields.take("tool_choice").map(tool_choice).transpose()?,
        parallel_calls: fields.value("parallel_tool_calls")?,
        sampling: sampling(&mut fields)?,
        format: format(&mut fields)?,
        reasoning: reasoning(&mut fields)?,
        verbosity: fields.value("verbosity")?,
        user,
        service_tier: fields.value("service_tier")?,
        cache: fields.json("cache_control"),
        logprobs: logprobs(&mut fields)?,
        extra: fields.rest(),
    })
}

/// Refuses what other APIs have no words for.
fn refuse(fields: &mut Fields<'_>) -> Result<(), InvalidRequest> {
    let answers: Option<u64> = fields.value("n")?;
    if answers.is_some_and(|answers| answers != 1) {
        return Err(fields.invalid("n", "must be 1 with this model: it gives one answer"));
    }
    let modalities: Option<Vec<String>> = fields.value("modalities")?;
    if modalities.is_some_and(|words| words.iter().any(|word| word != "text")) {
        return Err(fields.invalid("modalities", "must be [\"text\"] with this model"));
    }
    let bias: Option<serde_json::Map<String, serde_json::Value>> = fields.value("logit_bias")?;
    if bias.is_some_and(|bias| !bias.is_empty()) {
        return Err(fields.invalid(
            "logit_bias",
            "is not supported with this model: leave it out",
        ));
    }
    fields.refuse("audio", "is not supported with this model: leave it out")?;
    fields.refuse("functions", "is not supported with this model: use `tools`")?;
    fields.refuse(
        "function_call",
        "is not supported with this model: use `tool_choice`",
    )?;
    fields.refuse(
        "web_search_options",
        "is not supported with this model: leave it out",
    )
}

fn tool(item: Item<'_>) -> Result<Tool, InvalidRequest> {
    let mut fields = item.fields()?;
    let kind: Option<String> = fields.value("type")?;
    if kind.as_deref().is_some_and(|kind| kind != "function") {
        return Err(fields.invalid("type", "must be `function` with this model"));
    }
    let at = fields.at().to_owned();
    let outer = fields.json("cache_control");
    let mut function = fields
        .object("function")?
        .ok_or_else(|| fields.invalid("function", "is missing"))?;
    Ok(Tool {
        at,
        name: function.need("name")?,
        description: function.value("description")?,
        parameters: function.json("parameters"),
        is_strict: function.value("strict")?,
        cache: outer.or_else(|| function.json("cache_control")),
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
        let mut function = fields
            .object("function")?
            .ok_or_else(|| fields.invalid("function", "is missing"))?;
        return Ok(ToolChoice::Named(function.need("name")?));
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

fn sampling(fields: &mut Fields<'_>) -> Result<Sampling, InvalidRequest> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stop {
        One(String),
        Many(Vec<String>),
    }
    let old: Option<u64> = fields.value("max_tokens")?;
    Ok(Sampling {
        temperature: fields.value("temperature")?,
        top_p: fields.value("top_p")?,
        // Below 1 means all, in vLLM's words.
        top_k: fields
            .value::<Numeral>("top_k")?
            .filter(|top| top.as_f64().is_some_and(|top| 1.0 <= top)),
        min_p: fields.value("min_p")?,
        presence_penalty: fields.value("presence_penalty")?,
        frequency_penalty: fields.value("frequency_penalty")?,
        repetition_penalty: fields.value("repetition_penalty")?,
        seed: fields.value("seed")?,
        stop: match fields.value("stop")? {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop],
            Some(Stop::Many(stops)) => stops,
        },
        max_tokens: fields.value("max_completion_tokens")?.or(old),
    })
}

fn format(fields: &mut Fields<'_>) -> Result<Option<Format>, InvalidRequest> {
    let Some(mut format) = fields.object("response_format")? else {
        return Ok(None);
    };
    match format.need::<String>("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::JsonObject)),
        "json_schema" => {
            let mut schema = format
                .object("json_schema")?
                .ok_or_else(|| format.invalid("json_schema", "is missing"))?;
            Ok(Some(Format::JsonSchema {
                name: schema.need("name")?,
                description: schema.value("description")?,
                is_strict: schema.value("strict")?,
                schema: schema
                    .json("schema")
                    .ok_or_else(|| schema.invalid("schema", "is missing"))?,
            }))
        }
        _ => {
            let message = "must be `text`, `json_object` or `json_schema` with this model";
            Err(format.invalid("type", message))
        }
    }
}

/// How much to think, by OpenAI's effort or by Anthropic's `thinking`, which LiteLLM's clients send to chats.
fn reasoning(fields: &mut Fields<'_>) -> Result<Option<Reasoning>, InvalidRequest> {
    let effort = match fields.value::<String>("reasoning_effort")? {
        None => None,
        Some(word) => Some(Effort::reasoning(&word).ok_or_else(|| {
            fields.invalid(
                "reasoning_effort",
                "must be `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`",
            )
        })?),
    };
    let Some(thinking) = fields.object("thinking")? else {
        return Ok(effort);
    };
    let thinking = crate::wire::messages::thinking(thinking)?;
    Ok(effort.or(Some(thinking)))
}

fn logprobs(fields: &mut Fields<'_>) -> Result<Option<Logprobs>, InvalidRequest> {
    let is_wanted: Option<bool> = fields.value("logprobs")?;
    let top = fields.value("top_logprobs")?;
    Ok((is_wanted == Some(true)).then_some(Logprobs { top }))
}
