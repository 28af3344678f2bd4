//! A streamed response: typed events in the order that clients expect.

use std::sync::Arc;

use axum::body::Bytes;
use engine_models::Tokenizer;
use futures::{Stream, StreamExt, stream};
use protocol::openai::{
    ContentPartKind, OutputContent, OutputItem, OutputLogprob, OutputText, ReasoningPart,
    ResponseError, ResponseEvent, ResponseObject, ResponseStatus, SequencedEvent, Usage,
};

use crate::parse::{Call, Delta};

use super::super::choice::{self, Choice, Piece};
use super::super::fault::Fault;
use super::super::{events, identifier, logprobs};
use super::whole::{called, complete, reasoning, said};

/// The item that is being written.
enum Open {
    Reasoning {
        text: String,
    },
    Message {
        text: String,
        logprobs: Vec<OutputLogprob>,
    },
    Call(Call),
}

/// The stream's state.
struct Writer {
    response: ResponseObject,
    tokenizer: Option<Arc<Tokenizer>>,
    sequence: u64,
    open: Option<(String, Open)>,
    done: Vec<OutputItem>,
    usage: Usage,
    events: Vec<ResponseEvent>,
}

/// The events of an answer, encoded. A tokenizer is given if log probabilities are wanted.
pub(super) fn events(
    response: ResponseObject,
    choice: Choice,
    tokenizer: Option<Arc<Tokenizer>>,
) -> impl Stream<Item = Bytes> + Send {
    let mut writer = Writer {
        response,
        tokenizer,
        sequence: 0,
        open: None,
        done: Vec::new(),
        usage: Usage::default(),
        events: Vec::new(),
    };
    let first = writer.begin();
    let rest =
        choice::pieces(vec![choice]).flat_map(move |piece| stream::iter(writer.of_piece(piece)));
    stream::iter(first).chain(rest)
}

impl Writer {
    fn begin(&mut self) -> Vec<Bytes> {
        let response = || Box::new(self.response.clone());
        let (created, begun) = (response(), response());
        self.events
            .push(ResponseEvent::Created { response: created });
        self.events
            .push(ResponseEvent::InProgress { response: begun });
        self.flush()
    }

    fn of_piece(&mut self, piece: Result<Piece, Fault>) -> Vec<Bytes> {
        match piece {
            Err(fault) => self.fail(fault),
            Ok(piece) => {
                self.usage = piece.usage;
                let mut logprobs = self.tokenizer.as_ref().map_or_else(Vec::new, |tokenizer| {
                    logprobs::of_response(tokenizer, std::slice::from_ref(&piece.sampled))
                });
                for delta in piece.deltas {
                    self.delta(delta, &mut logprobs);
                }
                if let Some(end) = piece.end {
                    if self.open.is_none() && self.done.is_empty() {
                        // An answer without text is a message all the same.
                        self.open_message();
                    }
                    self.close();
                    let output = std::mem::take(&mut self.done);
                    let response = complete(self.response.clone(), output, end.reason, self.usage);
                    let is_complete = response.status == ResponseStatus::Completed;
                    let response = Box::new(response);
                    self.events.push(if is_complete {
                        ResponseEvent::Completed { response }
                    } else {
                        ResponseEvent::Incomplete { response }
                    });
                }
            }
        }
        self.flush()
    }

    fn fail(&mut self, fault: Fault) {
        let (kind, message) = fault.into_parts();
        let mut response = self.response.clone();
        response.status = ResponseStatus::Failed;
        response.output = std::mem::take(&mut self.done);
        response.error = Some(ResponseError {
            code: kind.code().to_owned(),
            message,
        });
        let response = Box::new(response);
        self.events.push(ResponseEvent::Failed { response });
    }

    /// Takes what is new; log probabilities go with the text that came with them.
    fn delta(&mut self, delta: Delta, logprobs: &mut Vec<OutputLogprob>) {
        match delta {
            Delta::Reasoning(new) => self.think(new),
            Delta::Content(new) => self.say(new, std::mem::take(logprobs)),
            Delta::ToolCall { id, name, .. } => {
                self.close();
                let call = Call {
                    id,
                    name,
                    arguments: String::new(),
                };
                let own = identifier("fc_");
                let mut item = called(own.clone(), call.clone());
                begun(&mut item);
                self.open(own, Open::Call(call), item);
            }
            Delta::ToolArguments { text: new, .. } => self.argue(new),
        }
    }

    fn think(&mut self, new: String) {
        if !matches!(self.open, Some((_, Open::Reasoning { .. }))) {
            self.close();
            let own = identifier("rs_");
            let mut item = reasoning(own.clone(), String::new());
            begun(&mut item);
            let text = String::new();
            self.open(own, Open::Reasoning { text }, item);
            self.part_added(ContentPartKind::Reasoning(ReasoningPart::ReasoningText {
                text: String::new(),
            }));
        }
        let output_index = self.index();
        if let Some((id, Open::Reasoning { text })) = &mut self.open {
            text.push_str(&new);
            self.events.push(ResponseEvent::ReasoningTextDelta {
                item_id: id.clone(),
                output_index,
                content_index: 0,
                delta: new,
            });
        }
    }

