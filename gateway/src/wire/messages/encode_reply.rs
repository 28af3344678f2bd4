//! The answer that a client of messages gets.

use bytes::Bytes;
use protocol::anthropic::{Block, Message};
use serde_json::Value;

use super::{stop_reason, stop_sequence, usage};
use crate::wire::{
    Exchange, InvalidReply,
    reply::{Reply, ReplyPart},
    to_body,
};

/// The prefix of ids.
pub(super) const ID: &str = "msg_";

/// The body for the client.
///
/// # Errors
/// [`InvalidReply::Arguments`] if the model wrote arguments that are no JSON object: this API has no text for them.
pub(in crate::wire) fn encode_reply(
    exchange: &Exchange,
    reply: Reply,
) -> Result<Bytes, InvalidReply> {
    let blocks = reply.parts.into_iter().map(block);
    let answer = Message {
        id: exchange.answer_id(ID, reply.id.as_deref()),
        kind: "message".to_owned(),
        role: "assistant".to_owned(),
        model: exchange.model.clone(),
        content: blocks.collect::<Result<_, _>>()?,
        stop_reason: Some(stop_reason(&reply.finish)),
        stop_sequence: stop_sequence(reply.finish),
        usage: usage(reply.usage),
    };
    Ok(to_body(&answer))
}

fn block(part: ReplyPart) -> Result<Block, InvalidReply> {
    Ok(match part {
        ReplyPart::Text(text) | ReplyPart::Refusal(text) => Block::Text { text },
        ReplyPart::Thinking(thinking) => Block::Thinking {
            thinking: thinking.text,
            signature: thinking.signature.unwrap_or_default(),
        },
        ReplyPart::Redacted(data) => Block::RedactedThinking { data },
        ReplyPart::Call(call) => Block::ToolUse {
            input: input(&call.arguments)?,
            id: call.id,
            name: call.name,
        },
    })
}

fn input(arguments: &str) -> Result<Value, InvalidReply> {
    let text = match arguments.trim_ascii() {
        "" => "{}",
        text => text,
    };
    match serde_json::from_str(text) {
        Ok(input @ Value::Object(_)) => Ok(input),
        _ => Err(InvalidReply::Arguments),
    }
}
