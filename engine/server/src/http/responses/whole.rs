//! A whole response.

use std::sync::Arc;

use engine_models::Tokenizer;
use protocol::openai::{
    IncompleteDetails, OutputContent, OutputItem, OutputLogprob, OutputText, ReasoningPart,
    ResponseObject, ResponseStatus, Usage,
};

use crate::parse::{Call, Message};

use super::super::choice::{Choice, EndReason};
use super::super::fault::Fault;
use super::super::{identifier, logprobs, now};

/// Waits for the answer. A tokenizer is given if log probabilities are wanted.
pub(super) async fn whole(
    response: ResponseObject,
    choice: Choice,
    tokenizer: Option<Arc<Tokenizer>>,
) -> Result<ResponseObject, Fault> {
    let answer = choice.collect().await?;
    let logprobs = tokenizer.map(|tokenizer| logprobs::of_response(&tokenizer, &answer.sampled));
    let output = items(answer.message, logprobs.unwrap_or_default());
    Ok(complete(response, output, answer.end.reason, answer.usage))
}

/// The response at its end.
pub(super) fn complete(
    mut response: ResponseObject,
    output: Vec<OutputItem>,
    reason: EndReason,
    usage: Usage,
) -> ResponseObject {
    response.output = output;
    response.usage = Some(usage.into());
    match reason {
        EndReason::Stop | EndReason::ToolCalls => {
            response.status = ResponseStatus::Completed;
            response.completed_at = Some(now());
        }
        EndReason::Length => {
            response.status = ResponseStatus::Incomplete;
            response.incomplete_details = Some(IncompleteDetails {
                reason: "max_output_tokens".to_owned(),
            });
        }
    }
    response
}

fn items(message: Message, logprobs: Vec<OutputLogprob>) -> Vec<OutputItem> {
    let mut items = Vec::new();
    if !message.reasoning.is_empty() {
        items.push(reasoning(identifier("rs_"), message.reasoning));
    }
    if !message.content.is_empty() || message.calls.is_empty() {
        items.push(said(identifier("msg_"), message.content, logprobs));
    }
    items.extend(
        message
            .calls
            .into_iter()
            .map(|call| called(identifier("fc_"), call)),
    );
    items
}

/// Thoughts, complete.
pub(super) fn reasoning(id: String, text: String) -> OutputItem {
    OutputItem::Reasoning {
        id,
        status: ResponseStatus::Completed,
        summary: Vec::new(),
        content: vec![ReasoningPart::ReasoningText { text }],
        encrypted_content: None,
    }
}

/// A message, complete.
pub(super) fn said(id: String, text: String, logprobs: Vec<OutputLogprob>) -> OutputItem {
    OutputItem::Message {
        id,
        status: ResponseStatus::Completed,
        role: "assistant".to_owned(),
        content: vec![OutputContent::OutputText(OutputText {
            text,
            annotations: Vec::new(),
            logprobs,
        })],
    }
}

/// A call, complete.
pub(super) fn called(id: String, call: Call) -> OutputItem {
    OutputItem::FunctionCall {
        id,
        call_id: call.id,
        name: call.name,
        arguments: call.arguments,
        status: ResponseStatus::Completed,
    }
}
