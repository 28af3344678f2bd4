//! The response object: what was asked, which it repeats, and what came of it.

use bytes::Bytes;
use protocol::openai::{
    ErrorKind, IncompleteDetails, OutputContent, OutputItem, OutputLogprob, OutputText,
    ReasoningPart, ResponseError, ResponseFormat, ResponseObject, ResponseStatus, ResponseText,
    ResponseToolChoice, ResponseUsage, ResponsesRequest,
};

use super::blob;
use crate::wire::{
    Exchange,
    conversation::Thinking,
    error::UpstreamFault,
    reply::{Finish, Usage},
};

/// The prefix of ids.
const ID: &str = "resp_";

/// A response of which nothing has been made yet.
pub(super) fn empty(exchange: &Exchange, upstream_id: Option<&str>) -> ResponseObject {
    let asked = Asked::of(&exchange.request);
    ResponseObject {
        id: exchange.answer_id(ID, upstream_id),
        object: "response".to_owned(),
        created_at: exchange.created,
        completed_at: None,
        status: ResponseStatus::InProgress,
        error: None,
        incomplete_details: None,
        instructions: asked.0.instructions,
        max_output_tokens: asked.0.max_output_tokens,
        model: exchange.model.clone(),
        output: Vec::new(),
        parallel_tool_calls: asked.0.parallel_tool_calls.unwrap_or(true),
        previous_response_id: None,
        reasoning: asked.0.reasoning,
        store: false,
        temperature: asked.0.temperature.unwrap_or(1.0),
        text: asked.0.text.unwrap_or_else(|| ResponseText {
            format: Some(ResponseFormat::Text),
            ..ResponseText::default()
        }),
        tool_choice: asked
            .0
            .tool_choice
            .unwrap_or_else(|| ResponseToolChoice::Word("auto".to_owned())),
        tools: asked.0.tools.unwrap_or_default(),
        top_logprobs: asked.0.top_logprobs.unwrap_or(0),
        top_p: asked.0.top_p.unwrap_or(1.0),
        truncation: "disabled".to_owned(),
        usage: None,
        metadata: asked.0.metadata.unwrap_or_default(),
    }
}

/// What the response repeats of its request; the defaults where the request is not at hand.
struct Asked(ResponsesRequest);

impl Asked {
    fn of(body: &Bytes) -> Self {
        let asked = serde_json::from_slice(body)
            .or_else(|_| serde_json::from_str(r#"{"model": "", "input": ""}"#));
        Self(
            asked.unwrap_or_else(|_: serde_json::Error| ResponsesRequest {
                model: String::new(),
                input: protocol::openai::ResponseInput::Text(String::new()),
                instructions: None,
                max_output_tokens: None,
                temperature: None,
                top_p: None,
                top_logprobs: None,
                stream: None,
                text: None,
                tools: None,
                tool_choice: None,
                parallel_tool_calls: None,
                reasoning: None,
                include: None,
                metadata: None,
                rest: serde_json::Map::new(),
            }),
        )
    }
}

/// Ends a response.
pub(super) fn complete(response: &mut ResponseObject, finish: &Finish, usage: Usage) {
    let reason = match finish {
        Finish::Length | Finish::ContextFull => Some("max_output_tokens"),
        Finish::Refused => Some("content_filter"),
        Finish::Stop | Finish::StopSequence(_) | Finish::Calls | Finish::Paused => None,
    };
    response.status = match reason {
        Some(_) => ResponseStatus::Incomplete,
        None => {
            // When the answer was complete nobody asks the clock: it is pure code.
            response.completed_at = Some(response.created_at);
            ResponseStatus::Completed
        }
    };
    response.incomplete_details = reason.map(|reason| IncompleteDetails {
        reason: reason.to_owned(),
    });
    response.usage = Some(words(usage));
}

/// Ends a response that failed.
pub(super) fn fail(response: &mut ResponseObject, fault: UpstreamFault) {
    response.status = ResponseStatus::Failed;
    let code = match fault.kind {
        ErrorKind::RateLimited | ErrorKind::QuotaExceeded => "rate_limit_exceeded",
        ErrorKind::InvalidRequest | ErrorKind::ContextLengthExceeded => "invalid_prompt",
        _ => "server_error",
    };
    response.error = Some(ResponseError {
        code: code.to_owned(),
        message: fault.message,
    });
}

/// The usage in this API's words.
fn words(usage: Usage) -> ResponseUsage {
    let mut words = ResponseUsage {
        input_tokens: usage.input,
        output_tokens: usage.output,
        total_tokens: usage.input.saturating_add(usage.output),
        ..ResponseUsage::default()
    };
    words.input_tokens_details.cached_tokens = usage.cached;
    words.input_tokens_details.cache_write_tokens = usage.cache_written;
    words.output_tokens_details.reasoning_tokens = usage.reasoning;
    words
}

/// Text as a part of a message.
pub(super) fn text_part(text: String, logprobs: Vec<OutputLogprob>) -> OutputContent {
    OutputContent::OutputText(OutputText {
        text,
        logprobs,
        ..OutputText::default()
    })
}

/// Something said.
pub(super) fn message(
    id: String,
    status: ResponseStatus,
    part: Option<OutputContent>,
) -> OutputItem {
    OutputItem::Message {
        id,
        status,
        role: "assistant".to_owned(),
        content: part.into_iter().collect(),
    }
}

/// Thoughts, and the blob by which they come back.
pub(super) fn reasoning(id: String, thinking: Thinking) -> OutputItem {
    let encrypted_content = blob::of_thinking(&thinking);
    let text = thinking.text;
    let is_said = !text.is_empty();
    OutputItem::Reasoning {
        id,
        status: ResponseStatus::Completed,
        summary: Vec::new(),
        content: is_said
            .then_some(ReasoningPart::ReasoningText { text })
            .into_iter()
            .collect(),
        encrypted_content,
    }
}

/// Thoughts that only their maker can read.
pub(super) fn redacted(id: String, data: &str) -> OutputItem {
    OutputItem::Reasoning {
        id,
        status: ResponseStatus::Completed,
        summary: Vec::new(),
        content: Vec::new(),
        encrypted_content: Some(blob::of_redacted(data)),
    }
}

/// The id of the n-th item of a response.
pub(super) fn item_id(prefix: &str, response_id: &str, index: u32) -> String {
    let bare = response_id.strip_prefix(ID).unwrap_or(response_id);
    format!("{prefix}{bare}_{index}")
}
