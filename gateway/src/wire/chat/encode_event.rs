//! The stream that a client of chat completions gets.

use protocol::{
    openai::{
        ChatChunk, ChatChunkChoice, ChatDelta, FunctionCallDelta, Logprobs, ToolCallDelta, Usage,
    },
    sse,
};
use serde_json::Value;

use super::{
    encode_reply::{ID, redacted_block, thinking_block},
    finish_reason, usage,
};
use crate::wire::{
    Exchange, InvalidReply,
    conversation::Thinking,
    delta::Delta,
    reply::{Finish, Usage as Used},
    stream::{Held, write_event},
    to_body,
};

/// The state of one stream.
#[derive(Debug)]
pub(in crate::wire) struct Encoder {
    exchange: Exchange,
    id: String,
    is_started: bool,
    /// The thoughts since the last proof: a block that is sent back must hold all of them.
    thoughts: Held,
    logprobs: Option<Logprobs>,
    finish: Finish,
    usage: Used,
}

impl Encoder {
    /// A stream of which nothing has been sent yet.
    pub(in crate::wire) fn new(exchange: &Exchange) -> Self {
        Self {
            id: exchange.answer_id(ID, None),
            exchange: exchange.clone(),
            is_started: false,
            thoughts: Held::default(),
            logprobs: None,
            finish: Finish::default(),
            usage: Used::default(),
        }
    }

    /// Writes what a piece means to the client.
    ///
    /// # Errors
    /// [`InvalidReply::TooLong`].
    pub(in crate::wire) fn encode_event(
        &mut self,
        delta: Delta,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidReply> {
        match delta {
            Delta::Start { id } => {
                self.id = self.exchange.answer_id(ID, id.as_deref());
                self.start(out);
            }
            Delta::Text(text) => self.piece(out, |delta| delta.content = Some(text)),
            Delta::Refusal(text) => self.rest(out, "refusal", text.into()),
            Delta::Thinking(text) => {
                self.thoughts.push(&text)?;
                self.piece(out, |delta| delta.reasoning_content = Some(text));
            }
            Delta::Signature(signature) => {
                let thinking = Thinking {
                    text: self.thoughts.take(),
                    signature: Some(signature),
                };
                let blocks = thinking_block(&thinking).into_iter().collect();
                self.rest(out, "thinking_blocks", Value::Array(blocks));
            }
            Delta::Redacted(data) => {
                let blocks = vec![redacted_block(&data)];
                self.rest(out, "thinking_blocks", Value::Array(blocks));
            }
            Delta::Call { index, id, name } => {
                self.call(out, index, Some((id, name)), String::new());
            }
            Delta::Arguments { index, json } => self.call(out, index, None, json),
            Delta::Break => {
                self.thoughts.take();
            }
            // The next piece carries them.
            Delta::Logprobs(logprobs) => self.logprobs = Some(logprobs),
            Delta::Usage(usage) => self.usage = self.usage.merge(usage),
            Delta::Finish(finish) => self.finish = finish,
            Delta::End => self.end(out),
            Delta::Failed(fault) => write_event(out, "", &to_body(&fault.openai_body())),
        }
        Ok(())
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        let delta = ChatDelta {
            role: Some("assistant".to_owned()),
            content: Some(String::new()),
            ..ChatDelta::default()
        };
        self.chunk(out, delta, None);
    }

    fn piece(&mut self, out: &mut Vec<u8>, fill: impl FnOnce(&mut ChatDelta)) {
        self.start(out);
        let mut delta = ChatDelta::default();
        fill(&mut delta);
        self.chunk(out, delta, None);
    }

    fn rest(&mut self, out: &mut Vec<u8>, name: &str, value: Value) {
        self.piece(out, |delta| {
            delta.rest.insert(name.to_owned(), value);
        });
    }

    fn call(
        &mut self,
        out: &mut Vec<u8>,
        index: u32,
        begun: Option<(String, String)>,
        arguments: String,
    ) {
        let (id, name) = begun.unzip();
        let call = ToolCallDelta {
            index,
            kind: id.is_some().then(|| "function".to_owned()),
            id,
            function: Some(FunctionCallDelta {
                name,
                arguments: Some(arguments),
            }),
        };
        self.piece(out, |delta| delta.tool_calls = Some(vec![call]));
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        let reason = finish_reason(&self.finish);
        self.chunk(out, ChatDelta::default(), Some(reason));
        let mut last = self.empty();
        last.usage = Some(usage(self.usage));
        write_event(out, "", &to_body(&last));
        write_event(out, "", sse::DONE.as_bytes());
    }

    fn chunk(&mut self, out: &mut Vec<u8>, delta: ChatDelta, finish_reason: Option<&str>) {
        let mut chunk = self.empty();
        chunk.choices.push(ChatChunkChoice {
            index: 0,
            delta,
            logprobs: self.logprobs.take(),
            finish_reason: finish_reason.map(str::to_owned),
        });
        write_event(out, "", &to_body(&chunk));
    }

    fn empty(&self) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.exchange.created,
            model: self.exchange.model.clone(),
            choices: Vec::new(),
            usage: None::<Usage>,
            system_fingerprint: None,
        }
    }
}
