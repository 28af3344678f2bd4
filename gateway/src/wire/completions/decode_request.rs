//! What a client of completions asks for.

use protocol::openai::{Prompt, Stop};

use crate::wire::{
    InvalidRequest,
    conversation::{Conversation, Message, Part, PartKind, Role, Sampling},
    fields::Fields,
};

/// Fields that change nothing of the answer.
const HARMLESS: [&str; 3] = ["model", "stream", "stream_options"];

/// Reads a request.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed or asks for what chats have not.
pub(in crate::wire) fn decode_request(body: &[u8]) -> Result<Conversation, InvalidRequest> {
    let mut fields = Fields::of_body(body)?;
    fields.ignore(&HARMLESS);
    refuse(&mut fields)?;
    let prompt = match fields.need::<Prompt>("prompt")? {
        Prompt::Text(text) => text,
        Prompt::Texts(texts) => match <[String; 1]>::try_from(texts) {
            Ok([text]) => text,
            Err(_) => {
                return Err(fields.invalid("prompt", "must be one text with this model"));
            }
        },
        Prompt::Tokens(_) | Prompt::TokenLists(_) => {
            let message = "must be text with this model, which has tokens of its own";
            return Err(fields.invalid("prompt", message));
        }
    };
    let stop: Option<Stop> = fields.value("stop")?;
    Ok(Conversation {
        messages: vec![Message {
            role: Role::User,
            parts: vec![Part::new("prompt", PartKind::Text(prompt))],
        }],
        sampling: Sampling {
            temperature: fields.value("temperature")?,
            top_p: fields.value("top_p")?,
            top_k: fields.value("top_k")?,
            min_p: fields.value("min_p")?,
            presence_penalty: fields.value("presence_penalty")?,
            frequency_penalty: fields.value("frequency_penalty")?,
            repetition_penalty: fields.value("repetition_penalty")?,
            seed: fields.value("seed")?,
            stop: stop.map(|stop| stop.strings().to_vec()).unwrap_or_default(),
            max_tokens: fields.value("max_tokens")?,
        },
        user: fields.value("user")?,
        extra: fields.rest(),
        ..Conversation::default()
    })
}

/// Refuses what chats have not.
fn refuse(fields: &mut Fields<'_>) -> Result<(), InvalidRequest> {
    const LEAVE_OUT: &str = "is not supported with this model: leave it out";
    for name in ["n", "best_of"] {
        let answers: Option<u64> = fields.value(name)?;
        if answers.is_some_and(|answers| answers != 1) {
            return Err(fields.invalid(name, "must be 1 with this model: it gives one answer"));
        }
    }
    let is_echo: Option<bool> = fields.value("echo")?;
    if is_echo == Some(true) {
        return Err(fields.invalid("echo", LEAVE_OUT));
    }
    let suffix: Option<String> = fields.value("suffix")?;
    if suffix.is_some_and(|text| !text.is_empty()) {
        return Err(fields.invalid("suffix", LEAVE_OUT));
    }
    fields.refuse("logprobs", LEAVE_OUT)?;
    let bias: Option<serde_json::Map<String, serde_json::Value>> = fields.value("logit_bias")?;
    match bias.is_some_and(|bias| !bias.is_empty()) {
        true => Err(fields.invalid("logit_bias", LEAVE_OUT)),
        false => Ok(()),
    }
}
