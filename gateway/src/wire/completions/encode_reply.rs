//! The answer that a client of completions gets: whole, or piece by piece.

use bytes::Bytes;
use protocol::{
    openai::{CompletionChoice, CompletionResponse},
    sse,
};

use crate::wire::{
    Exchange, InvalidReply,
    chat::{finish_reason, usage},
    delta::Delta,
    reply::{Finish, Reply, ReplyPart, Usage},
    stream::write_event,
    to_body,
};

/// The prefix of ids.
const ID: &str = "cmpl-";
/// What this API has no words for: the request named no tools.
const CALL: InvalidReply = InvalidReply::Untold("a call of a tool");

/// The body for the client. Thoughts are left out, since this API has no place for them.
///
/// # Errors
/// [`InvalidReply::Untold`] if the model called a tool.
pub(in crate::wire) fn encode_reply(
    exchange: &Exchange,
    reply: Reply,
) -> Result<Bytes, InvalidReply> {
    let mut said = String::new();
    for part in reply.parts {
        match part {
            ReplyPart::Text(text) | ReplyPart::Refusal(text) => said.push_str(&text),
            ReplyPart::Thinking(_) | ReplyPart::Redacted(_) => {}
            ReplyPart::Call(_) => return Err(CALL),
        }
    }
    let id = exchange.answer_id(ID, reply.id.as_deref());
    let mut answer = empty(exchange, id);
    let reason = finish_reason(&reply.finish);
    answer.choices.push(choice(said, Some(reason)));
    answer.usage = Some(usage(reply.usage));
    Ok(to_body(&answer))
}

fn empty(exchange: &Exchange, id: String) -> CompletionResponse {
    CompletionResponse {
        id,
        object: "text_completion".to_owned(),
        created: exchange.created,
        model: exchange.model.clone(),
        choices: Vec::new(),
        usage: None,
        system_fingerprint: None,
    }
}

fn choice(text: String, finish_reason: Option<&str>) -> CompletionChoice {
    CompletionChoice {
        index: 0,
        text,
        logprobs: None,
        finish_reason: finish_reason.map(str::to_owned),
    }
}

/// The state of one stream.
#[derive(Debug)]
pub(in crate::wire) struct Encoder {
    exchange: Exchange,
    id: String,
    finish: Finish,
    usage: Usage,
}

impl Encoder {
    /// A stream of which nothing has been sent yet.
    pub(in crate::wire) fn new(exchange: &Exchange) -> Self {
        Self {
            exchange: exchange.clone(),
            id: exchange.answer_id(ID, None),
            finish: Finish::default(),
            usage: Usage::default(),
        }
    }

    /// Writes what a piece means to the client.
    ///
    /// # Errors
    /// [`InvalidReply::Untold`] if the model calls a tool.
    pub(in crate::wire) fn encode_event(
        &mut self,
        delta: Delta,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidReply> {
        match delta {
            Delta::Start { id } => self.id = self.exchange.answer_id(ID, id.as_deref()),
            Delta::Text(text) | Delta::Refusal(text) => self.chunk(out, choice(text, None)),
            Delta::Thinking(_)
            | Delta::Signature(_)
            | Delta::Redacted(_)
            | Delta::Break
            | Delta::Logprobs(_) => {}
            Delta::Call { .. } | Delta::Arguments { .. } => return Err(CALL),
            Delta::Usage(usage) => self.usage = self.usage.merge(usage),
            Delta::Finish(finish) => self.finish = finish,
            Delta::End => {
                let last = choice(String::new(), Some(finish_reason(&self.finish)));
                self.chunk(out, last);
                let mut counted = empty(&self.exchange, self.id.clone());
                counted.usage = Some(usage(self.usage));
                write_event(out, "", &to_body(&counted));
                write_event(out, "", sse::DONE.as_bytes());
            }
            Delta::Failed(fault) => write_event(out, "", &to_body(&fault.openai_body())),
        }
        Ok(())
    }

    fn chunk(&self, out: &mut Vec<u8>, choice: CompletionChoice) {
        let mut chunk = empty(&self.exchange, self.id.clone());
        chunk.choices.push(choice);
        write_event(out, "", &to_body(&chunk));
    }
}
