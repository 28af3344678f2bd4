//! The answer that a client of chat completions gets.

use bytes::Bytes;
use protocol::openai::{ChatChoice, ChatMessage, ChatResponse, Content, FunctionCall, ToolCall};
use serde_json::{Map, Value, json};

use super::{finish_reason, usage};
use crate::wire::{
    Exchange,
    conversation::{Call, Thinking},
    reply::{Reply, ReplyPart},
    to_body,
};

/// The prefix of ids.
pub(super) const ID: &str = "chatcmpl-";

/// The body for the client.
pub(in crate::wire) fn encode_reply(exchange: &Exchange, reply: Reply) -> Bytes {
    let id = exchange.answer_id(ID, reply.id.as_deref());
    let answer = ChatResponse {
        id,
        object: "chat.completion".to_owned(),
        created: exchange.created,
        model: exchange.model.clone(),
        choices: vec![ChatChoice {
            index: 0,
            finish_reason: Some(finish_reason(&reply.finish).to_owned()),
            message: message(reply.parts),
            logprobs: reply.logprobs,
        }],
        usage: Some(usage(reply.usage)),
        system_fingerprint: None,
    };
    to_body(&answer)
}

fn message(parts: Vec<ReplyPart>) -> ChatMessage {
    let mut said = None::<String>;
    let mut refusal = None::<String>;
    let mut thoughts = None::<String>;
    let mut blocks = Vec::new();
    let mut tool_calls = Vec::new();
    for part in parts {
        match part {
            ReplyPart::Text(text) => said.get_or_insert_default().push_str(&text),
            ReplyPart::Refusal(text) => refusal.get_or_insert_default().push_str(&text),
            ReplyPart::Thinking(thinking) => {
                thoughts.get_or_insert_default().push_str(&thinking.text);
                blocks.extend(thinking_block(&thinking));
            }
            ReplyPart::Redacted(data) => blocks.push(redacted_block(&data)),
            ReplyPart::Call(call) => tool_calls.push(tool_call(call)),
        }
    }
    let mut rest = Map::new();
    rest.insert("refusal".to_owned(), refusal.into());
    if !blocks.is_empty() {
        rest.insert("thinking_blocks".to_owned(), Value::Array(blocks));
    }
    ChatMessage {
        role: "assistant".to_owned(),
        content: said.map(Content::Text),
        tool_calls: (!tool_calls.is_empty()).then_some(tool_calls),
        tool_call_id: None,
        reasoning_content: thoughts.filter(|text| !text.is_empty()),
        rest,
    }
}

fn tool_call(call: Call) -> ToolCall {
    ToolCall {
        id: call.id,
        kind: "function".to_owned(),
        function: FunctionCall {
            name: call.name,
            arguments: call.arguments,
        },
    }
}

/// Thoughts with their proof, which the client sends back; those without one are in `reasoning_content` alone.
pub(super) fn thinking_block(thinking: &Thinking) -> Option<Value> {
    let signature = thinking.signature.as_deref()?;
    Some(json!({"type": "thinking", "thinking": thinking.text, "signature": signature}))
}

/// Thoughts that only the model's maker can read.
pub(super) fn redacted_block(data: &str) -> Value {
    json!({"type": "redacted_thinking", "data": data})
}
