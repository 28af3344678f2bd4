//! The stream that a client of messages gets.

use protocol::anthropic::{Block, BlockDelta, Message, MessageDelta, MessageEvent};
use serde_json::{Map, Value};

use super::{encode_reply::ID, stop_reason, stop_sequence, usage};
use crate::wire::{
    Exchange, InvalidReply,
    delta::Delta,
    reply::{Finish, Usage},
    stream::write_event,
    to_body,
};

/// The state of one stream.
#[derive(Debug)]
pub(in crate::wire) struct Encoder {
    exchange: Exchange,
    upstream_id: Option<String>,
    is_started: bool,
    open: Open,
    /// The place of the open block, or of the next one.
    index: u32,
    finish: Finish,
    usage: Usage,
}

/// The block that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    None,
    Text,
    Thinking,
    /// Thoughts whose proof has come.
    Proven,
    /// A call, by its place among the answer's calls.
    Call(u32),
}

impl Encoder {
    /// A stream of which nothing has been sent yet.
    pub(in crate::wire) fn new(exchange: &Exchange) -> Self {
        Self {
            exchange: exchange.clone(),
            upstream_id: None,
            is_started: false,
            open: Open::None,
            index: 0,
            finish: Finish::default(),
            usage: Usage::default(),
        }
    }

    /// Writes what a piece means to the client.
    ///
    /// # Errors
    /// [`InvalidReply::Interleaved`].
    pub(in crate::wire) fn encode_event(
        &mut self,
        delta: Delta,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidReply> {
        match delta {
            Delta::Start { id } => {
                self.upstream_id = id;
                self.start(out);
            }
            Delta::Usage(usage) => self.usage = self.usage.merge(usage),
            Delta::Text(text) | Delta::Refusal(text) => {
                let empty = || Block::Text {
                    text: String::new(),
                };
                self.open(out, Open::Text, empty);
                self.delta(out, BlockDelta::Text { text });
            }
            Delta::Thinking(thinking) => {
                self.open(out, Open::Thinking, no_thoughts);
                self.delta(out, BlockDelta::Thinking { thinking });
            }
            Delta::Signature(signature) => {
                self.open(out, Open::Thinking, no_thoughts);
                self.delta(out, BlockDelta::Signature { signature });
                self.open = Open::Proven;
            }
            Delta::Redacted(data) => {
                self.close(out);
                self.begin(out, Open::Proven, Block::RedactedThinking { data });
                self.close(out);
            }
            Delta::Call { index, id, name } => {
                let input = Value::Object(Map::new());
                self.open(out, Open::Call(index), || Block::ToolUse {
                    id,
                    name,
                    input,
                });
            }
            Delta::Arguments { index, json } => {
                if self.open != Open::Call(index) {
                    return Err(InvalidReply::Interleaved);
                }
                self.delta(out, BlockDelta::InputJson { partial_json: json });
            }
            Delta::Break => self.close(out),
            Delta::Logprobs(_) => {}
            Delta::Finish(finish) => self.finish = finish,
            Delta::End => self.end(out),
            Delta::Failed(fault) => write_event(out, "error", &to_body(&fault.anthropic_body())),
        }
        Ok(())
    }

    /// Goes on in the open block if it is of the kind, and begins one otherwise.
    fn open(&mut self, out: &mut Vec<u8>, kind: Open, block: impl FnOnce() -> Block) {
        if self.open != kind {
            self.close(out);
            self.begin(out, kind, block());
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>, kind: Open, content_block: Block) {
        self.start(out);
        self.open = kind;
        let event = MessageEvent::ContentBlockStart {
            index: self.index,
            content_block,
        };
        write(out, &event);
    }

    fn delta(&self, out: &mut Vec<u8>, delta: BlockDelta) {
        let event = MessageEvent::ContentBlockDelta {
            index: self.index,
            delta,
        };
        write(out, &event);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open == Open::None {
            return;
        }
        self.open = Open::None;
        write(out, &MessageEvent::ContentBlockStop { index: self.index });
        self.index = self.index.saturating_add(1);
    }

    /// The first event carries what is known of the usage by then.
    fn start(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_started, true) {
            return;
        }
        let message = Message {
            id: self.exchange.answer_id(ID, self.upstream_id.as_deref()),
            kind: "message".to_owned(),
            role: "assistant".to_owned(),
            model: self.exchange.model.clone(),
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: usage(self.usage),
        };
        write(out, &MessageEvent::MessageStart { message });
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(out);
        self.close(out);
        let event = MessageEvent::MessageDelta {
            delta: MessageDelta {
                stop_reason: Some(stop_reason(&self.finish)),
                stop_sequence: stop_sequence(self.finish.clone()),
            },
            usage: usage(self.usage),
        };
        write(out, &event);
        write(out, &MessageEvent::MessageStop);
    }
}

const fn no_thoughts() -> Block {
    Block::Thinking {
        thinking: String::new(),
        signature: String::new(),
    }
}

fn write(out: &mut Vec<u8>, event: &MessageEvent) {
    write_event(out, event.name(), &to_body(event));
}
