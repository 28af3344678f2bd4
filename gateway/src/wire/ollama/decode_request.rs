//! What a client of Ollama's API asks for.

use std::collections::VecDeque;

use crate::wire::{
    InvalidRequest, calls,
    conversation::{
        Call, CallResult, Conversation, Effort, Format, Logprobs, Message, Part, PartKind,
        Reasoning, Role, Sampling, Source, Thinking, Tool,
    },
    fields::{Fields, Item},
};

/// Fields that change nothing of the answer: how long the model stays in memory, and how it is run.
const HARMLESS: [&str; 5] = ["model", "stream", "keep_alive", "truncate", "shift"];

/// Options that say how a model is run, not what it answers.
const RUNNING: [&str; 10] = [
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "num_keep",
    "use_mmap",
    "use_mlock",
    "numa",
    "low_vram",
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
    let mut waiting = VecDeque::new();
    let mut messages: Vec<Message> = Vec::new();
    for (number, item) in fields.list("messages")?.into_iter().enumerate() {
        let message = decode_message(item, number, &mut waiting)?;
        let is_result = |message: &Message| {
            let is_it = |part: &Part| matches!(part.kind, PartKind::CallResult(_));
            message.parts.iter().all(is_it) && !message.parts.is_empty()
        };
        match messages.last_mut() {
            Some(last) if is_result(last) && is_result(&message) => {
                last.parts.extend(message.parts);
            }
            _ => messages.push(message),
        }
    }
    let tools = fields.list("tools")?.into_iter().map(tool);
    let tools = tools.collect::<Result<_, _>>()?;
    let sampling = match fields.object("options")? {
        Some(options) => sampling(options)?,
        None => Sampling::default(),
    };
    let format = fields.take("format").map(format).transpose()?.flatten();
    let reasoning = fields.take("think").map(think).transpose()?;
    let wants_logprobs: Option<bool> = fields.value("logprobs")?;
    let top = fields.value("top_logprobs")?;
    Ok(Conversation {
        messages,
        tools,
        sampling,
        format,
        reasoning,
        logprobs: (wants_logprobs == Some(true)).then_some(Logprobs { top }),
        extra: fields.rest(),
        ..Conversation::default()
    })
}

/// Reads a message. Calls may come without ids, and results name the tool at most: a result belongs to the first call
/// of its tool that waits for one. `waiting` holds the calls' ids and names.
fn decode_message(
    item: Item<'_>,
    number: usize,
    waiting: &mut VecDeque<(String, String)>,
) -> Result<Message, InvalidRequest> {
    let mut fields = item.fields()?;
    let role: String = fields.need("role")?;
    let mut parts = Vec::new();
    let at = fields.path("content");
    if let Some(text) = fields.value("thinking")? {
        let thinking = Thinking {
            text,
            signature: None,
        };
        parts.push(Part::new(
            fields.path("thinking"),
            PartKind::Thinking(thinking),
        ));
    }
    let text: String = fields.value("content")?.unwrap_or_default();
    parts.push(Part::new(at, PartKind::Text(text)));
    for item in fields.list("images")? {
        let data: String = item.read()?;
        let source = Source::Base64 {
            media_type: media_type(&data).to_owned(),
            data,
        };
        let detail = None;
        parts.push(Part::new(item.at, PartKind::Image { source, detail }));
    }
    let role = match role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => {
            for (place, item) in fields.list("tool_calls")?.into_iter().enumerate() {
                parts.push(call(item, (number, place), waiting)?);
            }
            Role::Assistant
        }
        "tool" => {
            let name: Option<String> = fields.value("tool_name")?;
            let id: Option<String> = fields.value("tool_call_id")?;
            let id = id.map(|id| calls::unseal(id).0);
            let is_it = |(known, called): &(String, String)| match (&id, &name) {
                (Some(id), _) => known == id,
                (None, Some(name)) => called == name,
                (None, None) => true,
            };
            let place = waiting.iter().position(is_it);
            let Some((id, _)) = place.and_then(|place| waiting.remove(place)) else {
                let message = "answers no call that waits for an answer";
                return Err(InvalidRequest::new(fields.at(), message));
            };
            let result = CallResult {
                id,
                content: parts,
                is_error: false,
            };
            parts = vec![Part::new(fields.at(), PartKind::CallResult(result))];
            Role::User
        }
        _ => {
            let message = "must be `system`, `user`, `assistant` or `tool`";
            return Err(fields.invalid("role", message));
        }
    };
    Ok(Message { role, parts })
}

