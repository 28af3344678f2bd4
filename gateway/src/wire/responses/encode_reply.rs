//! The answer that a client of responses gets.

use bytes::Bytes;
use protocol::openai::{Logprobs, OutputContent, OutputItem, OutputLogprob, ResponseStatus};

use super::object::{complete, empty, item_id, message, reasoning, redacted, text_part};
use crate::wire::{
    Exchange,
    reply::{Reply, ReplyPart},
    to_body,
};

/// The body for the client.
pub(in crate::wire) fn encode_reply(exchange: &Exchange, reply: Reply) -> Bytes {
    let mut response = empty(exchange, reply.id.as_deref());
    let mut logprobs = reply.logprobs.map(of_chat).unwrap_or_default();
    for (part, index) in reply.parts.into_iter().zip(0..) {
        let id = |prefix| item_id(prefix, &response.id, index);
        let done = ResponseStatus::Completed;
        let item = match part {
            ReplyPart::Text(text) => {
                let part = text_part(text, std::mem::take(&mut logprobs));
                message(id("msg_"), done, Some(part))
            }
            ReplyPart::Refusal(refusal) => {
                message(id("msg_"), done, Some(OutputContent::Refusal { refusal }))
            }
            ReplyPart::Thinking(thinking) => reasoning(id("rs_"), thinking),
            ReplyPart::Redacted(data) => redacted(id("rs_"), &data),
            ReplyPart::Call(call) => OutputItem::FunctionCall {
                id: id("fc_"),
                call_id: call.id,
                name: call.name,
                arguments: call.arguments,
                status: done,
            },
        };
        response.output.push(item);
    }
    complete(&mut response, &reply.finish, reply.usage);
    to_body(&response)
}

/// Log probabilities in this API's words.
pub(super) fn of_chat(logprobs: Logprobs) -> Vec<OutputLogprob> {
    let tokens = logprobs.content.into_iter();
    tokens
        .map(|token| OutputLogprob {
            bytes: token
                .bytes
                .unwrap_or_else(|| token.token.as_bytes().to_vec()),
            token: token.token,
            logprob: token.logprob,
            top_logprobs: token.top_logprobs,
        })
        .collect()
}
