//! The answer of an upstream that speaks Ollama's API: whole, or line by line.

use protocol::sse;
use serde::Deserialize;

use crate::wire::{
    Exchange, InvalidReply,
    conversation::{Call, Thinking},
    delta::Delta,
    error,
    json::Json,
    reply::{Finish, Reply, ReplyPart, Usage},
};

/// An answer, or a line of a stream: both look alike.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    content: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Option<Json>,
}

impl Answer {
    fn usage(&self) -> Usage {
        Usage {
            input: self.prompt_eval_count.unwrap_or(0),
            output: self.eval_count.unwrap_or(0),
            ..Usage::default()
        }
    }

    fn finish(&self, has_calls: bool) -> Finish {
        match self.done_reason.as_deref() {
            Some("length") => Finish::Length,
            _ if has_calls => Finish::Calls,
            _ => Finish::Stop,
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// [`InvalidReply`] if it is none.
pub(in crate::wire) fn decode_reply(request_id: &str, body: &[u8]) -> Result<Reply, InvalidReply> {
    let mut answer: Answer = serde_json::from_slice(body)?;
    let message = answer.message.take();
    let message = message.ok_or(InvalidReply::Incomplete("message"))?;
    let mut calls = 0;
    let parts = parts(message, request_id, &mut calls);
    Ok(Reply {
        id: None,
        parts,
        finish: answer.finish(0 < calls),
        usage: answer.usage(),
        logprobs: None,
    })
}

/// What a message says. `calls` counts calls, which come whole and mostly without ids.
fn parts(message: Message, request_id: &str, calls: &mut u32) -> Vec<ReplyPart> {
    let is_said = |text: &String| !text.is_empty();
    let mut parts = Vec::new();
    if let Some(text) = message.thinking.filter(is_said) {
        parts.push(ReplyPart::Thinking(Thinking {
            text,
            signature: None,
        }));
    }
    parts.extend(message.content.filter(is_said).map(ReplyPart::Text));
    for call in message.tool_calls.into_iter().flatten() {
        let index = *calls;
        *calls = index.saturating_add(1);
        let id = call.id.filter(is_said);
        parts.push(ReplyPart::Call(Call {
            id: id.unwrap_or_else(|| format!("call_{request_id}_{index}")),
            name: call.function.name,
            arguments: call
                .function
                .arguments
                .map_or_else(|| "{}".to_owned(), |arguments| arguments.compact()),
            signature: None,
        }));
    }
    parts
}

/// The state of one stream.
#[derive(Debug)]
pub(in crate::wire) struct Decoder {
    request_id: String,
    is_started: bool,
    /// Calls that came.
    calls: u32,
}

impl Decoder {
    /// A stream of which nothing has come yet.
    pub(in crate::wire) fn new(exchange: &Exchange) -> Self {
        Self {
            request_id: exchange.request_id.clone(),
            is_started: false,
            calls: 0,
        }
    }

    /// Reads one line.
    ///
    /// # Errors
    /// [`InvalidReply`] if it is none of this API.
    pub(in crate::wire) fn decode_event(
        &mut self,
        event: &sse::Event,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), InvalidReply> {
        let mut answer: Answer = serde_json::from_str(&event.data)?;
        if answer.error.is_some() {
            let fault = error::in_stream(event.data.as_bytes());
            deltas.push(Delta::Failed(fault));
            return Ok(());
        }
        if !self.is_started {
            self.is_started = true;
            deltas.push(Delta::Start { id: None });
        }
        let mut index = self.calls;
        let message = answer.message.take().unwrap_or_default();
        for part in parts(message, &self.request_id, &mut self.calls) {
            let is_call = matches!(part, ReplyPart::Call(_));
            deltas.extend(Delta::of_part(part, index));
            index = index.saturating_add(u32::from(is_call));
        }
        if answer.done {
            deltas.push(Delta::Usage(answer.usage()));
            deltas.push(Delta::Finish(answer.finish(0 < self.calls)));
            deltas.push(Delta::End);
        }
        Ok(())
    }
}
