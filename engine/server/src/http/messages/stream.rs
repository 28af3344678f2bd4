//! A streamed message: typed events in the order that clients expect.

use axum::body::Bytes;
use futures::{Stream, StreamExt, stream};
use protocol::anthropic::{Block, BlockDelta, ErrorDetail, MessageDelta, MessageEvent};
use protocol::openai::Usage;
use serde_json::json;

use crate::parse::Delta;

use super::super::choice::{self, Choice, Piece};
use super::super::events;
use super::super::fault::Fault;
use super::whole::{begun, stop_reason};

/// The kind of the block that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Thinking,
    Text,
    ToolUse,
}

#[derive(Debug, Default)]
struct Writer {
    open: Option<Open>,
    /// The place of the next block.
    next: u32,
    events: Vec<MessageEvent>,
}

/// The events of an answer, encoded.
pub(super) fn events(
    id: String,
    model: String,
    choice: Choice,
) -> impl Stream<Item = Bytes> + Send {
    let mut message = begun(id, model);
    message.usage = Usage::new(choice.prompt_length() as u64, 0).into();
    let first = [MessageEvent::MessageStart { message }, MessageEvent::Ping];
    let mut writer = Writer::default();
    let rest =
        choice::pieces(vec![choice]).flat_map(move |piece| stream::iter(writer.of_piece(piece)));
    stream::iter(first)
        .chain(rest)
        .map(|event| events::encode(event.name(), &event))
}

impl Writer {
    fn of_piece(&mut self, piece: Result<Piece, Fault>) -> Vec<MessageEvent> {
        match piece {
            Err(fault) => {
                let (kind, message) = fault.into_parts();
                let error = ErrorDetail::new(kind, message);
                self.events.push(MessageEvent::Error { error });
            }
            Ok(piece) => {
                for delta in piece.deltas {
                    self.delta(delta);
                }
                if let Some(end) = piece.end {
                    self.close();
                    let delta = MessageDelta {
                        stop_reason: Some(stop_reason(&end)),
                        stop_sequence: end.stop,
                    };
                    let usage = piece.usage.into();
                    self.events
                        .push(MessageEvent::MessageDelta { delta, usage });
                    self.events.push(MessageEvent::MessageStop);
                }
            }
        }
        std::mem::take(&mut self.events)
    }

    fn delta(&mut self, delta: Delta) {
        match delta {
            Delta::Reasoning(thinking) => {
                let block = Block::Thinking {
                    thinking: String::new(),
                    signature: String::new(),
                };
                self.go_on(Open::Thinking, block);
                self.push(BlockDelta::Thinking { thinking });
            }
            Delta::Content(text) => {
                let block = Block::Text {
                    text: String::new(),
                };
                self.go_on(Open::Text, block);
                self.push(BlockDelta::Text { text });
            }
            Delta::ToolCall { id, name, .. } => {
                self.close();
                let input = json!({});
                self.go_on(Open::ToolUse, Block::ToolUse { id, name, input });
            }
            Delta::ToolArguments { text, .. } => {
                self.push(BlockDelta::InputJson { partial_json: text });
            }
        }
    }

    /// Begins a block unless one of its kind is being written.
    fn go_on(&mut self, kind: Open, block: Block) {
        if self.open == Some(kind) {
            return;
        }
        self.close();
        self.open = Some(kind);
        self.events.push(MessageEvent::ContentBlockStart {
            index: self.next,
            content_block: block,
        });
    }

    fn push(&mut self, delta: BlockDelta) {
        let index = self.next;
        self.events
            .push(MessageEvent::ContentBlockDelta { index, delta });
    }

    /// Completes the block that is being written.
    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        if open == Open::Thinking {
            let signature = String::new();
            self.push(BlockDelta::Signature { signature });
        }
        let index = self.next;
        self.events.push(MessageEvent::ContentBlockStop { index });
        self.next += 1;
    }
}