fn call(
    item: Item<'_>,
    (number, place): (usize, usize),
    waiting: &mut VecDeque<(String, String)>,
) -> Result<Part, InvalidRequest> {
    let mut fields = item.fields()?;
    let at = fields.at().to_owned();
    let id: Option<String> = fields.value("id")?;
    let (id, signature) = calls::unseal(
        id.filter(|id| !id.is_empty())
            .unwrap_or_else(|| format!("call_{number}_{place}")),
    );
    let mut function = fields
        .object("function")?
        .ok_or_else(|| fields.invalid("function", "is missing"))?;
    let name: String = function.need("name")?;
    let arguments = function.json("arguments");
    waiting.push_back((id.clone(), name.clone()));
    let call = Call {
        id,
        name,
        arguments: arguments.map_or_else(|| "{}".to_owned(), |arguments| arguments.compact()),
        signature,
    };
    Ok(Part::new(at, PartKind::Call(call)))
}

/// The type of a picture, by how its base64 begins: the API does not tell.
fn media_type(data: &str) -> &'static str {
    let known = [
        ("iVBORw0KGgo", "image/png"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
    ];
    let is_it = |(start, _): &&(&str, &str)| data.starts_with(start);
    known
        .iter()
        .find(is_it)
        .map_or("image/jpeg", |(_, media_type)| media_type)
}

fn tool(item: Item<'_>) -> Result<Tool, InvalidRequest> {
    let mut fields = item.fields()?;
    let at = fields.at().to_owned();
    let mut function = fields
        .object("function")?
        .ok_or_else(|| fields.invalid("function", "is missing"))?;
    Ok(Tool {
        at,
        name: function.need("name")?,
        description: function.value("description")?,
        parameters: function.json("parameters"),
        is_strict: None,
        cache: None,
    })
}

fn sampling(mut options: Fields<'_>) -> Result<Sampling, InvalidRequest> {
    options.ignore(&RUNNING);
    let tokens: Option<i64> = options.value("num_predict")?;
    Ok(Sampling {
        temperature: options.value("temperature")?,
        top_p: options.value("top_p")?,
        top_k: options.value("top_k")?,
        min_p: options.value("min_p")?,
        presence_penalty: options.value("presence_penalty")?,
        frequency_penalty: options.value("frequency_penalty")?,
        repetition_penalty: options.value("repeat_penalty")?,
        seed: options.value("seed")?,
        stop: options.value("stop")?.unwrap_or_default(),
        // Below 1 means as many as the model likes.
        max_tokens: tokens
            .and_then(|tokens| u64::try_from(tokens).ok())
            .filter(|tokens| 0 < *tokens),
    })
}

fn format(item: Item<'_>) -> Result<Option<Format>, InvalidRequest> {
    if item.is_object() {
        return Ok(Some(Format::JsonSchema {
            name: FORMAT_NAME.to_owned(),
            description: None,
            schema: item.raw.into(),
            is_strict: None,
        }));
    }
    match item.read::<String>()?.as_str() {
        "" => Ok(None),
        "json" => Ok(Some(Format::JsonObject)),
        _ => Err(InvalidRequest::new(item.at, "must be `json` or a schema")),
    }
}

fn think(item: Item<'_>) -> Result<Reasoning, InvalidRequest> {
    match item.raw.get() {
        "true" => return Ok(Reasoning::Adaptive),
        "false" => return Ok(Reasoning::Off),
        _ => {}
    }
    let effort = item.text().and_then(|word| Effort::reasoning(&word));
    let message = "must be true, false, `low`, `medium` or `high`";
    effort.ok_or_else(|| InvalidRequest::new(item.at, message))
}
