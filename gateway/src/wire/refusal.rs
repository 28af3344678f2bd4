//! Refusals of what an upstream's API has no words for, where leaving it out would change the answer.

use super::{
    ClientApi, InvalidRequest,
    conversation::{Conversation, Format},
    json::Numeral,
};

const LEAVE_OUT: &str = "is not supported with this model: leave it out";

/// Refuses log probabilities.
///
/// # Errors
/// [`InvalidRequest`] if they are asked for.
pub(super) fn logprobs(conversation: &Conversation) -> Result<(), InvalidRequest> {
    match conversation.logprobs {
        Some(_) => Err(InvalidRequest::new("logprobs", LEAVE_OUT)),
        None => Ok(()),
    }
}

/// Refuses the sampling that only vLLM and its like know.
///
/// # Errors
/// [`InvalidRequest`] if it is asked for and not neutral.
pub(super) fn repetition(conversation: &Conversation) -> Result<(), InvalidRequest> {
    let sampling = &conversation.sampling;
    neutral(
        "repetition_penalty",
        sampling.repetition_penalty.as_ref(),
        1.0,
    )?;
    neutral("min_p", sampling.min_p.as_ref(), 0.0)
}

/// Refuses penalties for tokens that came already.
///
/// # Errors
/// [`InvalidRequest`] if they are asked for and not neutral.
pub(super) fn penalties(conversation: &Conversation) -> Result<(), InvalidRequest> {
    let sampling = &conversation.sampling;
    neutral("presence_penalty", sampling.presence_penalty.as_ref(), 0.0)?;
    neutral(
        "frequency_penalty",
        sampling.frequency_penalty.as_ref(),
        0.0,
    )?;
    repetition(conversation)
}

fn neutral(name: &str, value: Option<&Numeral>, neutral: f64) -> Result<(), InvalidRequest> {
    let is_neutral = |value: &Numeral| value.as_f64() == Some(neutral);
    match value.is_none_or(is_neutral) {
        true => Ok(()),
        false => Err(InvalidRequest::new(name, LEAVE_OUT)),
    }
}

/// Refuses to promise a JSON object of no schema.
///
/// # Errors
/// [`InvalidRequest`] if it is asked for.
pub(super) fn json_object(conversation: &Conversation) -> Result<(), InvalidRequest> {
    match conversation.format {
        Some(Format::JsonObject) => Err(InvalidRequest::new(
            "response_format.type",
            "must be a JSON schema with this model, which cannot promise just any JSON object",
        )),
        Some(Format::JsonSchema { .. }) | None => Ok(()),
    }
}

/// The refusal of a model that may always call several tools at once.
pub(super) fn parallel_calls() -> InvalidRequest {
    InvalidRequest::new(
        "parallel_tool_calls",
        "cannot be turned off with this model: leave it out and take several calls at once",
    )
}

/// The refusal with the name that the field has in the client's API; the ones here are those of chats.
pub(super) fn in_words_of(client: ClientApi, invalid: InvalidRequest) -> InvalidRequest {
    let param = match (client, invalid.param.as_str()) {
        (ClientApi::Messages, "parallel_tool_calls") => "tool_choice.disable_parallel_tool_use",
        (ClientApi::Responses, "response_format.type") => "text.format.type",
        (ClientApi::Responses, "logprobs") => "include",
        (ClientApi::Ollama | ClientApi::Generate, name) => match name {
            "response_format.type" => "format",
            "presence_penalty" => "options.presence_penalty",
            "frequency_penalty" => "options.frequency_penalty",
            "repetition_penalty" => "options.repeat_penalty",
            "min_p" => "options.min_p",
            _ => return invalid,
        },
        _ => return invalid,
    };
    InvalidRequest {
        param: param.to_owned(),
        ..invalid
    }
}
