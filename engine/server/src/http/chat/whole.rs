//! A whole answer in the chat API's shape.

use futures::future::try_join_all;
use protocol::openai::{ChatChoice, ChatMessage, ChatResponse, Content, FunctionCall, ToolCall};
use serde::Serialize;
use serde_json::Value;

use crate::parse::{Call, Message};

use super::super::choice::{Choice, Whole, of_one_prompt};
use super::super::fault::Fault;
use super::super::logprobs;
use super::{Chat, Head};

/// The response with vLLM's extension.
#[derive(Debug, Serialize)]
pub(super) struct ChatAnswer {
    #[serde(flatten)]
    response: ChatResponse,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs: Option<Value>,
}

/// Waits for all answers.
pub(super) async fn whole(head: Head, chat: Chat) -> Result<ChatAnswer, Fault> {
    let answers = try_join_all(chat.choices.into_iter().map(Choice::collect)).await?;
    let usage = of_one_prompt(answers.iter().map(|answer| answer.usage));
    let prompt_logprobs = answers
        .first()
        .filter(|_| chat.has_prompt_logprobs)
        .map(|answer| logprobs::of_prompt(&chat.tokenizer, &answer.prompt_logprobs));
    let choices = answers.into_iter().map(|answer| {
        let logprobs = chat
            .has_logprobs
            .then(|| logprobs::of_chat(&chat.tokenizer, &answer.sampled));
        let Whole {
            index,
            message: answered,
            end,
            ..
        } = answer;
        ChatChoice {
            index,
            message: message(answered),
            logprobs,
            finish_reason: Some(end.reason.as_str().to_owned()),
        }
    });
    let response = ChatResponse {
        id: head.id,
        object: "chat.completion".to_owned(),
        created: head.created,
        model: head.model,
        choices: choices.collect(),
        usage: Some(usage),
        system_fingerprint: Some(head.fingerprint),
    };
    Ok(ChatAnswer {
        response,
        prompt_logprobs,
    })
}

fn message(answered: Message) -> ChatMessage {
    let Message {
        reasoning,
        content,
        calls,
    } = answered;
    // A message that only calls has no content.
    let content = (!content.is_empty() || calls.is_empty()).then_some(Content::Text(content));
    let mut message = ChatMessage {
        role: "assistant".to_owned(),
        content,
        tool_calls: (!calls.is_empty()).then(|| tool_calls(calls)),
        reasoning_content: (!reasoning.is_empty()).then_some(reasoning),
        ..ChatMessage::default()
    };
    message.rest.insert("refusal".to_owned(), Value::Null);
    message
}

/// Calls in the API's shape.
fn tool_calls(calls: Vec<Call>) -> Vec<ToolCall> {
    let call = |call: Call| ToolCall {
        id: call.id,
        kind: "function".to_owned(),
        function: FunctionCall {
            name: call.name,
            arguments: call.arguments,
        },
    };
    calls.into_iter().map(call).collect()
}