    fn say(&mut self, new: String, more: Vec<OutputLogprob>) {
        if !matches!(self.open, Some((_, Open::Message { .. }))) {
            self.close();
            self.open_message();
        }
        let output_index = self.index();
        if let Some((id, Open::Message { text, logprobs })) = &mut self.open {
            text.push_str(&new);
            logprobs.extend(more.iter().cloned());
            self.events.push(ResponseEvent::OutputTextDelta {
                item_id: id.clone(),
                output_index,
                content_index: 0,
                delta: new,
                logprobs: more,
            });
        }
    }

    fn argue(&mut self, new: String) {
        let output_index = self.index();
        if let Some((id, Open::Call(call))) = &mut self.open {
            call.arguments.push_str(&new);
            self.events.push(ResponseEvent::FunctionCallArgumentsDelta {
                item_id: id.clone(),
                output_index,
                delta: new,
            });
        }
    }

    fn open_message(&mut self) {
        let own = identifier("msg_");
        let mut item = said(own.clone(), String::new(), Vec::new());
        begun(&mut item);
        let open = Open::Message {
            text: String::new(),
            logprobs: Vec::new(),
        };
        self.open(own, open, item);
        let part = OutputContent::OutputText(OutputText::default());
        self.part_added(ContentPartKind::Output(part));
    }

    fn open(&mut self, id: String, open: Open, item: OutputItem) {
        let output_index = self.index();
        self.events
            .push(ResponseEvent::OutputItemAdded { output_index, item });
        self.open = Some((id, open));
    }

    fn part_added(&mut self, part: ContentPartKind) {
        let output_index = self.index();
        if let Some((id, _)) = &self.open {
            self.events.push(ResponseEvent::ContentPartAdded {
                item_id: id.clone(),
                output_index,
                content_index: 0,
                part,
            });
        }
    }

    /// Completes the item that is being written.
    fn close(&mut self) {
        let Some((item_id, open)) = self.open.take() else {
            return;
        };
        let output_index = self.index();
        let id = item_id.clone();
        let (done, part, item) = match open {
            Open::Call(call) => {
                let done = ResponseEvent::FunctionCallArgumentsDone {
                    item_id,
                    output_index,
                    name: call.name.clone(),
                    arguments: call.arguments.clone(),
                };
                (done, None, called(id, call))
            }
            Open::Reasoning { text } => {
                let done = ResponseEvent::ReasoningTextDone {
                    item_id,
                    output_index,
                    content_index: 0,
                    text: text.clone(),
                };
                let part = ReasoningPart::ReasoningText { text: text.clone() };
                (
                    done,
                    Some(ContentPartKind::Reasoning(part)),
                    reasoning(id, text),
                )
            }
            Open::Message { text, logprobs } => {
                let done = ResponseEvent::OutputTextDone {
                    item_id,
                    output_index,
                    content_index: 0,
                    text: text.clone(),
                    logprobs: logprobs.clone(),
                };
                let part = OutputContent::OutputText(OutputText {
                    text: text.clone(),
                    annotations: Vec::new(),
                    logprobs: logprobs.clone(),
                });
                (
                    done,
                    Some(ContentPartKind::Output(part)),
                    said(id, text, logprobs),
                )
            }
        };
        self.finish(output_index, done, part, item);
    }

    fn finish(
        &mut self,
        output_index: u32,
        done: ResponseEvent,
        part: Option<ContentPartKind>,
        item: OutputItem,
    ) {
        self.events.push(done);
        let item_id = match &item {
            OutputItem::Message { id, .. }
            | OutputItem::FunctionCall { id, .. }
            | OutputItem::Reasoning { id, .. } => id.clone(),
        };
        self.events
            .extend(part.map(|part| ResponseEvent::ContentPartDone {
                item_id,
                output_index,
                content_index: 0,
                part,
            }));
        self.done.push(item.clone());
        self.events
            .push(ResponseEvent::OutputItemDone { output_index, item });
    }

    /// The place of the item that is being written, or that will be.
    fn index(&self) -> u32 {
        u32::try_from(self.done.len()).unwrap_or(u32::MAX)
    }

    fn flush(&mut self) -> Vec<Bytes> {
        let sequence = &mut self.sequence;
        let encode = |event: ResponseEvent| {
            let name = event.name();
            let event = SequencedEvent {
                event,
                sequence_number: *sequence,
            };
            *sequence += 1;
            events::encode(name, &event)
        };
        self.events.drain(..).map(encode).collect()
    }
}

/// Makes an item one that has just begun.
fn begun(item: &mut OutputItem) {
    match item {
        OutputItem::Message {
            status, content, ..
        } => {
            *status = ResponseStatus::InProgress;
            content.clear();
        }
        OutputItem::Reasoning {
            status, content, ..
        } => {
            *status = ResponseStatus::InProgress;
            content.clear();
        }
        OutputItem::FunctionCall { status, .. } => *status = ResponseStatus::InProgress,
    }
}
